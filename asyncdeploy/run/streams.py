"""A command's streams: what it reads, in blocks; what it prints, captured within bounds, into files, as lines."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from asyncdeploy.remote.transport import Remote
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.tasks.turns import Turns
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.events import Noted, OutputLine
from asyncdeploy.values.regex import regex

KEEP = 1 << 20
"""Bytes kept of a stream's head and of its tail: enough for any traceback, nothing for a flood."""
MAX_LINE = 64 * 1024
"""A longer line is shown in pieces: one without an end must not fill the memory."""

_LINE_END = regex(rb"\r\n|\n|\r")

SHOWN_AT_END = 1000
"""Lines shown of what comes while a command is ended: last words, but no flood."""

Stream = Literal["stdout", "stderr"]


class HeadTail:
    """The first and the last MiB of a stream: a flood (fault C4: 5 GB) costs 2 MiB, and both ends tell most.

    Attributes:
        dropped: how many bytes in the middle are gone.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Take the stream's next bytes."""
        if room := self._keep - len(self._head):
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        # Whole pieces, as they came: cutting the tail to size would copy it anew for every one of them.
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size > self._keep:
            first = self._tail.popleft()
            excess = min(len(first), self._tail_size - self._keep)
            self.dropped += excess
            self._tail_size -= excess
            if excess < len(first):
                self._tail.appendleft(first[excess:])

    def value(self) -> bytes:
        """Return what is kept, the gap marked: nobody must take two ends for a whole."""
        gap = b"\n... [%d bytes dropped] ...\n" % self.dropped if self.dropped else b""
        return bytes(self._head) + gap + b"".join(self._tail)


class LineCutter:
    """Bytes in, whole lines of text out; a carriage return alone ends a line too, as progress bars use it.

    Between two calls it keeps at most MAX_LINE bytes.
    """

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes, *, final: bool = False) -> list[str]:
        """Return the lines that these bytes completed; with ``final`` the unfinished one as well."""
        return [line for line, _ in self.cut(data, final=final)]

    def cut(self, data: bytes, *, final: bool = False) -> list[tuple[str, int]]:
        """Return the same lines, each with the number of bytes that it was, its end among them."""
        data = self._rest + data
        # Nearly all output has no CR, and then split is seven times as fast as a search for three kinds of ends.
        cut = [(line, len(line) + 1) for line in data.split(b"\n")] if b"\r" not in data else _cut(data, final=final)
        self._rest = cut.pop()[0]
        while len(self._rest) > MAX_LINE:
            size = MAX_LINE
            while size > MAX_LINE - 4 and self._rest[size] & 0xC0 == 0x80:  # not inside a character (fault C7)
                size -= 1
            cut.append((self._rest[:size], size))
            self._rest = self._rest[size:]
        if final and self._rest:
            cut.append((self._rest, len(self._rest)))
            self._rest = b""
        return [(line.decode("utf-8", "replace"), size) for line, size in cut]


def _cut(data: bytes, *, final: bool) -> list[tuple[bytes, int]]:
    """Cut at CR LF, CR and LF; what stands behind the last of them comes last."""
    start, cut = 0, []
    for found in _LINE_END.finditer(data):
        if found[0] == b"\r" and found.end() == len(data) and not final:
            break  # half of a CR LF, perhaps
        cut.append((data[start : found.start()], found.end() - start))
        start = found.end()
    return [*cut, (data[start:], 0)]


class Output:
    """Where the output of one command goes: captured, into files, as events. A context: its files are open meanwhile.

    Attributes:
        is_ending: set when the command is being ended: a flood is then no longer shown line by line, which takes longer
            than the command's end may.
        unshown: how many lines were not.

    Raises:
        TransferFailed: a local file cannot be opened, on entering.
    """

    def __init__(self, remote: Remote, command: Command, source: str = "") -> None:
        self._remote = remote
        self._source = source
        self._kept: dict[Stream, HeadTail] = {"stdout": HeadTail(), "stderr": HeadTail()}
        self._cutters: dict[Stream, LineCutter] = {"stdout": LineCutter(), "stderr": LineCutter()}
        self._paths: dict[Stream, Path | None] = {"stdout": command.stdout_to, "stderr": command.stderr_to}
        self._input = command.stdin
        self._files: dict[Stream, BinaryIO] = {}
        self._turns = Turns()
        self._shown = 0
        self.is_ending = False
        self.unshown = 0

    def __enter__(self) -> Self:
        for stream, path in self._paths.items():
            if path is not None:
                if isinstance(self._input, Path) and _are_same(path, self._input):
                    self._close()
                    raise self._not_taken(stream, "it is what the command reads")
                if self._files and _are_same(path, self._files["stdout"].fileno()):
                    self._files[stream] = self._files["stdout"]  # as 2>&1 does; two would overwrite each other's lines
                    continue
                try:
                    # Without a buffer: what has come is there for whoever looks, and if we are killed it is not lost.
                    self._files[stream] = path.open("wb", buffering=0)
                except OSError as error:
                    self._close()
                    raise self._not_taken(stream, error.strerror or str(error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._remote.observed:
            for stream, cutter in self._cutters.items():
                for line in cutter.add(b"", final=True):
                    self._emit(stream, line)
            if self.unshown:
                text = f"{self.unshown} lines that came while the command was ended are not shown"
                self._remote.emit(Noted(node=self._remote.node.name, text=text))
        self._close()

    async def add(self, stream: Stream, data: bytes) -> None:
        """Take a stream's next bytes; others have their turn between its lines.

        Raises:
            TransferFailed: the local file does not take them.
        """
        self._kept[stream].add(data)  # first: where the file does not take it, this is the error's evidence
        if file := self._files.get(stream):
            view = memoryview(data)  # a file without a buffer may take a part only
            try:
                while view:
                    view = view[file.write(view) :]
            except OSError as error:
                raise self._not_taken(stream, error.strerror or str(error)) from error
        if not self._remote.observed:
            return
        if self.is_ending and self._shown > SHOWN_AT_END:
            self.unshown += data.count(b"\n")
            return
        for line in self._cutters[stream].add(data):
            self._emit(stream, line)
            if self._turns.over():
                await self._turns.next()

    def value(self, stream: Stream) -> bytes:
        """Return what is kept of a stream."""
        return self._kept[stream].value()

    @property
    def dropped(self) -> int:
        """Bytes left out of both streams."""
        return sum(kept.dropped for kept in self._kept.values())

    def _emit(self, stream: Stream, text: str) -> None:
        self._shown += self.is_ending
        self._remote.emit(OutputLine(node=self._remote.node.name, stream=stream, text=text, source=self._source))

    def _not_taken(self, stream: Stream, why: str) -> TransferFailed:
        path = str(self._paths[stream])
        what = f"{stream}_to: {path} on this machine cannot be written: {why}"
        return TransferFailed(self._remote.node.name, what, path=path)

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


INPUT_BLOCK = 256 * 1024
"""Bytes of input in one frame, which may hold four times as much."""


class Input:
    """What a command reads, in blocks. A context: its file is open meanwhile.

    Args:
        node: the node's name, for errors.
        stdin: bytes, a local file, or None for none.

    Raises:
        TransferFailed: the file cannot be opened, on entering; or read, later; or it changed meanwhile: half of an old
            model and half of a new one, or an end that is missing, is no input.
    """

    def __init__(self, node: str, stdin: bytes | Path | None) -> None:
        self._node = node
        self._path = stdin if isinstance(stdin, Path) else None
        self._bytes = stdin if isinstance(stdin, bytes) else b""
        self._at = 0
        self._file: BinaryIO | None = None
        self._opened: tuple[int, int] = 0, 0  # its size and its time of change

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                # A pipe without a writer would hold us at its open, and the thread that reads it for ever.
                fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise self._unreadable(error.strerror or str(error)) from error
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise self._unreadable("a regular file was expected")
            self._file = os.fdopen(fd, "rb", buffering=0)
            self._opened = _state(fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def next_block(self) -> bytes:
        """Return the next block, b"" at the end; a file is read in a thread, for it may lie on a slow disk."""
        if self._file is None:
            start, self._at = self._at, self._at + INPUT_BLOCK
            return self._bytes[start : self._at]
        try:
            block = await run_in_thread(self._file.read, INPUT_BLOCK)
            if not block and _state(self._file.fileno()) != self._opened:
                raise self._unreadable("it changed while it was read")
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        return block

    def _unreadable(self, why: str) -> TransferFailed:
        what = f"stdin: {self._path} on this machine cannot be read: {why}"
        return TransferFailed(self._node, what, path=str(self._path))


def _are_same(path: Path, other: Path | int) -> bool:
    """Return whether a path leads to the same file as another one or a descriptor, under whatever names."""
    try:
        return os.path.samestat(path.stat(), os.stat(other))  # noqa: PTH116 - it may be a descriptor
    except OSError:  # it is still to be made
        return False


def _state(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns
