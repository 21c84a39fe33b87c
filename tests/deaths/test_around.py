"""What is around a launch dies or stands still: the client, sshd, our workers. No rank feels it, no word is false."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence

import pytest

import asyncdeploy as ad
from tests.support.beds.client import client
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths import victims
from tests.support.events import notes
from tests.support.launched import launched
from tests.support.programs.holders import kill, named
from tests.support.waiting import eventually, is_alive

SILENCE_S = 1.5
NODES = "nodes = [Node.from_dict(each) for each in json.loads(args[0])]"
WAIT = f"{NODES}; print((await wait_launch(await find_launch(nodes, args[1], pool=pool), pool=pool)).ok)"


def let_go(nodes: Sequence[SshdNode]) -> None:
    for sshd in nodes:
        (sshd.home / "project" / "go").touch()


def leaders(nodes: Sequence[SshdNode]) -> list[list[int]]:
    return [victims.find(sshd, "leader") for sshd in nodes]


@pytest.mark.parametrize("how", [["KILL"], ["TERM"], ["STOP", "CONT"]], ids=" ".join)
async def test_a_client_that_dies_or_sleeps_stops_no_rank(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace, how: list[str]
) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, workspace) as (pool, launch, _):
        running, ours = leaders(nodes), len(victims.find(nodes[0], "worker"))
        asked = json.dumps([sshd.node.to_dict() for sshd in nodes])
        async with client(nodes[0], WAIT, asked, launch.id) as process:
            await eventually(lambda: len(victims.find(nodes[0], "worker")) > ours, "it waits, over a worker of its own")
            process.send_signal(signal.Signals[f"SIG{how[0]}"])
            if how[1:]:
                await asyncio.sleep(SILENCE_S)
                process.send_signal(signal.SIGCONT)
            else:
                await process.wait()
            assert leaders(nodes) == running
            let_go(nodes)
            assert (await ad.wait_launch(launch, pool=pool)).ok, "whoever asks later is told the truth"
            out, _ = await process.communicate()
            assert out == (b"True\n" if how[1:] else b"")


@pytest.mark.parametrize("how", ["dies", "stands still"])
async def test_an_sshd_that_dies_or_stands_still_stops_no_rank(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace, how: str
) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, workspace) as (pool, launch, _):
        running = leaders(nodes)
        watching = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        for sshd in nodes:
            if how == "dies":
                os.kill(sshd.pid, signal.SIGKILL)
                sshd.end_sessions(signal.SIGKILL)
            else:
                victims.send([sshd.pid, *sshd.sessions()], signal.SIGSTOP)
        await asyncio.sleep(SILENCE_S)
        for sshd in nodes:
            if how == "dies":
                sshd.restart()
            else:
                victims.send([sshd.pid, *sshd.sessions()], signal.SIGCONT)
        assert leaders(nodes) == running
        let_go(nodes)
        assert (await watching).ok


@pytest.mark.parametrize("how", ["KILL", "STOP"])
async def test_workers_that_die_or_hang_stop_no_rank(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace, hasty: None, how: str
) -> None:
    nodes = sshd_nodes[:2]
    async with launched(nodes, workspace) as (pool, launch, seen):
        running = leaders(nodes)
        watching = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        await asyncio.sleep(0.5)
        found = [pid for sshd in nodes for pid in victims.find(sshd, "worker")]
        victims.send(found, signal.Signals[f"SIG{how}"])
        try:
            assert leaders(nodes) == running
            let_go(nodes)
            assert (await watching).ok, "it is asked on, over a new one"
            assert not notes(seen, "are stopped")
        finally:
            victims.send(found, signal.SIGCONT)


async def test_a_run_that_nobody_holds_goes_on_and_is_unknown(sshd_nodes: Sequence[SshdNode], hasty: None) -> None:
    """Worker and keeper are killed at once: nobody is left who could end it, and nobody says that it has ended."""
    sshd = sshd_nodes[0]
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd.known_hosts)) as pool:
        running = asyncio.create_task(ad.run_command(pool.at(sshd.node), "exec sleep 97532"))
        (run,) = await eventually(lambda: [pid for pid, line in sshd.processes().items() if line == "sleep 97532"])
        kill(*victims.find(sshd, "worker"), *named(sshd, "adeploy-keeper"))
        with pytest.raises(ad.ConnectionLost):
            await running
        assert is_alive(run)
        os.kill(run, signal.SIGKILL)
