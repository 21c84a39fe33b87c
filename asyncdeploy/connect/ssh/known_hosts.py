"""A known_hosts file as data: who stands in it, on which line; adding to it and taking away from it.

Text and digests only, no cryptography. A line is taken apart when it is read and its key is looked at when it is asked
for, so that ten thousand lines cost milliseconds and one bad line costs nobody his hosts.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import fnmatch
import hashlib
import hmac
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

MAX_BYTES = 64 << 20
"""Half a million lines; what is larger is no known_hosts file."""
LOCK_S = 5.0
"""How long another process may hold the file: it appends one line."""
_MARKERS = ("cert-authority", "revoked")


@attrs.frozen
class Entry:
    """One key of one line; ``blob`` is the key in base64, ``source`` is "path:line"."""

    marker: str
    kind: str
    blob: str
    source: str

    @property
    def fingerprint(self) -> str:
        """ "SHA256:...", as ssh-keygen -l prints it; "" if the key is no base64."""
        try:
            return fingerprint(base64.b64decode(self.blob))
        except binascii.Error:
            return ""


def fingerprint(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key in wire format."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def address_name(host: str, port: int) -> str:
    """Return how OpenSSH writes a host and port in known_hosts."""
    return host if port == 22 else f"[{host}]:{port}"


@attrs.define(eq=False)
class KnownHosts:
    """One file's entries, by host.

    Attributes:
        bad: "path:line: why" of each line that could not be read.
    """

    exact: dict[str, list[Entry]] = attrs.field(factory=dict)
    hashed: list[tuple[bytes, bytes, Entry]] = attrs.field(factory=list)
    patterns: list[tuple[tuple[str, ...], Entry]] = attrs.field(factory=list)
    bad: list[str] = attrs.field(factory=list)

    @classmethod
    def parse(cls, text: str, path: str) -> KnownHosts:
        """Read a file's text; lines that cannot be read are listed in ``bad``."""
        found = cls()
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split(None, 4)
            if not words or words[0].startswith("#"):
                continue
            try:
                found._add(words, f"{path}:{number}")
            except ValueError as error:
                found.bad.append(f"{path}:{number}: {error}")
        return found

    def _add(self, words: list[str], source: str) -> None:
        marker = words.pop(0)[1:] if words[0].startswith("@") else ""
        if marker and marker not in _MARKERS:
            raise ValueError(f"@cert-authority or @revoked was expected as a marker, got @{marker}")
        if len(words) < 3:
            raise ValueError(f"'hosts keytype key' was expected, got {' '.join(words)[:80]!r}")
        hosts, entry = words[0], Entry(marker, words[1], words[2], source)
        if hosts.startswith("|"):
            self.hashed.append((*_read_hash(hosts), entry))
        elif re.search(r"[*?!]", hosts):
            self.patterns.append((tuple(hosts.split(",")), entry))
        else:
            for host in hosts.split(","):
                self.exact.setdefault(host.lower(), []).append(entry)

    def find(self, name: str) -> list[Entry]:
        """Return the entries of a host, written as ``address_name`` writes it."""
        name = name.lower()
        found = list(self.exact.get(name, ()))
        found += [entry for salt, digest, entry in self.hashed if hmac.digest(salt, name.encode(), "sha1") == digest]
        found += [entry for patterns, entry in self.patterns if _matches(patterns, name)]
        return found


def read_known_hosts(path: Path) -> KnownHosts:
    """Read a file; one that is not there knows nobody.

    Raises:
        OSError: it is there and cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return KnownHosts()
    if len(raw) > MAX_BYTES:
        raise OSError(f"{path}: at most {MAX_BYTES >> 20} MiB were expected, it has more")
    return KnownHosts.parse(raw.decode("utf-8", "replace"), str(path))


def record_key(path: Path, names: Sequence[str], kind: str, blob: str) -> list[Entry]:
    """Append a line for those names that the file does not know yet; blocking, and alone by a lock.

    Returns:
        The entries of the other names: what another process recorded while we were connecting, for the caller to judge.

    Raises:
        OSError: the file cannot be written or its lock is held for too long.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path, create=True) as descriptor:
        text = _read_all(descriptor)
        known = KnownHosts.parse(text, str(path))
        entries = {name: [entry for entry in known.find(name) if not entry.marker] for name in names}
        new = [name for name in names if not entries[name]]
        if new:
            end = "" if not text or text.endswith("\n") else "\n"
            os.write(descriptor, f"{end}{','.join(new)} {kind} {blob}\n".encode())
        return [entry for found in entries.values() for entry in found]


def forget_names(path: Path, names: Sequence[str]) -> int:
    """Take out every line that names one of these hosts; patterns, certificate authorities and revocations stay.

    The new file takes the old one's place in one step. Blocking.

    Returns:
        How many lines were taken out.

    Raises:
        OSError: the file cannot be written.
    """
    if not path.exists():
        return 0
    path = path.resolve()  # a link to the file stays one
    wanted = {name.lower() for name in names}
    with _locked(path, create=False) as descriptor:
        lines = _read_all(descriptor).splitlines(keepends=True)
        kept = [line for line in lines if not _names_one_of(line, wanted)]
        if len(kept) < len(lines):
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            mode = os.fstat(descriptor).st_mode & 0o777
            target = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
            with os.fdopen(target, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.writelines(kept)
            fresh.replace(path)
        return len(lines) - len(kept)


def _names_one_of(line: str, wanted: set[str]) -> bool:
    hosts = line.split(None, 1)[0] if line.strip() else "#"
    if hosts.startswith(("#", "@")):
        return False
    if hosts.startswith("|"):
        try:
            salt, digest = _read_hash(hosts)
        except ValueError:
            return False
        return any(hmac.digest(salt, name.encode(), "sha1") == digest for name in wanted)
    return not wanted.isdisjoint(hosts.lower().split(","))


def _read_hash(hosts: str) -> tuple[bytes, bytes]:
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise ValueError(f"a hashed host '|1|salt|hash' was expected, got {hosts[:80]!r}")
    return base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)


def _matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a list with wildcards means this host; a negated pattern wins wherever it stands."""
    found = False
    for pattern in patterns:
        # fnmatch knows [..] too, which here are the brackets of "[host]:port".
        glob = re.compile(fnmatch.translate(pattern.lstrip("!").lower().replace("[", "[[]")))
        if glob.match(name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


@contextlib.contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[int]:
    """Hold the file's lock; a file that was replaced while we waited is opened anew."""
    end = time.monotonic() + LOCK_S
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            _lock(descriptor, path, end)
            held, there = os.fstat(descriptor), path.stat()
            if (held.st_ino, held.st_dev) == (there.st_ino, there.st_dev):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"{path}: another process has held its lock for {LOCK_S:.0f} s") from None
            time.sleep(0.01)


def _read_all(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        return stream.read(MAX_BYTES).decode("utf-8", "surrogateescape")
