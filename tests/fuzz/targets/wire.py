"""What stands on a worker's wire, on the link between two nodes, and in a program's output."""

import asyncio
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from asyncdeploy.node_side.launch.link import Broken, Link
from asyncdeploy.node_side.worker import MAX_FRAME, Worker
from asyncdeploy.nodes.node import Node
from asyncdeploy.remote.frames import HEAD, Session
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.streams import MAX_LINE, HeadTail, LineCutter
from asyncdeploy.values.errors import ConnectionLost, NoShell, ProtocolError
from tests.fuzz.dough import Dough
from tests.fuzz.target import target

NONCE = "asyncdeploy-0123"


class Heard:
    """A channel on which these pieces come, and then its end."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._left = [piece for piece in pieces if piece]

    async def read(self) -> bytes:
        return self._left.pop(0) if self._left else b""

    async def read_stderr(self) -> bytes:
        return b""


def session_on(pieces: Sequence[bytes]) -> Session:
    """A session with a node that says these pieces."""
    remote = SimpleNamespace(node=Node("liar"))
    return Session(cast(Remote, remote), cast(Any, Heard(pieces)))


def cut(dough: Dough) -> list[bytes]:
    """What is left, in pieces of some size."""
    size = 1 + dough.number(255)
    data = dough.rest()
    return [data[at : at + size] for at in range(0, len(data), size)]


def whole_frames(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The frames at the front of some bytes, and whether then one too large is announced: the plain way."""
    found = []
    while len(data) >= HEAD:
        size = int.from_bytes(data[1:HEAD], "big")
        if size > MAX_FRAME:
            return found, True
        if len(data) < HEAD + size:
            break
        found.append((data[:1], data[HEAD : HEAD + size]))
        data = data[HEAD + size :]
    return found, False


@target(b"Z\0\0\0\0", b"F\0\0\0\1x", b"H\0\0\0\0", b"D\0\0\0\4abcd", b"L\0\x10\0\1", b"\0", b"\xff\xff\xff\xff")
def frames(data: bytes) -> None:
    """A node's frames are what it sent, however it was cut; else our error."""
    pieces = cut(Dough(data))
    expected, too_large = whole_frames(b"".join(pieces))
    session = session_on(pieces)

    async def read_all() -> list[tuple[bytes, bytes]]:
        found = []
        try:
            while True:
                found.append(await session.receive())
        except ProtocolError:
            assert too_large
        except ConnectionLost:
            assert not too_large
        return found

    assert asyncio.run(read_all()) == expected


@target(b"C\0\0\0\5push\0", b"H\0\0\0\0", b"+\0\0\0\0", b"P\0\0\0\3a\0x", b"\0\x10\0\1", b"\xff\xff\xff\xff")
def node_frames(data: bytes) -> None:
    """The node's end reads the same frames, without the signs of life."""
    expected, too_large = whole_frames(data)
    worker = Worker.__new__(Worker)
    worker.inbox = bytearray(data)
    found = []
    try:
        while (frame := worker.take()) is not None:
            found.append(frame)
        assert not too_large
    except SystemExit:
        assert too_large
    assert found == [frame for frame in expected if frame[0] != b"H"]


@target(NONCE.encode(), b".at", b"12345\n", b".sh\n", b".51053040 cpython-311\n", b"Welcome!\r\n", b"\n", b"\x1b[31m")
def greeting(data: bytes) -> None:
    """What a login shell prints before, around and instead of our line."""
    dough = Dough(data)
    pieces = cut(dough)
    session = session_on(pieces)
    found = re.search(re.escape(NONCE.encode()) + rb"\.at([0-9]{1,10})\n", b"".join(pieces))

    async def greet() -> None:
        try:
            assert await session.greet(NONCE) == int(found[1] if found else -1)
        except NoShell:
            assert found is None
            return
        said = await session.hear_python(NONCE, 1.0)
        assert said in ("", "sh") or re.fullmatch(r"[0-9]{1,12} [!-~]{1,60}", said)

    asyncio.run(greet())


@target(b"\r\n", b"\r", b"\n", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"50%|###", b"\x1b[2K", b"\x80")
def lines(data: bytes) -> None:
    """Lines of output: the same however it was cut, every byte counted once; a flood keeps both of its ends."""
    dough = Dough(data)
    times = 1 + dough.number(3) * 20
    pieces = cut(dough) * times
    whole = b"".join(pieces)
    cutter, kept = LineCutter(), HeadTail(100)
    found = []
    for piece in pieces:
        found += cutter.cut(piece)
        kept.add(piece)
    found += cutter.cut(b"", final=True)
    assert sum(size for _, size in found) == len(whole)
    assert all(len(line) <= MAX_LINE for line, _ in found)
    plain = re.split(rb"\r\n|\n|\r", whole)
    if max(map(len, plain)) <= MAX_LINE:
        expected = plain if plain[-1] else plain[:-1]
        assert [line for line, _ in found] == [line.decode("utf-8", "replace") for line in expected]
    value = kept.value()
    assert value == whole if not kept.dropped else (value[:100], value[-100:]) == (whole[:100], whole[-100:])


class Socket:
    """A connection on which these bytes come."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def recv(self, size: int) -> bytes:
        found, self.data = self.data[:size], self.data[size:]
        return found


@target(b"0123456789abcdef0123456789abcdef\n", b'{"rank": 1} ', b"00" * 32, b"\n", b" ", b"[" * 100)
def link(data: bytes) -> None:
    """A stranger at a launch's port is never believed; whoever knows the key is, message for message."""
    ours = Link(cast(Any, Socket(data)), b"the launch's key", True)
    try:
        while ours.sock.data:
            assert ours.hear() == []
    except Broken:
        pass  # he is gone
    hub, guest = (Link(cast(Any, Socket(b"")), b"the launch's key", is_hub) for is_hub in (True, False))
    hub.sock.data, guest.sock.data = bytes(guest.outbox), bytes(hub.outbox)
    assert hub.hear() == guest.hear() == []
    guest.outbox.clear()
    message = data[:500].decode("utf-8", "replace")
    guest.say(message)
    said = bytes(guest.outbox)
    hub.sock.data = said
    assert hub.hear() == [message]
    hub.sock.data = said  # the same again: somebody has recorded it
    try:
        raise AssertionError(f"it was believed twice: {hub.hear()}")
    except Broken:
        pass
