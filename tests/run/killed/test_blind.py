"""J13: who cannot look whether something lives does not say that it has ended."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import job_status, start_job, stop_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandTimeout, ProgramFailed
from tests.support.beds.keeper import children
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.programs.holders import no_descriptors
from tests.support.programs.stubborn import STUBBORN, living, until_gone, until_written
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root

UserNode = Callable[..., SshdNode]
# /proc is an empty folder for all that is started here, as where nobody mounted one.
NO_PROC = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec sh -c "$1"', "sh")


def worker_of(remote: ShellRemote) -> int:
    return children(remote.channels[0].process.pid)[0]


async def test_j13_a_timeout_without_proc(tmp_path: Path) -> None:
    need_root()
    need("unshare")
    async with ShellRemote(tmp_path / "home", shell=NO_PROC) as remote:
        await run_command(remote, "true", check=True)
        try:
            with pytest.raises(CommandTimeout, match=r"that it has ended cannot be proven \(") as caught:
                await run_command(remote, Command(STUBBORN + "sleep 300", timeout_s=2))
            assert living(remote.home), "some are in no group that we know"
            assert not caught.value.ended
            assert any("cannot be proven: " in text for text in notes(remote.events))
        finally:
            for pid in living(remote.home):
                os.kill(pid, signal.SIGKILL)


async def test_j13_no_descriptor_is_left_for_the_sweep(user_node: UserNode) -> None:
    """It is tried again until it can be done; who asked is told that it was not confirmed."""
    need_root()
    sshd = user_node("bash", root=True)
    async with at(sshd) as remote:
        await run_command(remote, "true")
        run = asyncio.create_task(run_command(remote, Command(STUBBORN + "sleep 300", timeout_s=5)))
        pids = await until_written(sshd.home)
        worker = next(pid for pid in sshd.processes() if set(pids) & set(children(pid)))
        with no_descriptors(worker):
            with pytest.raises(CommandTimeout, match="the node did not confirm its end") as caught:
                await run
            assert not caught.value.ended
            assert living(sshd.home)
        await until_gone(pids)


async def test_j13_a_job_is_not_lost_because_nobody_can_look(tmp_path: Path) -> None:
    """Neither its files nor the processes can be read: that is what is said, and a moment later it runs as before."""
    async with ShellRemote(tmp_path / "home") as remote:
        await run_command(remote, "true")  # makes the worker a keeper, so that its pid is known
        job = await start_job(remote, "sleep 300", name="sleeper")
        try:
            with no_descriptors(worker_of(remote)), pytest.raises(ProgramFailed, match="Too many open files"):
                await job_status(remote, job)
            assert (await job_status(remote, job)).state == "running"
        finally:
            assert (await stop_job(remote, job, grace_s=0)).ended
