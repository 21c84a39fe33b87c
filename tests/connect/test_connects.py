"""Connects that are cancelled, or fail by what no connector should raise: nobody hangs, and nothing complains later."""

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Callable
from typing import Never

import attrs
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Route
from asyncdeploy.values.errors import ConnectError, DeployError
from tests.support.beds.sshd_node import SshdNode

CANCELS = 50


def to_one(sshds: tuple[SshdNode, ...]) -> tuple[Node, ...]:
    return (sshds[0].node,)


def through_a_jump_host(sshds: tuple[SshdNode, ...]) -> tuple[Node, ...]:
    return tuple(attrs.evolve(sshds[1].node, jump=sshds[0].node, name=f"behind-{number}") for number in range(3))


def to_one_that_refuses(sshds: tuple[SshdNode, ...]) -> tuple[Node, ...]:
    return (attrs.evolve(sshds[0].node, user="nobody-of-this-name"), sshds[1].node)


@pytest.mark.parametrize("nodes_of", [to_one, through_a_jump_host, to_one_that_refuses])
async def test_r16_cancelled_connects_leave_no_error_that_nobody_reads(
    sshd_nodes: tuple[SshdNode, ...], nodes_of: Callable[[tuple[SshdNode, ...]], tuple[Node, ...]]
) -> None:
    """The loop would say "Future exception was never retrieved", some time later, without a hint of whose it is."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
    nodes, dice = nodes_of(sshd_nodes), random.Random(16)

    async def ask(pool: Pool, node: Node) -> None:
        with contextlib.suppress(DeployError):
            await (await pool.at(node).open("true")).close()

    async def connect() -> None:
        async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
            await asyncio.gather(*(ask(pool, node) for node in nodes for _ in range(3)))

    start = time.monotonic()
    await connect()
    took = time.monotonic() - start
    for _ in range(CANCELS):
        task = asyncio.ensure_future(connect())
        await asyncio.wait((task,), timeout=dice.random() * took)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
    for _ in range(3):  # what is only collected now would complain now
        await asyncio.sleep(0)
        gc.collect()
    assert complaints == []


class Slip:
    """A connector that raises what none may raise."""

    def __init__(self) -> None:
        self.connects = 0

    async def resolve(self, node: Node) -> Route:
        return Route(node.host, 22, None)

    async def connect(self, node: Node, through: Connection | None = None) -> Never:
        self.connects += 1
        await asyncio.sleep(0.05)
        raise RuntimeError("a slip\x1b[2J")


@pytest.mark.parametrize("limits", [Limits(), Limits(connections_per_node=1, channels_per_connection=1)])
async def test_a_connect_that_fails_by_no_error_of_ours_leaves_nobody_waiting(limits: Limits) -> None:
    connector = Slip()
    node = Node("127.0.0.1", name="here")
    async with Pool(connector=connector, limits=limits) as pool:
        waiting = [pool.at(node).open("true") for _ in range(20)]
        with pytest.raises(ConnectError, match="connecting raised RuntimeError: a slip") as caught:
            async with asyncio.timeout(20):
                await asyncio.gather(*waiting[:1])
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "\x1b" not in str(caught.value)
        connector.connects = 0
        async with asyncio.timeout(20):
            failed = await asyncio.gather(*waiting[1:], return_exceptions=True)
        assert connector.connects == 1  # one for all who wait
        assert {type(error) for error in failed} == {ConnectError}
