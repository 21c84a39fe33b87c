"""Waiting until machines that boot can be reached: what a booting box lacks at first is no failure."""

from __future__ import annotations

import asyncio

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.fleet.arguments import Nodes, lent_pool
from asyncdeploy.nodes.parallel import AT_ONCE, map_nodes
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Report
from asyncdeploy.run.attached import run_command
from asyncdeploy.tasks.progress import last_seen, track_progress
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import AuthError, ConnectError, DeployError, HostKeyError, NoShell

LOOK_S = 2.0
"""Between two tries to reach a node that boots."""
TRY_S = 20.0
"""One try: a machine that swallows what is sent to it must not keep the others from their turn."""
FIRST_LOGIN_S, LONGEST_LOGIN_S = 5.0, 60.0
"""Between two logins that are refused, doubling from the second on: sshd (PerSourcePenalties, since 9.8) forgives a
refused login in 5 s and shuts us out from three that it has not forgiven; fail2ban counts five in ten minutes."""
LAST_TRY_S = 2.0
"""Before the deadline a last try still ends; where less time was asked for, the half of what is left must do."""


@checked
async def wait_ready(
    nodes: Nodes, *, timeout_s: float, at_once: int = AT_ONCE, pool: Pool | None = None
) -> Report[None]:
    """Wait until each node lets us in and runs a command: for freshly booted machines.

    What is not there yet is waited for: the address, the name, the port, sshd's first word, the key in authorized_keys
    (a refused login is tried again after 5 s at the soonest), the home folder and the login shell.

    Args:
        nodes: the nodes.
        timeout_s: seconds until a node that did not is a failure, with what was last seen of it.
        at_once: how many are asked at a time.
        pool: the connections.

    Failures at once are an unknown or changed host key, which must not be mended by waiting, and what is wrong on this
    side: ssh_config, a key_path that cannot be used, too many open files.
    """
    fleet, end = parse_nodes(nodes), asyncio.get_running_loop().time() + timeout_s
    turns = asyncio.Semaphore(at_once)
    async with lent_pool(pool) as lent:

        async def work(node: Node) -> None:
            await _Waiting(lent, node, turns, end, timeout_s).run()

        # All of them wait; only who asks needs a turn, or those that never come would keep the others out.
        return await map_nodes(fleet, work, at_once=len(fleet))


class _Waiting:
    """One node until it is ready."""

    def __init__(self, pool: Pool, node: Node, turns: asyncio.Semaphore, end: float, timeout_s: float) -> None:
        self._pool = pool
        self._node = node
        self._turns = turns
        self._end = end
        self._timeout_s = timeout_s
        self._progress = track_progress()
        self._refusals = 0
        self._seen: DeployError | None = None
        self._is_last = False

    async def run(self) -> None:
        """Return when it is ready.

        Raises:
            DeployError: it was not in time; the last thing that it said.
        """
        while True:
            error = await self._try()
            if error is None:
                return
            if _is_final(error):
                raise error
            self._seen = error
            pause = self._pause(error)
            if pause is None:
                raise attrs.evolve(
                    error, message=f"not ready within {self._timeout_s:g} s; last seen: {error.message}"
                ) from error
            if isinstance(error, NoShell):  # sshd asks the account and its forced commands once a connection
                await self._pool.drop(self._node)
            await asyncio.sleep(pause)

    def _pause(self, error: DeployError) -> float | None:
        """Return how long to wait before the next try; None if there is no time for one."""
        left, pause = self._end - asyncio.get_running_loop().time(), LOOK_S
        if self._is_last or left <= 0:
            return None
        if isinstance(error, AuthError):
            self._refusals += 1
            pause = _login_pause(self._refusals)
            if FIRST_LOGIN_S <= left - LAST_TRY_S < pause:
                return left - LAST_TRY_S
            if pause >= left and self._refusals > 1:  # two that follow each other closely are forgiven, three are not
                return None
        if pause < left:
            return pause
        self._is_last = True
        return max(left - LAST_TRY_S, left / 2)

    async def _try(self) -> DeployError | None:
        """Run a command, and return why it did not succeed."""
        try:
            async with asyncio.timeout_at(self._end), self._turns, asyncio.timeout(TRY_S):
                (await run_command(self._pool.at(self._node), Command("true"))).check()
                return None
        except TimeoutError:
            if self._seen is not None and asyncio.get_running_loop().time() >= self._end:
                return self._seen  # what an earlier try ended with tells more than where the last one was
            seen = last_seen(self._progress).removeprefix("last seen: ")
            return ConnectError(self._node.name, seen, reason="timeout")
        except DeployError as error:
            return error


def _is_final(error: DeployError) -> bool:
    """Return whether waiting does not mend it, or must not."""
    if isinstance(error, ConnectError):
        return error.reason in ("config", "local") and not error.passing
    return isinstance(error, HostKeyError) or (isinstance(error, AuthError) and not error.asked)


def _login_pause(refusals: int) -> float:
    """Return how long to wait after so many refused logins: 5 s, 5 s, 10 s, ..."""
    return min(FIRST_LOGIN_S * 2.0 ** max(0, refusals - 2), LONGEST_LOGIN_S)
