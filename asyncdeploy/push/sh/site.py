"""A site on a node without python3, held open by sh: its lock, its records, its swap (node_side/push/push.sh).

The records that lie on the node are the receiver's: either finishes what the other began, and knows what it brought.
"""

from __future__ import annotations

import math
import posixpath
import stat
from collections.abc import Sequence

import attrs

from asyncdeploy.node_side.push.site_record import (
    DIR,
    FILE,
    IN_PLACE,
    MAX_RECORD,
    META,
    Entry,
    Record,
    Refused,
    ancestors,
)
from asyncdeploy.node_side.push.swap import Swap
from asyncdeploy.push.sh.script import Room, packed, swap_text
from asyncdeploy.push.sh.site_view import SeenSite
from asyncdeploy.remote.sh_session import ShSession, batches

BODY = 1 << 20
"""Bytes of one frame of a body."""
NOTHING_THERE = 3
"""The status of ``look_site`` where no site stands."""
_ERRNO = {
    b"Permission denied": "EACCES",
    b"Operation not permitted": "EPERM",
    b"Function not implemented": "ENOSYS",
    b"Operation not supported": "EOPNOTSUPP",
    b"Not supported": "EOPNOTSUPP",
    b"Read-only file system": "EROFS",
    b"Not a directory": "ENOTDIR",
    b"File exists": "EEXIST",
    b"File name too long": "ENAMETOOLONG",
    b"nvalid or incomplete multibyte": "EILSEQ",
    b"Illegal byte sequence": "EILSEQ",
}
_LACKING = ("EPERM", "ENOSYS", "EOPNOTSUPP")
_LACKS = {b"modes": (b"chmod", b"change mode"), b"links": (b"ln: ", b"symlink", b"symbolic link")}
"""What a disk may lack, and how the tools name what they could not do."""
_FULL = (b"No space left on device", b"isk quota exceeded", b"Wrote only", b"short write")


class ShSite:
    """One site, open and locked until the session ends.

    Attributes:
        session: with the sh that serves it.
        seen: what was seen of the tree; ``seen.path`` is where it stands, absolute on the node.
        needed: bytes that this push needs there, for the report of a full disk.
    """

    def __init__(self, session: ShSession) -> None:
        self.session = session
        self.seen = SeenSite(session, b"")
        self.needed = 0
        self._is_root = False

    async def open(self, path: str, holder: str, wait_s: float, *, overwrite: bool = False) -> None:
        """Open the site, made if absent, and hold its lock.

        Args:
            path: absolute, or "~/...".
            holder: who we are, for those who wait.
            wait_s: seconds to wait while another deployer holds it.
            overwrite: also take a folder that is not ours.

        Raises:
            Refused: it is not ours to take, is held, or cannot be made.
        """
        await self._enter("open_site", path, overwrite)
        status, why = await self.session.ask("acquire", str(math.ceil(wait_s)), holder)
        if status == 2:
            raise self.refused(b"busy", why.replace(b"\0", b""))
        self.check(status, why, META + b"/lock")
        await self.session.ask("forget", "journal.new", "swap")

    async def look(self, path: str, *, overwrite: bool) -> bool:
        """Open the site only to look at it: nothing is made there, and no lock is taken.

        Args:
            path: absolute, or "~/...".
            overwrite: also look at a folder that is not ours.

        Returns:
            Whether anything stands there.

        Raises:
            Refused: it is not ours to take.
        """
        return await self._enter("look_site", path, overwrite) != NOTHING_THERE

    async def _enter(self, request: str, path: str, overwrite: bool) -> int:
        path = (
            f"~/{posixpath.normpath(path[2:])}" if path.startswith("~/") else "/" + posixpath.normpath(path).lstrip("/")
        )
        status, answer = await self.session.ask(request, path, "overwrite" if overwrite else "refuse")
        user, _, rest = answer.partition(b"\0")
        self.seen.path, _, why = rest.partition(b"\0")
        self._is_root = user == b"0"
        if status == 2:
            raise self.refused(b"conflict", *why.strip(b"\n").split(b"\0"))
        if status != NOTHING_THERE:
            self.check(status, why, self.seen.path)
        return status

    async def read_record(self, name: str) -> Record | None:
        """Return a record of ours, None if there is none or it is torn."""
        self.session.begin("record", name)
        _, data = await self.session.answer(MAX_RECORD)
        return Record.parse(data) if data else None

    async def keep(self, name: str, data: bytes) -> None:
        """Write a file into our folder, whole or not at all."""
        self.session.begin("keep", name, str(len(data)))
        await self.send_body(data)
        self.check(*await self.session.answer(), META + b"/" + name.encode())

    async def send_body(self, data: bytes) -> None:
        """Send what the request that was begun takes."""
        for start in range(0, len(data), BODY):
            self.session.body(data[start : start + BODY])
            await self.session.drain()
        self.session.end_body()

    # --- the swap --------------------------------------------------------------------------

    async def swap(self, record: Record, *, changes: bool) -> None:
        """Put a staged tree in place, under its journal, and remember it."""
        if changes:
            await self.keep("journal.new", record.pack())
            await self._do_swap(record)
        await self._remember(record)

    async def _do_swap(self, record: Record) -> None:
        await self.keep("swap", swap_text(record, self.seen))
        self.check(*await self.session.ask("swap"), b".")
        await self._note_placed(record)

    async def _remember(self, record: Record) -> None:
        record.removals = []
        await self.keep("state", packed(record))
        await self.session.ask("forget", "journal")
        await self.session.ask("clear_staging")

    async def _note_placed(self, record: Record) -> None:
        placed = [entry for entry in record.entries if entry.staged]
        await self.seen.see_names(entry.path for entry in placed)
        for entry in placed:
            entry.staged = b""
            found = self.seen.look(entry.path)
            if entry.kind != DIR and found is not None:
                entry.note(found)

    async def finish_journal(self) -> None:
        """Finish a swap that somebody began and did not end."""
        record = await self.read_record("journal")
        if record is None:
            await self.session.ask("forget", "journal")
            return
        staged = [entry for entry in record.entries if entry.staged]
        names = {entry.path for entry in staged}.union(record.removals)
        await self.seen.see_names(names | ancestors(names))
        lost = await self._lose(staged)
        self._check_parents(record)
        await self._do_swap(record)
        if lost:
            swap = Swap(None, _Old(await self.read_record("state")), record, True)
            swap.lost = lost
            swap.go_back()
        await self._remember(record)

    async def _lose(self, staged: Sequence[Entry]) -> list[Entry]:
        """Return those whose content survived neither staged nor in place; what is left of it goes."""
        files = [entry for entry in staged if entry.kind == FILE and entry.staged != IN_PLACE]
        folder = META + b"/staging/"
        shelf = SeenSite(self.session, self.seen.path)
        await shelf.see_names(folder + entry.staged for entry in files)
        await shelf.see_contents(shelf.found)
        await self.seen.see_contents([entry.path for entry in files if entry.path in self.seen.found])
        lost, bad = [], []
        for entry in files:
            whole = False
            for site, path in ((shelf, folder + entry.staged), (self.seen, entry.path)):
                found = site.look(path)
                if found is None or whole or not stat.S_ISREG(found.st_mode):
                    continue
                whole = site.content_of(None, path, found) == (FILE, entry.sha, b"")
                if not whole and (site is shelf or not found.st_size):
                    bad.append(path)
            if not whole:
                lost.append(entry)
                entry.staged = b""
        for batch in batches(bad):
            await self.session.ask("rm", "-f", *(b"./" + path for path in batch))
        return lost

    def _check_parents(self, record: Record) -> None:
        """Refused if a folder of ours was replaced meanwhile: nothing is written through a link."""
        going = set(record.removals)
        for path in sorted(ancestors([entry.path for entry in record.entries if entry.staged])):
            found = self.seen.look(path)
            if found is not None and not stat.S_ISDIR(found.st_mode) and path not in going:
                raise self.refused(b"error", b"ENOTDIR", b"Not a directory", path)

    # --- what goes wrong ---------------------------------------------------------------------

    def refused(self, word: bytes, *fields: bytes) -> Refused:
        """Return a refusal of this site's."""
        return Refused(word, self.seen.path, *fields)

    def check(self, status: int, why: bytes, where: bytes) -> None:
        """Refused unless a request went well."""
        if not status:
            return
        text, _, room = why.rstrip(b"\n").rpartition(b"\n")
        left = self.room(room)
        # A shell's own words for a file that it could not write do not say why, or there are none.
        if any(word in text for word in _FULL) or (left.free == 0 and (b"I/O error" in text or not text.strip())):
            raise self.full(left)
        name = next((name for word, name in _ERRNO.items() if word in text), "")
        if name in _LACKING:
            for what, tools in _LACKS.items():
                if any(tool in text for tool in tools):
                    raise self.refused(b"lacks", what, text.rpartition(b": ")[2])
        last = text.rpartition(b"\n")[2].rpartition(b": ")[2] or b"it did not say why"
        raise self.refused(b"error", name.encode(), last, where)

    def room(self, line: bytes) -> Room:
        """Return what ``room`` said in an answer's last line."""
        return Room.parse(line.rpartition(b"\n")[2] or line, root=self._is_root)

    def full(self, room: Room) -> Refused:
        """Return the refusal for want of room."""
        inodes = -1 if room.inodes is None else room.inodes
        return self.refused(b"full", b"%d" % (room.free or 0), b"%d" % self.needed, b"%d" % inodes)


@attrs.frozen
class _Old:
    """Stands for the site where ``Swap.go_back`` reads what stood there before."""

    state: Record | None

    def read_record(self, _name: bytes) -> Record | None:
        return self.state
