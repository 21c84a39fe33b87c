"""What we log in with: private keys and certificates, loaded once off the loop, and the ssh-agent, asked once."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import anyio
import asyncssh
import attrs

from asyncdeploy.connect.ssh.config.answer import Keys
from asyncdeploy.connect.ssh.known_hosts.shown_key import rsa_bits
from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.threads import run_abandonable
from asyncdeploy.values.errors import AuthError

FILE_S = 5.0
"""A file is read in milliseconds; a FIFO that nobody writes to (a forgotten `<(...)`), or one of a dead NFS, never."""
MAX_BYTES = 1 << 20
"""A key has some kilobytes; what is larger is something else."""
AGENT_S = 3.0
"""An agent answers in milliseconds; one behind a dead forwarding never does."""


@attrs.frozen(eq=False)
class Login:
    """The keys to offer, in order, what to call them in an error, and which could not be offered, and why."""

    pairs: tuple[asyncssh.SSHKeyPair, ...] = ()
    names: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@attrs.frozen(eq=False)
class _File:
    """A key file.

    Attributes:
        pair: the key; None if only an agent can use it.
        public: then its public half; None where no .pub lies beside.
        problem: why it cannot be used without an agent.
        certificates: those that lie beside.
    """

    pair: asyncssh.SSHKeyPair | None = None
    public: bytes | None = None
    problem: str = ""
    certificates: tuple[asyncssh.SSHCertificate, ...] = ()


@attrs.frozen(eq=False)
class _Offer:
    """A key that may be offered, and what to call it."""

    pair: asyncssh.SSHKeyPair
    name: str

    def certified(self, certificates: Iterable[asyncssh.SSHCertificate]) -> Iterator[_Offer]:
        """Yield it with each certificate that is for it."""
        for certificate in certificates:
            if certificate.key.public_data == self.pair.key_public_data:
                pair = copy.copy(self.pair)
                pair.set_certificate(certificate)
                yield _Offer(pair, f"{self.name} with its certificate")


class KeyRing:
    """Keys of one pool. ``close`` ends its talk with the agents."""

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._files: dict[Path, _File] = {}
        self._certificates: dict[Path, asyncssh.SSHCertificate | None] = {}
        self._agents: dict[str, tuple[asyncssh.SSHAgentClient, Sequence[asyncssh.SSHKeyPair]] | str] = {}
        self._logins: dict[tuple[object, ...], Login] = {}
        self._lock = anyio.Lock()

    async def login(self, node: str, keys: Keys, *, least_bits: int = 0, named: bool = False) -> Login:
        """Return what to offer a node, which may be nothing: there are accounts that need no key.

        Args:
            node: its name, for errors.
            keys: what may be offered.
            least_bits: the size of an RSA key, at least.
            named: the files are what the node itself names.

        Raises:
            AuthError: the node names a key that cannot be used.
        """
        where = (
            os.environ.get("SSH_AUTH_SOCK", "") if keys.agent is None else "" if keys.agent == "none" else keys.agent
        )
        asked = (keys, where, least_bits)
        async with self._lock:
            if asked not in self._logins:
                self._logins[asked] = await self._collect(keys, where, least_bits)
            login = self._logins[asked]
        if named and not login.pairs:
            hint = "give another key_path, or load the key with `ssh-add`"
            raise AuthError(node, "; ".join(login.problems), hint, asked=False)
        return login

    def take_notes(self) -> list[str]:
        """Return what a person should know of keys and agents, each note once."""
        notes, self._notes = self._notes, []
        return notes

    async def _collect(self, keys: Keys, agent: str, least_bits: int) -> Login:
        problems = [f"ssh_config's {word} keeps keys back" for word in keys.refusing]
        problems += [f"ssh_config's {word} has no effect here" for word in keys.idle]
        if keys.refusing:
            return Login(problems=tuple(problems))
        files = {path: await self._load(path) for path in keys.paths or ()}
        said = [await self._load_certificate(path) for path in keys.certificate_paths]
        held: Sequence[asyncssh.SSHKeyPair] = ()
        if agent and (not keys.only or any(file.pair is None for file in files.values())):
            found = await self._ask(agent)
            if isinstance(found, str):
                problems.append(found)
            else:
                held = found[1]
        plain: list[_Offer] = []
        certified: list[_Offer] = []
        for path, file in files.items():
            pairs = [file.pair] if file.pair else [pair for pair in held if pair.public_data == file.public]
            offers = [_Offer(pair, str(path)) for pair in pairs]
            plain += offers
            if not keys.certificate_paths:  # as in ssh, one that is named stands for all
                certified += [each for offer in offers for each in offer.certified(file.certificates)]
            if not pairs:
                problems.append(f"{path}: {file.problem}")
        if not keys.only:
            plain += [
                _Offer(pair, f"agent: {pair.get_comment(errors='replace') or pair.algorithm.decode()}") for pair in held
            ]
        for offer in plain:
            certified += offer.certified(filter(None, said))
        for path, certificate in zip(keys.certificate_paths, said, strict=True):
            if certificate is None:
                problems.append(f"{path}: no certificate")
            elif all(certificate.public_data != offer.pair.public_data for offer in certified):
                problems.append(f"{path}: nobody has the key that it is for")
        return _login([*certified, *plain], problems, keys.algorithms, least_bits)

    async def _load(self, path: Path) -> _File:
        if path not in self._files:
            try:
                with anyio.fail_after(FILE_S):
                    self._files[path] = await run_abandonable(_read_key, path)
            except TimeoutError:
                self._files[path] = _File(problem=f"nobody gave us its content within {FILE_S:.0f} s")
        return self._files[path]

    async def _load_certificate(self, path: Path) -> asyncssh.SSHCertificate | None:
        if path not in self._certificates:
            self._certificates[path] = None
            with anyio.move_on_after(FILE_S):
                self._certificates[path] = await run_abandonable(_read_certificate, path)
        return self._certificates[path]

    async def _ask(self, path: str) -> tuple[asyncssh.SSHAgentClient, Sequence[asyncssh.SSHKeyPair]] | str:
        """Return what an agent holds, or why it does not say so."""
        if path not in self._agents:
            client = asyncssh.SSHAgentClient(path)
            try:
                with anyio.fail_after(AGENT_S):
                    self._agents[path] = client, await client.get_keys()
            except (OSError, ValueError) as error:
                client.close()
                why = f"no answer within {AGENT_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
                self._agents[path] = f"ssh-agent at {path} left out: {why}"
                self._notes.append(f"ssh-agent at {path} left out: {why}")
            except BaseException:
                client.close()
                raise
        return self._agents[path]

    async def close(self) -> None:
        """End the talk with the agents; bounded."""
        for found in self._agents.values():
            if not isinstance(found, str):
                found[0].close()
                await finish(found[0].wait_closed(), 1)
        self._agents.clear()


def _login(
    offers: Iterable[_Offer], problems: Sequence[str], algorithms: Sequence[str] | None, least_bits: int
) -> Login:
    """Return the offers, each once, without those that ssh_config does not allow."""
    every: dict[bytes, _Offer] = {}
    refused = []
    for offer in offers:
        bits = rsa_bits(offer.pair.key_public_data)
        if bits is not None and bits < least_bits:
            refused.append(f"{offer.name}: an RSA key of {bits} bits, and RequiredRSASize is {least_bits}")
        elif algorithms is not None and not _is_allowed(offer.pair, algorithms):
            refused.append(f"{offer.name}: {offer.pair.get_algorithm()} is not among the PubkeyAcceptedAlgorithms")
        else:
            every.setdefault(offer.pair.public_data, offer)
    pairs = tuple(offer.pair for offer in every.values())
    return Login(pairs, tuple(offer.name for offer in every.values()), (*problems, *dict.fromkeys(refused)))


def _name(pair: asyncssh.SSHKeyPair) -> str:
    return pair.get_comment(errors="replace") or pair.algorithm.decode()  # in whatever letters somebody wrote it


def _is_allowed(pair: asyncssh.SSHKeyPair, algorithms: Sequence[str]) -> bool:
    return any(name.decode() in algorithms for name in pair.host_key_algorithms)


def _read_key(path: Path) -> _File:
    """Load a key file, and the certificate beside it; blocking."""
    certificates = tuple(filter(None, map(_read_certificate, (Path(f"{path}-cert"), Path(f"{path}-cert.pub")))))
    public = _read_public(f"{path}.pub")
    content = b""
    try:
        content = _read(path)
        key = asyncssh.import_private_key(content)
        key.set_filename(path)
        return _File(asyncssh.load_keypairs([key])[0], certificates=certificates)
    except OSError as error:
        return _File(public=public, problem=error.strerror or str(error), certificates=certificates)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        problem = f"no usable private key ({error})"
        if "passphrase" in str(error).lower():
            problem = "the key is encrypted, and no ssh-agent holds it"
        elif itself := _public_of(content):  # the file itself may be the public half
            problem = "a public key, and no ssh-agent holds its private one"
            public = public or itself
        return _File(public=public, problem=problem, certificates=certificates)


def _read(path: str | Path) -> bytes:
    with Path(path).open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"a key of at most {MAX_BYTES >> 20} MiB was expected, it has more")
    return content


def _read_public(path: str) -> bytes | None:
    try:
        return _public_of(_read(path))
    except OSError:
        return None


def _public_of(content: bytes) -> bytes | None:
    try:
        return asyncssh.import_public_key(content).public_data
    except asyncssh.KeyImportError:
        return None


def _read_certificate(path: Path) -> asyncssh.SSHCertificate | None:
    try:
        return asyncssh.import_certificate(_read(path))
    except (OSError, asyncssh.KeyImportError):
        return None
