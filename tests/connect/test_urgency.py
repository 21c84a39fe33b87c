"""Stopping never queues behind waiting: what ends something has slots of its own on each node."""

import asyncio
import contextlib
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.run.jobs import job_status, start_job, stop_job
from asyncdeploy.tasks.urgency import urgently
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]


@pytest.mark.parametrize("sessions", [10, 4, 2, 1])
async def test_j4_a_stop_does_not_wait_for_who_follows(start_sshd: StartSshd, sessions: int) -> None:
    """Twelve who follow logs that do not grow hold all slots; a status and a stop go ahead of them."""
    sshd = start_sshd("busy", config={"MaxSessions": str(sessions)})
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool, asyncio.TaskGroup() as group:
        remote = pool.at(sshd.node)
        job = await start_job(remote, "sleep 999", name="train")

        async def follow() -> None:
            async with follow_job(remote, job) as log:
                async for _ in log:
                    pass

        followers = [group.create_task(follow()) for _ in range(12)]
        await asyncio.sleep(1)  # until they hold what there is; fewer would only make the test milder
        with anyio.fail_after(20):
            assert (await job_status(remote, job)).state == "running"
            assert (await stop_job(remote, job, grace_s=1)).state == "signalled"
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*followers)


async def test_who_is_in_a_hurry_goes_ahead_of_the_queue(start_sshd: StartSshd) -> None:
    sshd = start_sshd("busy", config={"MaxSessions": "1"})
    came: list[str] = []
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool, anyio.create_task_group() as group:
        remote = pool.at(sshd.node)
        held = [await remote.open("cat") for _ in range(2)]

        async def line(name: str) -> None:
            channel = await remote.open("true")
            came.append(name)
            await channel.close()

        for number in range(3):
            group.start_soon(line, f"patient {number}")
            await anyio.lowlevel.checkpoint()
        with urgently(), anyio.fail_after(20):
            await line("hurried")  # over a connection that is made for it
        assert came == ["hurried"]
        for channel in held:
            await channel.close()
    assert sorted(came[1:]) == ["patient 0", "patient 1", "patient 2"]
