"""A connection that goes dead without a word, and a worker that hangs: neither is waited for."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.launch import find_launch, preflight
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import job_status, start_job, stop_job
from asyncdeploy.values.errors import ConnectionLost, LaunchFailed
from tests.support.beds.sshd_node import SshdNode
from tests.support.odd_nodes import hung
from tests.support.waiting import BACK_S, PATIENCE_S

StartSshd = Callable[..., SshdNode]


@pytest.fixture
def sshd(start_sshd: StartSshd) -> Iterator[SshdNode]:
    """A node whose sessions may be stopped by the test; they go on at its end, so that they can end."""
    sshd = start_sshd("mute")
    yield sshd
    for pid in [*sshd.sessions(), *sshd.processes()]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def test_r5_a_connection_that_went_dead_is_not_used_for_what_comes_next(sshd: SshdNode) -> None:
    """What runs over it is not given up: it may be a nap; the next call goes over a new one, long before keepalive."""
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        held = await remote.open("exec cat")
        assert (await run_command(remote, "echo one")).text == "one"
        sshd.end_sessions(signal.SIGSTOP)
        with anyio.fail_after(20):  # 45 s and more if only the keepalive told
            idle = await remote.open("echo two")
            assert await idle.read() == b"two\n"
            await idle.close()
        await held.close()


async def test_a_cancel_in_the_turn_in_which_a_silent_connection_is_left_is_not_lost() -> None:
    """It was, and the call went on to the next connection as if nobody had cancelled it."""
    async with LocalCluster(1) as cluster, cluster.pool() as pool:
        remote = pool.at(cluster.nodes[0])
        assert (await run_command(remote, "true")).ok
        cluster.freeze(cluster.nodes[0])
        task = asyncio.ensure_future(remote.open("true"))
        with anyio.fail_after(PATIENCE_S):
            while not any(other.cancelling() for other in asyncio.all_tasks()):  # what asks the silent one is
                await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=BACK_S)
        task.cancel()
        assert done
        assert task.cancelled()


async def test_r5_a_worker_that_hangs_is_given_up(sshd: SshdNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdeploy.remote.worker.HEARTBEAT_S", 0.2)
    monkeypatch.setattr("asyncdeploy.remote.worker.SILENCE_S", 1.0)
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        job = await start_job(remote, "sleep 999", name="train")
        with hung.workers(sshd), anyio.fail_after(20):
            with pytest.raises(ConnectionLost, match="our worker on the node has hung"):
                await run_command(remote, "true")
        assert (await job_status(remote, job)).state == "running"  # by a worker that lives
        await stop_job(remote, job, grace_s=1)


async def test_r5_a_question_about_a_job_leaves_a_worker_that_hangs(
    sshd: SshdNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It spent the whole time of the call, though another worker on that node would have answered at once."""
    monkeypatch.setattr("asyncdeploy.run.job_ask.ANSWER_S", 1.0)
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        job = await start_job(remote, "sleep 999", name="train")
        with hung.workers(sshd), anyio.fail_after(30):
            assert (await job_status(remote, job)).state == "running"
        assert (await stop_job(remote, job, grace_s=1)).state == "signalled"


async def test_r5_nodes_that_hang_keep_no_preflight_waiting(sshd: SshdNode) -> None:
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        assert (await run_command(pool.at(sshd.node), "true")).ok
        with hung.workers(sshd), anyio.fail_after(30):
            verdict = await preflight(sshd.node, at_most_s=1, pool=pool)
        assert (await run_command(pool.at(sshd.node), "true")).ok
        with hung.workers(sshd), anyio.fail_after(30), pytest.raises(LaunchFailed, match="1 did not answer"):
            await find_launch(sshd.node, "train-abcdefgh", at_most_s=1, pool=pool)
        assert [problem.node for problem in verdict.problems] == [sshd.node.name]


async def test_a_worker_that_works_for_long_is_not_taken_for_one_that_hangs(
    start_sshd: StartSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd = start_sshd("slow", config={"SetEnv": "ASYNCDEPLOY_SILENCE_S=1.2"})  # it signs its life six times as often
    monkeypatch.setattr("asyncdeploy.remote.worker.HEARTBEAT_S", 0.2)
    monkeypatch.setattr("asyncdeploy.remote.worker.SILENCE_S", 1.0)
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        assert (await run_command(pool.at(sshd.node), "sleep 4; echo done")).text == "done"
