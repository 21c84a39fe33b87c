"""What a push says to sh: its files as tar, its swap as a list of commands, its records."""

from __future__ import annotations

import tarfile

import attrs

from asyncdeploy.node_side.push.plan import Plan
from asyncdeploy.node_side.push.site_record import (
    DIR,
    FILE,
    IN_PLACE,
    LINK,
    MANIFEST_FIELDS,
    Entry,
    Record,
    ancestors,
    read_entries,
)
from asyncdeploy.push.bundle.blocks import Block, BlockList, Piece
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.sh.site_view import SeenSite
from asyncdeploy.remote.sh_session import batches, words


def tree_of(bundle: Bundle) -> list[Entry]:
    """Return a bundle's manifest as the node's programs know it, every file by the sha256 that ``sha256sum`` prints.

    It reads large files whole, once a bundle, so call it in a thread.
    """
    fields = bundle.manifest.to_bytes().split(b"\0")
    entries = list(read_entries(fields[1:], MANIFEST_FIELDS))
    names = {content.sha256.encode(): at for at, content in enumerate(bundle.manifest.contents)}
    for entry in entries:
        if entry.kind == FILE:
            entry.sha = bundle.plain_sha256(names[entry.sha]).encode()
    return entries


def name_staged(plan: Plan) -> tuple[list[Entry], list[Entry]]:
    """Give every name that will be put in place its name in staging; return those of files and those of links."""
    files: list[Entry] = []
    links: list[Entry] = []
    users: dict[bytes, int] = {}
    for entry in plan.modes:
        entry.staged = IN_PLACE
    for entry in plan.moves:
        if entry.kind == DIR:
            entry.staged = b"folder"
        elif entry.kind == LINK:
            entry.staged = b"link.%d" % len(links)
            links.append(entry)
        else:
            number = users.get(entry.sha, 0)
            users[entry.sha] = number + 1
            entry.staged = b"%s.%d" % (entry.sha, number)
            files.append(entry)
    return files, links


class TarOf:
    """Files of a bundle as tar, part by part; a content that several files share travels for each of them.

    Attributes:
        blocks: the parts of half a MiB that all but the empty files travel in; a piece's number is that of its file.
        total: bytes of all files.
    """

    def __init__(self, bundle: Bundle, files: list[Entry]) -> None:
        self._bundle = bundle
        # An empty file is all header: it has no block.
        self._files = sorted(files, key=lambda entry: bool(entry.size))
        self._numbers = {bundle.plain_sha256(at).encode(): at for at in range(len(bundle.manifest.contents))}
        self.blocks = BlockList(Piece(number, 0, entry.size) for number, entry in enumerate(self._files)).cut()
        self.total = self.blocks.size

    def head(self) -> bytes:
        """Return the empty files."""
        return b"".join(_header(entry) for entry in self._files if not entry.size)

    def pack(self, block: Block) -> bytes:
        """Return a part as it travels; it reads the disk, so call it in a thread.

        Raises:
            TransferFailed: a file is no longer what was scanned.
        """
        parts: list[bytes] = []
        for piece in block:
            entry = self._files[piece.content]
            if not piece.start:
                parts.append(_header(entry))
            parts.append(self._bundle.read(Piece(self._numbers[entry.sha], piece.start, piece.length)))
            if piece.start + piece.length == entry.size:
                parts.append(padding(entry.size))
        return b"".join(parts)


def _header(entry: Entry) -> bytes:
    return header(entry.staged, entry.size, entry.mode, entry.mtime)


def swap_text(record: Record, site: SeenSite) -> bytes:
    """Return a swap as calls of push.sh's functions, a line each: it runs without us, and may be run again."""
    placed = [entry for entry in record.entries if entry.staged]
    keep = ancestors([entry.path for entry in record.entries])
    keep |= {entry.path for entry in record.entries if entry.kind == DIR}
    kinds = {path: site.is_folder(path) for path in record.removals}
    going = (ancestors(record.removals) | {path for path, is_folder in kinds.items() if is_folder}) - keep
    folders = ancestors([entry.path for entry in placed]) | {entry.path for entry in placed if entry.kind == DIR}
    lines = _calls(["remove"], [path for path, is_folder in kinds.items() if not is_folder])
    lines += _calls(["remove_folders"], sorted(going, reverse=True))
    lines += _calls(["try", "mkdir", "-p"], sorted(folders))
    lines += [words("put", entry.staged, b"./" + entry.path) for entry in placed if entry.kind != DIR
              and entry.staged != IN_PLACE]  # fmt: skip
    modes: dict[int, list[bytes]] = {}
    for entry in placed:
        if entry.kind == DIR or (entry.kind == FILE and entry.staged == IN_PLACE and site.is_file(entry.path)):
            modes.setdefault(entry.mode, []).append(entry.path)
    for mode, paths in sorted(modes.items()):
        lines += _calls(["try", "chmod", f"{mode:o}"], paths)
    return b"\n".join([*lines, b""])


def _calls(command: list[str], paths: list[bytes]) -> list[bytes]:
    return [words(*command, *(b"./" + path for path in batch)) for batch in batches(paths)]


def packed(record: Record) -> bytes:
    """Return a record as it lies on the node; what stat could not tell exactly is to be looked at by its content."""
    for entry in record.entries:
        if entry.ino < 0:
            entry.ino = 0
    return bytes(record.pack())


@attrs.frozen
class Room:
    """What a node's file system has left; None where it does not say."""

    free: int | None
    inodes: int | None

    @classmethod
    def parse(cls, line: bytes, *, root: bool) -> Room:
        """Build it from what ``room`` prints: free and available blocks, their size, free and all inodes."""
        try:
            free, available, size, inodes, all_inodes = map(int, line.split())
        except ValueError:
            return cls(None, None)
        return cls((free if root else available) * size if size else None, inodes if all_inodes else None)


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
