"""A session of sh on a node: we decide, it does one request after the other (node_side/sh_session.sh)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import anyio
import attrs

from asyncdeploy.remote.interpreter import open_script
from asyncdeploy.remote.sh import script
from asyncdeploy.remote.transport import Channel, Remote
from asyncdeploy.remote.worker import HEARTBEAT_S
from asyncdeploy.values.errors import ConnectionLost, ProtocolError, ToolMissing
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines, one_line

MAX_ANSWER = 64 << 20
"""Bytes of one answer: the record of a tree of 300,000 names, or as many names."""
MAX_WORDS = 32 * 1024
"""Bytes of names in one request; a shell hands them to a program, whose arguments are bounded."""
MAX_NAMES = 400
"""Names in one request: a shell copies its arguments for each of them."""
SHOWN = 400
"""Bytes of what was not expected, as evidence."""
TOOLS = ("dd", "stat", "sha256sum", "cut", "find", "head", "cat", "mv", "rm", "mkdir", "chmod")
INSTALL = "install coreutils there, or python3"

_STATUS = regex(rb"[0-9]{1,3}")


@attrs.frozen
class Found:
    """What stat says of a name, under the names of os.stat_result; where it has no nanoseconds st_ino is -1."""

    st_mode: int
    st_size: int
    st_ino: int
    st_mtime_ns: int
    st_ctime_ns: int

    @property
    def exact(self) -> bool:
        """Whether the node's stat tells two changes within a second apart."""
        return self.st_ino >= 0

    @classmethod
    def parse(cls, line: bytes) -> Found:
        """Build it from a line of ``look``, at most MAX_ANSWER bytes; ValueError if it is none, or no disk has that."""
        mode, size, ino, mtime, _, mtime_text, _, ctime, _, ctime_text, _ = line.split(b" ")
        fraction = _fraction(ctime_text)
        ino = ino if fraction else b"-1"
        times = int(mtime) * 10**9 + _fraction(mtime_text), int(ctime) * 10**9 + fraction
        found = cls(int(mode, 16), int(size), int(ino), *times)
        if not (0 <= found.st_mode < 1 << 32 and 0 <= found.st_size < 1 << 63 and max(map(abs, times)) < 1 << 95):
            raise ValueError(f"a mode, a size and times of a file were expected, got {line!r}")
        return found


def _fraction(text: bytes) -> int:
    return int(text.partition(b".")[2].ljust(9, b"0")[:9])


def batches(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield paths in groups that fit one request."""
    batch: list[bytes] = []
    size = 0
    for path in paths:
        if batch and (size + len(path) > MAX_WORDS or len(batch) >= MAX_NAMES):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += len(path) + 8
    if batch:
        yield batch


def words(*values: str | bytes) -> bytes:
    """Return a command of one of our functions in sh, every word quoted."""
    return os.fsencode(shlex.join(os.fsdecode(value) for value in values))


@asynccontextmanager
async def open_sh_session(remote: Remote, program: str, *tools: str) -> AsyncIterator[ShSession]:
    """Run sh_session.sh and another program of node_side on a node; the context's end closes their channel.

    Args:
        remote: a node without python3.
        program: the file below node_side, without ".sh".
        tools: what it needs besides TOOLS.

    Raises:
        ToolMissing: one of them is not there.
        NoShell, ConnectError, AuthError, HostKeyError, ConnectionLost: as Remote.open.
    """
    mark = f"asyncdeploy-{secrets.token_hex(16)}"
    channel = await open_script(remote, script(("sh_session", program), mark))
    session = ShSession(remote, channel, mark.encode())
    try:
        session.beat()
        status, answer = await session.ask("tools", *TOOLS, *tools)
        if status:
            tool = last_lines(answer, 1)
            raise ToolMissing(remote.node.name, f"{tool} is needed on a node without python3", INSTALL, tool=tool)
        yield session
    finally:
        session.stop()
        await channel.close()


class ShSession:
    """The conversation. Signs of life go out by themselves while it lasts."""

    def __init__(self, remote: Remote, channel: Channel, mark: bytes) -> None:
        self.remote = remote
        self._channel = channel
        self._mark = mark
        self._end = b"\n" + mark + b" "
        self._inbox = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = ""

    async def ask(self, *command: str | bytes) -> tuple[int, bytes]:
        """Make one request and return its status and what it printed."""
        self.begin(*command)
        return await self.answer()

    def begin(self, *command: str | bytes) -> None:
        """Send one request; its body, if it takes one, follows."""
        self._asked = os.fsdecode(command[0])
        self._send(words(*command) + b"\n# " + self._mark)

    def body(self, data: bytes) -> None:
        """Queue a part of a body, at most some MiB; call ``drain`` after each."""
        if data:
            self._send(data)

    def end_body(self) -> None:
        """End a body."""
        self._channel.send(b"%-11s\n" % b"end")

    async def drain(self) -> None:
        """Wait until the queue towards the node is short; ConnectionLost if the connection broke."""
        await self._channel.drain()

    async def answer(self, limit: int = MAX_ANSWER) -> tuple[int, bytes]:
        """Return the status of the request that was sent and what it printed, at most ``limit`` bytes.

        Raises:
            ConnectionLost: the connection broke: what it did is unknown.
            ProtocolError: it printed more.
        """
        start = 0
        while True:
            at = self._inbox.find(self._end, start)
            stop = self._inbox.find(b"\n", at + len(self._end)) if at >= 0 else -1
            if stop >= 0:
                text, status = bytes(self._inbox[:at]), bytes(self._inbox[at + len(self._end) : stop])
                del self._inbox[: stop + 1]
                if not _STATUS.fullmatch(status):
                    break
                return int(status), text
            if len(self._inbox) > limit + len(self._end) + 4:
                break
            start = max(0, len(self._inbox) - len(self._end) - 4)
            await self._fill()
        raise self._refused(f"a status behind at most {limit} bytes", bytes(self._inbox[:SHOWN]))

    async def read(self, limit: int) -> bytes:
        """Return the next bytes that a request prints, at least one and at most ``limit``."""
        if not self._inbox:
            await self._fill()
        data = bytes(self._inbox[:limit])
        del self._inbox[: len(data)]
        return data

    async def read_line(self) -> bytes:
        """Return the next line that a request prints, a short one."""
        while (at := self._inbox.find(b"\n")) < 0:
            if len(self._inbox) > MAX_WORDS:
                raise self._refused(f"a line of at most {MAX_WORDS} bytes", bytes(self._inbox[:SHOWN]))
            await self._fill()
        line = bytes(self._inbox[:at])
        del self._inbox[: at + 1]
        return line

    async def look(self, paths: Iterable[bytes]) -> dict[bytes, Found]:
        """Return what stands at each path; links are not followed, absent ones are left out."""
        found: dict[bytes, Found] = {}
        for batch in batches(paths):
            _, text = await self.ask("look", *_dotted(batch))
            marks, _, rest = text.partition(b"\n")
            there = [path for path, mark in zip(batch, marks, strict=False) if mark == ord("+")]
            lines = rest.splitlines()
            if len(marks) != len(batch) or len(lines) != len(there):
                raise self._refused(f"a mark for each of {len(batch)} names, and a line for each that is there", text)
            for path, line in zip(there, lines, strict=True):
                if line != b"-":
                    found[path] = self._parse(line)
        return found

    async def sums(self, paths: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the sha256, as hex, of each regular file that can be read."""
        found: dict[bytes, bytes] = {}
        simple: list[bytes] = []
        odd: list[bytes] = []
        for path in paths:
            (odd if b"\n" in path or b"\\" in path else simple).append(path)
        for command, group in (("sums", simple), ("each_sum", odd)):
            for batch in batches(group):
                _, text = await self.ask(command, *_dotted(batch))
                lines = text.splitlines()
                if len(lines) != len(batch):
                    raise self._refused(f"a line for each of {len(batch)} names", text)
                found.update((path, line[:64]) for path, line in zip(batch, lines, strict=True) if len(line) >= 64)
        return found

    async def links(self, paths: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return where each link leads; what is none is left out."""
        found: dict[bytes, bytes] = {}
        for batch in batches(paths):
            _, text = await self.ask("links", *_dotted(batch))
            targets = text.split(b"\0")[:-1]
            if len(targets) != len(batch):
                raise self._refused(f"a NUL for each of {len(batch)} names", text)
            found.update((path, line[:-1]) for path, line in zip(batch, targets, strict=True) if line)
        return found

    def beat(self) -> None:
        """Begin, or go on, to give signs of life."""
        self._channel.send(b"%-11d\n" % 0)
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self.beat)

    def stop(self) -> None:
        """Stop the signs of life."""
        if self._timer is not None:
            self._timer.cancel()

    def _send(self, data: bytes) -> None:
        self._channel.send(b"%-11d\n%s" % (len(data), data))

    async def _fill(self) -> None:
        data = await self._channel.read()
        if data:
            self._inbox += data
            return
        errors = b""
        with anyio.move_on_after(1):
            errors = await self._channel.read_stderr()
        evidence = last_lines(bytes(self._inbox[-4096:]) + errors)
        raise ConnectionLost(self.remote.node.name, "our script on the node ended without an answer", "", evidence)

    def _parse(self, line: bytes) -> Found:
        try:
            return Found.parse(line)
        except ValueError:
            raise self._refused("what stat says of a name", line) from None

    def _refused(self, expected: str, came: bytes) -> ProtocolError:
        what = f"the answer to {self._asked!r} is not what our script prints: {expected} was expected"
        return ProtocolError(self.remote.node.name, what, "", one_line(came))


def _dotted(paths: list[bytes]) -> list[bytes]:
    return [b"./" + path for path in paths]
