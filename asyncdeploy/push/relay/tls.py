"""Throw-away certificates for the links of one relay: made for a run, known by themselves, never on a disk."""

from __future__ import annotations

import datetime as dt

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# As wide as X.509 can say without trouble: a node's clock may be off by years. What bounds a key's life is the
# process that holds it: it lies in its memory only.
_FROM = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
_UNTIL = dt.datetime(2110, 1, 1, tzinfo=dt.UTC)


@attrs.frozen
class Identity:
    """Who a node is to its peers in one relay.

    Attributes:
        certificate: PEM.
        key: the private key, PEM.
    """

    certificate: str
    key: str = attrs.field(repr=False)

    @property
    def pem(self) -> str:
        """Certificate and key, as a TLS context loads them."""
        return self.certificate + self.key


def make_identity(name: str) -> Identity:
    """Return a new self-signed identity.

    Args:
        name: the node's, for whoever looks at the wire.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64] or "node")])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), _FROM, _UNTIL)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        key, hashes.SHA256()
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())
