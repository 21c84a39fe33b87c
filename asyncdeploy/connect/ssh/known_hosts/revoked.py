"""RevokedHostKeys: keys that are never trusted, as a text of public keys or as OpenSSH's binary KRL (PROTOCOL.krl)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from pathlib import Path

import attrs

MAX_BYTES = 64 << 20
"""A million fingerprints."""

_MAGIC = b"SSHKRL\n\0"
_CERTIFICATES, _KEYS, _SHA1, _SIGNATURE, _SHA256 = range(1, 6)
_SERIALS, _SERIAL_RANGE, _SERIAL_BITMAP, _KEY_IDS = range(0x20, 0x24)
_EXTENSION, _CERTIFICATE_EXTENSION = 255, 0x39


@attrs.frozen
class Certified:
    """What a certificate may be revoked by: its authority's key, its serial number, its key id."""

    authority: bytes
    serial: int
    key_id: bytes


@attrs.define
class Revocations:
    """One file's revoked keys, in wire format or by digest, and certificates by authority (b"": of any)."""

    keys: set[bytes] = attrs.field(factory=set)
    sha1: set[bytes] = attrs.field(factory=set)
    sha256: set[bytes] = attrs.field(factory=set)
    serials: dict[bytes, list[tuple[int, int]]] = attrs.field(factory=dict)
    bitmaps: dict[bytes, list[tuple[int, int]]] = attrs.field(factory=dict)
    key_ids: dict[bytes, set[bytes]] = attrs.field(factory=dict)

    def has(self, key: bytes, certified: Certified | None = None) -> bool:
        """Return whether a key, its certificate or its certificate's authority is revoked."""
        sha1 = hashlib.sha1(key, usedforsecurity=False).digest()  # a KRL may have no more of a key than this
        if key in self.keys or sha1 in self.sha1 or hashlib.sha256(key).digest() in self.sha256:
            return True
        if certified is None:
            return False
        return self.has(certified.authority) or any(self._has(of, certified) for of in (certified.authority, b""))

    def _has(self, authority: bytes, certified: Certified) -> bool:
        serial = certified.serial
        return (
            certified.key_id in self.key_ids.get(authority, ())
            or any(serial and first <= serial <= last for first, last in self.serials.get(authority, ()))
            or any(
                serial and serial >= base and bits >> (serial - base) & 1
                for base, bits in self.bitmaps.get(authority, ())
            )
        )


def read_revoked(path: Path) -> Revocations:
    """Read a file of revoked keys: of at most MAX_BYTES, and up to 50 times its size in memory. Blocking.

    Raises:
        OSError: it cannot be read.
        ValueError: it says what is not known here, so that nothing can be said of any key.
    """
    with path.open("rb") as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"at most {MAX_BYTES >> 20} MiB were expected")
    found = Revocations()
    if raw.startswith(_MAGIC):
        _Krl(found).read(raw)
        return found
    for number, line in enumerate(raw.split(b"\n"), 1):
        words = line.split()
        if words and not words[0].startswith(b"#"):
            try:
                found.keys.add(base64.b64decode(words[1], validate=True))
            except (IndexError, binascii.Error):
                raise ValueError(f"line {number}: 'keytype key' was expected") from None
    return found


class _Packet:
    """Fields of OpenSSH's wire format, one after another."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("a KRL was expected, its end is missing")
        self._at += count
        return found

    def number(self, count: int = 8) -> int:
        return int.from_bytes(self.take(count), "big")

    def string(self) -> bytes:
        return self.take(self.number(4))

    def strings(self) -> Iterator[bytes]:
        while self:
            yield self.string()


class _Krl:
    def __init__(self, found: Revocations) -> None:
        self.found = found

    def read(self, raw: bytes) -> None:
        packet = _Packet(raw[len(_MAGIC) :])
        if (version := packet.number(4)) != 1:
            raise ValueError(f"a KRL of format 1 was expected, got {version}")
        packet.take(3 * 8)  # its own version, its date, flags
        packet.string()  # reserved
        packet.string()  # comment
        sets = {_KEYS: self.found.keys, _SHA1: self.found.sha1, _SHA256: self.found.sha256}
        while packet:
            kind, section = packet.number(1), _Packet(packet.string())
            if kind in sets:
                sets[kind].update(section.strings())
            elif kind == _CERTIFICATES:
                self._certificates(section)
            elif kind == _EXTENSION:
                self._extension(section)
            elif kind != _SIGNATURE:  # OpenSSH does not look at signatures either, and writes none
                raise ValueError(f"a section of a KRL was expected, got kind {kind}")

    def _certificates(self, section: _Packet) -> None:
        authority, found = section.string(), self.found
        section.string()  # reserved
        while section:
            kind, part = section.number(1), _Packet(section.string())
            if kind == _SERIALS:
                while part:
                    serial = part.number()
                    found.serials.setdefault(authority, []).append((serial, serial))
            elif kind == _SERIAL_RANGE:
                found.serials.setdefault(authority, []).append((part.number(), part.number()))
            elif kind == _SERIAL_BITMAP:
                base = part.number()
                found.bitmaps.setdefault(authority, []).append((base, int.from_bytes(part.string(), "big")))
            elif kind == _KEY_IDS:
                found.key_ids.setdefault(authority, set()).update(part.strings())
            elif kind == _CERTIFICATE_EXTENSION:
                self._extension(part)
            else:
                raise ValueError(f"a part of a KRL's certificates was expected, got kind {kind:#x}")

    def _extension(self, part: _Packet) -> None:
        name = part.string()
        if part.number(1):
            raise ValueError(f"the KRL has an extension that must be understood: {name[:40]!r}")
