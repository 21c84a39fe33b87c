"""An SSH server that changes what it sends: a byte on the wire, or a packet before it is sealed."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh

Mangle = Callable[[bytes], bytes]


def mangler(dice: random.Random) -> Mangle:
    """Something that may be wrong with some bytes."""

    def flip(data: bytes) -> bytes:
        place = dice.randrange(len(data)) if data else 0
        return data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :]

    def cut(data: bytes) -> bytes:
        return data[: dice.randrange(len(data) + 1)]

    def grow(data: bytes) -> bytes:
        return data + dice.randbytes(dice.choice((1, 7, 5000)))

    def lengthen(data: bytes) -> bytes:
        place = dice.randrange(max(1, len(data) - 4))
        return data[:place] + dice.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")) + data[place + 4 :]

    def unlike_text(data: bytes) -> bytes:
        return bytes(letter | 0x80 if dice.random() < 0.3 else letter for letter in data)

    return dice.choice((flip, cut, grow, lengthen, unlike_text))


class Mad(asyncssh.SSHServer):
    """Lets everybody in, and changes one of the first packets of each connection: which one is the seed's to say."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        place, mangle, count = self._dice.randrange(14), mangler(self._dice), 0
        send = conn.send_packet

        def send_packet(pkttype: int, *args: bytes, **options: Any) -> None:
            nonlocal count
            body, count = b"".join(args), count + 1
            if count - 1 == place:
                if self._dice.random() < 0.15:
                    pkttype = self._dice.choice((1, 2, 3, 4, 6, 7, 20, 21, 30, 31, 51, 52, 53, 60, 80, 90, 91, 94, 200))
                body = mangle(body)
            send(pkttype, body, **options)

        conn.send_packet = send_packet  # type: ignore[method-assign]

    def begin_auth(self, username: str) -> bool:
        self._dice.random()
        return False


class _Flipping(asyncio.Protocol):
    """Stands before a server's protocol and changes one stretch of what it says."""

    def __init__(self, inner: Any, seed: int) -> None:
        self._inner = inner
        self._dice = random.Random(seed)
        self._at = self._dice.randrange(3000)
        self._mangle = mangler(self._dice)
        self._said = 0

    def connection_made(self, transport: Any) -> None:
        write = transport.write

        def changed(data: bytes) -> None:
            start, self._said = self._said, self._said + len(data)
            if start <= self._at < self._said:
                place = self._at - start
                data = data[:place] + self._mangle(data[place : place + 64]) + data[place + 64 :]
            write(data)

        transport.write = changed
        self._inner.connection_made(transport)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> Any:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


class _Wires:
    """What asyncssh takes for a tunnel: listens, and puts a flipping wire before each connection."""

    def __init__(self, first: int) -> None:
        self._next = first
        self.port = 0

    async def create_server(self, accept: Callable[[str, int], Any], host: str, port: int) -> asyncio.Server:
        def make() -> _Flipping:
            self._next += 1
            return _Flipping(accept("", 0), self._next)

        server = await asyncio.get_running_loop().create_server(make, host, port)
        self.port = server.sockets[0].getsockname()[1]
        return server


@asynccontextmanager
async def mad_server(seed: int, *, on_the_wire: bool) -> AsyncIterator[int]:
    """Yield the port of a server whose n-th connection goes wrong in a way of its own.

    on_the_wire: bytes are changed as they leave; else packets before they are sealed, so that they count as sound.
    """
    seeds = iter(range(seed, 1 << 40))
    wires = _Wires(seed)
    key = asyncssh.generate_private_key("ssh-ed25519")

    def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(b"in\n")
        process.exit(0)

    options: dict[str, Any] = {"tunnel": wires} if on_the_wire else {}
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: Mad(next(seeds)) if not on_the_wire else Mad.__base__(),
        server_host_keys=[key],
        process_factory=answer,
        encoding=None,
        config=None,
        kex_algs=["curve25519-sha256"],
        **options,
    )
    try:
        yield wires.port or acceptor.get_port()
    finally:
        acceptor.close()
        await acceptor.wait_closed()
