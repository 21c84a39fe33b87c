"""J13 on nodes without python3: the shell that runs a line for us is killed, or the one that listens for us."""

import asyncio
import os
import signal

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.values.errors import ConnectionLost
from tests.support.beds.keeper import children
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.stubborn import STUBBORN, until_gone, until_written


@pytest.mark.parametrize("who", ["runner", "listener"])
async def test_j13_nothing_stays_behind_a_shell_that_is_killed(plain_sshd: SshdNode, who: str) -> None:
    async with at(plain_sshd) as remote:
        run = asyncio.create_task(run_command(remote, STUBBORN + "sleep 300"))
        pids = await until_written(plain_sshd.home)
        runner = next(pid for pid in plain_sshd.processes() if set(pids) & set(children(pid)))
        (keeper,) = set(children(runner)) - set(pids)
        (listener,) = children(keeper)
        os.kill(runner if who == "runner" else listener, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            await run
        await until_gone(pids)
