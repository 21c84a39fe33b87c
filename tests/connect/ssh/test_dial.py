"""TCP to the first of several addresses."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from asyncdeploy.connect.ssh.dial import dial

Address = tuple[int, Any]


@pytest.fixture
def listening() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield socket.AF_INET, server.getsockname()


@pytest.fixture
def refusing() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.AF_INET, server.getsockname()


@pytest.fixture
def deaf() -> Iterator[Address]:
    """A listener whose queue is full: the kernel drops what else comes, as a firewall does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        yield socket.AF_INET, server.getsockname()
        for filler in fillers:
            filler.close()


async def test_one_address_is_dialled(listening: Address) -> None:
    with await dial([listening]) as sock:
        assert sock.getpeername() == listening[1]


async def test_a19_a_refusing_address_gives_way_to_the_next(refusing: Address, listening: Address) -> None:
    with await dial([refusing, listening]) as sock:
        assert sock.getpeername() == listening[1]


async def test_a19_a_deaf_address_does_not_hold_up_the_next(deaf: Address, listening: Address) -> None:
    async with asyncio.timeout(10):
        with await dial([deaf, listening]) as sock:
            assert sock.getpeername() == listening[1]


async def test_where_none_answers_the_first_error_is_told(refusing: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        await dial([refusing, (socket.AF_INET6, ("::1", refusing[1][1])), refusing])


async def test_a_cancelled_dial_leaves_no_socket(deaf: Address) -> None:
    for addresses in ([deaf], [deaf, deaf, deaf]):
        task = asyncio.create_task(dial(addresses))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
