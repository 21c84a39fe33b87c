"""Results from a node without python3: sh is asked, and answers here as node_side/collect/sender.py would there.

So the one collector, with its checks, budgets and files, serves both.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import MAX_LISTING_BYTES, MAX_PATH, nonsense
from asyncdeploy.collect.wanted_sh import Wanted, grouped, read_wanted, sorted_out
from asyncdeploy.remote.sh_session import Found, ShSession, batches, open_sh_session
from asyncdeploy.remote.transport import Remote
from asyncdeploy.values.regex import regex

Frame = tuple[bytes, bytes]

TOOLS = ("tail", "wc", "date", "readlink")
BLOCK = 1 << 18
RACY_S = 3
"""A file that changed so short before it was listed may change once more within the same tick of its clock."""
SHOWN = 80
"""Bytes of what was not expected, in an error."""
_NUMBER = regex(rb"[0-9]{1,18}")
_SHA = regex(rb"[0-9a-f]{64}")


@asynccontextmanager
async def open_sender(remote: Remote, source: str, limits: CollectLimits) -> AsyncIterator[ShSender]:
    """Open what stands for a call of the node_side program "sender"; the context's end closes its channel.

    Args:
        remote: a node without python3.
        source: absolute path on the node, or "~/...".
        limits: bounds on what it sends.

    Raises:
        ToolMissing: the node has not even stat or sha256sum.
        NoShell and others: as ``open_sh_session``.
    """
    async with open_sh_session(remote, "collect/collect", *TOOLS) as session:
        sender = ShSender(session, source, limits)
        async with aclosing(sender.frames()) as frames:
            sender.answers = frames
            yield sender


class ShSender:
    """The frames of ``node_side/collect/sender.py``, in the order in which it sends them.

    Attributes:
        answers: where the frames come from.
    """

    answers: AsyncIterator[Frame]

    def __init__(self, session: ShSession, source: str, limits: CollectLimits) -> None:
        self._session = session
        self._source = source
        self._limits = limits
        self._budget = limits.max_bytes
        self._now_s = 0
        self._asked = bytearray()
        self._files: list[tuple[bytes, Found]] = []
        self._folders = {b""}

    # --- what the collector sees -----------------------------------------------------

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Take what is wanted."""
        if kind == b"W":
            self._asked += payload

    async def drain(self) -> None:
        """Nothing waits here: what was asked goes out with the next request."""

    async def receive(self) -> Frame:
        """Return the next frame."""
        return await anext(self.answers)

    # --- the listing -------------------------------------------------------------------

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Yield all frames; what is wanted is read after the listing's end."""
        status, answer = await self._session.ask("open_source", self._source)
        now, _, what = answer.rstrip(b"\n").partition(b" ")
        if status or not _NUMBER.fullmatch(now):
            yield b"Z", answer.strip() or b"it cannot be read"
            return
        self._now_s = int(now)
        kind, _, name = what.partition(b" ")
        paths, cut = ([name], False) if kind == b"file" else await self._names()
        if len(name) > MAX_PATH:
            raise nonsense(self._session.remote.node.name, f"a name of {len(name)} bytes, more than any has")
        left = self._limits.max_files
        for batch in batches(paths):
            for frame in (await self._list(batch))[: left + 1]:
                left -= 1
                if left >= 0:
                    yield frame
            if left < 0:
                over = f"over the budget of {self._limits.max_files} files; this and all after it"
                yield b"N", batch[-1] + b"\0" + over.encode()
                break
        if cut and left >= 0:
            yield b"N", paths[-1] + b"\0" + b"over the budget of bytes of names; all after it"
        yield b"M", b""
        sizes = [found.st_size for _, found in self._files]
        same, whole, alone = sorted_out(read_wanted(self._asked), sizes)
        for group in grouped(same, self._files):
            frames, changed = await self._prove(group)
            whole += changed
            for frame in frames:
                yield frame
        for group in grouped(whole, self._files):
            frames, again = await self._send_together(group)
            alone += again
            for frame in frames:
                yield frame
        for want in alone:
            async with aclosing(self._send_one(want)) as sent:
                async for frame in sent:
                    yield frame
        yield b"Z", b""

    async def _names(self) -> tuple[list[bytes], bool]:
        """Return paths, folders before what is in them, and whether there are more."""
        room = MAX_LISTING_BYTES // 2
        self._session.begin("names", str(room), str(self._limits.max_depth), b".")
        _, text = await self._session.answer(room)
        *names, _cut = text.split(b"\0")
        is_cut = len(text) >= room
        if any(not name.startswith(b"./") or len(name) > MAX_PATH + 2 for name in names) or (is_cut and not names):
            what = f"names, of which each was expected to begin with './', and to have at most {MAX_PATH} bytes more"
            raise nonsense(self._session.remote.node.name, what)
        return sorted(name[2:] for name in names), is_cut

    async def _list(self, paths: list[bytes]) -> list[Frame]:
        found = await self._session.look(paths)
        kinds = {path: stat.S_IFMT(info.st_mode) for path, info in found.items()}
        targets = await self._session.links([path for path, kind in kinds.items() if kind == stat.S_IFLNK])
        if any(len(target) > MAX_PATH for target in targets.values()):
            raise nonsense(self._session.remote.node.name, "where a link leads, in more bytes than any link has")
        closed = await self._closed([path for path, kind in kinds.items() if kind == stat.S_IFDIR])
        frames: list[Frame] = []
        for path in paths:
            kind = kinds.get(path, 0)
            letter = {stat.S_IFREG: b"f", stat.S_IFDIR: b"d", stat.S_IFLNK: b"l"}.get(kind)
            if path not in found or path.rpartition(b"/")[0] not in self._folders:
                frames.append((b"N", path + b"\0it vanished"))
                continue
            if letter is None or (letter == b"l" and path not in targets):
                frames.append((b"N", path + b"\0no regular file, folder or link"))
                continue
            frames.append((b"L", _entry(letter, path, found[path], targets.get(path, b""))))
            self._files.append((path, found[path]))
            if letter == b"d":
                self._folders.add(path)
                if path in closed:
                    frames.append((b"N", path + b"\0Permission denied"))
                elif path.count(b"/") + 1 >= self._limits.max_depth:
                    frames.append((b"N", path + b"\0deeper than %d folders" % self._limits.max_depth))
        return frames

    async def _closed(self, folders: list[bytes]) -> set[bytes]:
        """Return those that this user may not read."""
        if not folders:
            return set()
        _, marks = await self._session.ask("closed", *(b"./" + path for path in folders))
        return {path for path, mark in zip(folders, marks, strict=False) if mark == ord("+")}

    # --- contents --------------------------------------------------------------------------

    async def _prove(self, wanted: list[Wanted]) -> tuple[list[Frame], list[Wanted]]:
        """Return the frames of files that are here as they are there, and those that are not, which travel whole."""
        files = [self._files[want.number] for want in wanted]
        sums = await self._session.sums(path for path, _ in files)
        frames: list[Frame] = []
        changed: list[Wanted] = []
        for want, (path, found) in zip(wanted, files, strict=True):
            if sums.get(path) == want.known.hex().encode():
                frames.append((b"B", want.number.to_bytes(4, "big") + want.offset.to_bytes(8, "big")))
                frames.append((b"T", want.known + self._stamp(found)))
            else:
                changed.append(want)
        return frames, changed

    async def _send_together(self, wanted: list[Wanted]) -> tuple[list[Frame], list[Wanted]]:
        """Return the frames of small files, and those that are not what was listed, to be tried again by themselves."""
        files = [self._files[want.number] for want in wanted]
        sums = await self._session.sums(path for path, _ in files)
        total = sum(found.st_size for _, found in files)
        if total:
            self._session.begin("fetch", str(total), *(b"./" + path for path, found in files if found.st_size))
        frames: list[Frame] = []
        again: list[Wanted] = []
        for want, (path, found) in zip(wanted, files, strict=True):
            data = await self._read(found.st_size)
            sha = hashlib.sha256(data)
            if sha.hexdigest().encode() != sums.get(path):
                again.append(want)
                continue
            self._budget -= len(data)
            frames.append((b"B", want.number.to_bytes(4, "big") + bytes(8)))
            frames += [(b"D", data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
            frames.append((b"T", sha.digest() + self._stamp(found)))
        if total:
            await self._session.answer()
        return frames, again

    async def _read(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(await self._session.read(size))
            size -= len(parts[-1])
        return b"".join(parts)

    async def _send_one(self, want: Wanted) -> AsyncGenerator[Frame, None]:
        """Send a file, or what the client lacks of it, and prove that it is one state of it."""
        path, found = self._files[want.number]
        number = want.number.to_bytes(4, "big")
        self._session.begin("fetch_one", b"./" + path, str(want.offset), want.known.hex(), str(self._budget))
        first, _, second = (await self._session.read_line()).partition(b" ")
        if first == b"-":
            await self._session.answer()
            yield b"X", number + second
            return
        if not (_NUMBER.fullmatch(first) and _NUMBER.fullmatch(second) and int(second) <= int(first)):
            what = f"{(first + b' ' + second)[:SHOWN]!r}, where sizes of {os.fsdecode(path)!r} were expected"
            raise nonsense(self._session.remote.node.name, what)
        left = int(first) - int(second)
        self._budget -= left
        yield b"B", number + int(second).to_bytes(8, "big")
        sha = hashlib.sha256()
        while left:
            data = await self._session.read(min(left, BLOCK))
            sha.update(data)
            left -= len(data)
            yield b"D", data
        _, answer = await self._session.answer()
        whole, sent, before = [*answer.split(), b"", b"", b""][:3]
        is_one = sent == sha.hexdigest().encode() and (second == b"0" or before == want.known.hex().encode())
        if second == b"0":
            is_one = is_one and whole == sent
        if not is_one or not _SHA.fullmatch(whole):
            yield b"X", number + b"it changed while it was read"
            return
        yield b"T", bytes.fromhex(whole.decode("ascii")) + self._stamp(found)

    def _stamp(self, found: Found) -> bytes:
        """Return the time that the file here gets; one that is not the node's makes the next collect look again."""
        stamp = found.st_mtime_ns
        if not found.exact or abs(self._now_s - stamp // 10**9) < RACY_S:
            stamp -= 1
        return stamp.to_bytes(12, "big", signed=True)


def _entry(kind: bytes, path: bytes, found: Found, target: bytes) -> bytes:
    size = found.st_size if kind == b"f" else 0
    numbers = found.st_mode.to_bytes(4, "big") + size.to_bytes(8, "big")
    numbers += found.st_mtime_ns.to_bytes(12, "big", signed=True)
    return kind + numbers + len(path).to_bytes(2, "big") + path + len(target).to_bytes(2, "big") + target
