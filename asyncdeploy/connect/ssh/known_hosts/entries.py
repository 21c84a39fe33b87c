"""A known_hosts file as data: who stands in it, on which line.

Text and digests only, no cryptography. A line is taken apart when it is read and its key is looked at when it is asked
for, so that ten thousand lines cost milliseconds and one bad line costs nobody his hosts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

import attrs

from asyncdeploy.connect.ssh.config.patterns import is_pattern, match_patterns, split_patterns

MAX_BYTES = 64 << 20
"""Half a million lines; what is larger is no known_hosts file."""
MARK = "asyncdeploy"
"""The comment of lines that we write. Ours tell apart what lies behind different jump hosts; OpenSSH's do not."""
_MARKERS = ("cert-authority", "revoked")


@attrs.frozen
class Entry:
    """One key of one line.

    Attributes:
        marker: "cert-authority", "revoked" or "".
        kind, blob: the key, in base64.
        source: "path:line".
        is_ours: we wrote the line.
        by_pattern: it means hosts that it does not name.
    """

    marker: str
    kind: str
    blob: str
    source: str
    is_ours: bool = False
    by_pattern: bool = False

    @property
    def key(self) -> bytes | None:
        """The key in wire format; None if it is no base64."""
        try:
            return base64.b64decode(self.blob) or None
        except ValueError:  # binascii's own, and another one for letters that are not ASCII
            return None

    @property
    def is_sound(self) -> bool:
        """Whether it is a whole key of the kind that it says; OpenSSH skips a line that has none, as one of SSH 1."""
        data, kind = self.key or b"", self.kind.encode("utf-8", "surrogateescape")
        at = 4 + len(kind)
        if data[:at] != len(kind).to_bytes(4, "big") + kind or at == len(data):
            return False
        while at < len(data):  # a key is a row of strings, each with its length before it
            at += 4 + int.from_bytes(data[at : at + 4], "big")
        return at == len(data)

    @property
    def fingerprint(self) -> str:
        """ "SHA256:...", as ssh-keygen -l prints it; "" if the key is no base64."""
        return fingerprint(self.key) if self.key else ""


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
    patterns: list[tuple[list[str], Entry]] = attrs.field(factory=list)
    bad: list[str] = attrs.field(factory=list)
    _found: dict[str, list[Entry]] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str, path: str) -> KnownHosts:
        """Read a file's text, which takes 30 times its length; lines that cannot be read are listed in ``bad``."""
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
        hosts, is_ours = words[0], " ".join(words[3:]).strip() == MARK
        by_pattern = not hosts.startswith("|") and is_pattern(hosts)
        entry = Entry(marker, words[1], words[2], source, is_ours, by_pattern)
        if hosts.startswith("|"):
            self.hashed.append((*read_hash(hosts), entry))
        elif by_pattern:
            self.patterns.append((split_patterns(hosts), entry))
        else:
            for name in split_patterns(hosts):
                self.exact.setdefault(name, []).append(entry)

    def is_found(self, name: str) -> bool:
        """Return whether a host was looked for before, so that ``find`` takes no time."""
        return name.lower() in self._found

    def find_all(self, names: Iterable[str]) -> None:
        """Look hosts up before they are asked for."""
        for name in names:
            self.find(name)

    def find(self, name: str) -> list[Entry]:
        """Return the entries of a host, written as ``address_name`` writes it; slow where many are hashed."""
        name = name.lower()
        if name not in self._found:
            found = list(self.exact.get(name, ()))
            text = name.encode()
            found += [entry for salt, digest, entry in self.hashed if hmac.digest(salt, text, "sha1") == digest]
            found += [entry for patterns, entry in self.patterns if match_patterns(patterns, name)]
            self._found[name] = [entry for entry in found if entry.is_sound or entry.marker == "revoked"]
        return self._found[name]


def read_known_hosts(path: Path) -> KnownHosts:
    """Read a file; one that is not there knows nobody.

    Raises:
        OSError: it is there and cannot be read, or is too large.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return KnownHosts()
    if len(raw) > MAX_BYTES:
        raise OSError(f"{path}: at most {MAX_BYTES >> 20} MiB were expected, it has more")
    return KnownHosts.parse(raw.decode("utf-8", "replace"), str(path))


def read_hash(hosts: str) -> tuple[bytes, bytes]:
    """Return salt and digest of a hashed host.

    Raises:
        ValueError: it is none.
    """
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise ValueError(f"a hashed host '|1|salt|hash' was expected, got {hosts[:80]!r}")
    return base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
