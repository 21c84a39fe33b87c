"""The parts of a tar stream that we write: regular files under short plain names, which every tar reads."""

from __future__ import annotations

import tarfile

RECORD = 512
LAST_S = 0o77777777777
"""The largest time that fits a header's digits: the year 2242."""
END = bytes(20 * RECORD)
"""Two empty records end an archive; a whole block of them pleases every tar."""


def header(name: bytes, size: int, mode: int, mtime_ns: int) -> bytes:
    """Return what stands before a file's content; a size over 8 GiB in GNU's form, which busybox knows too."""
    info = tarfile.TarInfo(name.decode("ascii"))
    info.size, info.mode = size, mode
    info.mtime = min(max(mtime_ns // 10**9, 0), LAST_S)
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what fills a content up to a whole record."""
    return bytes(-size % RECORD)
