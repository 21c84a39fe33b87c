"""The host key that a node shows, alone or with a certificate, and whether that certificate is good."""

from __future__ import annotations

import asyncssh
import attrs
from asyncssh.packet import PacketDecodeError, SSHPacket
from asyncssh.public_key import CERT_TYPE_HOST, SSHOpenSSHCertificate, decode_ssh_certificate, decode_ssh_public_key

from asyncdeploy.connect.ssh.known_hosts.revoked import Certified


@attrs.frozen
class ShownKey:
    """A host key and its certificate, if it has one."""

    plain: asyncssh.SSHKey
    certificate: SSHOpenSSHCertificate | None = None

    @classmethod
    def read(cls, data: bytes) -> ShownKey:
        """Read a key in wire format.

        Raises:
            asyncssh.KeyImportError: it is no key or certificate that we can use.
        """
        try:
            certificate = decode_ssh_certificate(data)
        except asyncssh.KeyImportError:
            return cls(decode_ssh_public_key(data))
        if not isinstance(certificate, SSHOpenSSHCertificate):
            raise asyncssh.KeyImportError("an OpenSSH certificate was expected")  # X.509 was never asked for
        return cls(certificate.key, certificate)

    @property
    def kind(self) -> str:
        """The kind of the key: "ssh-rsa", ..."""
        return self.plain.algorithm.decode()

    @property
    def authority(self) -> bytes:
        """The key that signed the certificate, in wire format; b"" without a certificate."""
        return self.certificate.signing_key.public_data if self.certificate is not None else b""

    @property
    def certified(self) -> Certified | None:
        """What its certificate may be revoked by."""
        if self.certificate is None:
            return None
        # asyncssh has read them, and shows them to nobody.
        return Certified(self.authority, self.certificate._serial, self.certificate._key_id.encode())  # noqa: SLF001

    def why_not_good(self, principal: str, algorithms: tuple[str, ...]) -> str:
        """Return why the certificate is not good for a host, "" if it is; its authority is for the caller to know.

        Args:
            principal: the host's name or address.
            algorithms: those by which an authority may sign.
        """
        assert self.certificate is not None
        try:
            self.certificate.validate(CERT_TYPE_HOST, principal)
        except ValueError as error:
            return str(error)
        algorithm = _signature_algorithm(self.certificate)
        return "" if algorithm in algorithms else f"its signature is by {algorithm}, which is not allowed"


def rsa_bits(data: bytes) -> int | None:
    """Return the size of an RSA key in wire format; None for another kind."""
    packet = SSHPacket(data)
    if packet.get_string() != b"ssh-rsa":
        return None
    packet.get_mpint()  # the exponent
    return packet.get_mpint().bit_length()


def _signature_algorithm(certificate: SSHOpenSSHCertificate) -> str:
    """Return how it is signed: the signature is its last field, behind the key that made it."""
    signer = certificate.signing_key.public_data
    rest = certificate.public_data[certificate.public_data.rindex(signer) + len(signer) :]
    try:
        return SSHPacket(SSHPacket(rest).get_string()).get_string().decode("ascii", "replace")
    except PacketDecodeError:
        return "nothing known"
