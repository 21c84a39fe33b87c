"""The port of the supervisors' own link is taken by a stranger between the proof and the start."""

import json
import socket
from collections.abc import Sequence

import pytest

import asyncdeploy as ad
from asyncdeploy.launch.gang import start
from asyncdeploy.launch.gang.plan import plan_launch
from asyncdeploy.values.command import Command, Secret
from asyncdeploy.values.errors import JobFailed, LaunchFailed
from asyncdeploy.values.events import Event
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes

PLAN = {"rank": 0, "name": "a", "count": 2, "names": ["a", "b"], "host": "127.0.0.1", "key": "11" * 32}


class Squatter:
    """Plans as ever; a stranger then takes the link's port, so many times."""

    def __init__(self, times: int) -> None:
        self.held: list[socket.socket] = []
        self.times = times

    async def __call__(self, *args: object) -> tuple[ad.Launch, tuple[Command, ...], int]:
        launch, commands, link_port = await plan_launch(*args)  # type: ignore[arg-type]
        if len(self.held) < self.times:
            self.held.append(socket.create_server(("", link_port)))
        return launch, commands, link_port

    def close(self) -> None:
        for each in self.held:
            each.close()


@pytest.mark.parametrize("times", [1, start.PORT_TRIES])
async def test_l13_another_port_is_tried_and_no_rank_runs_without_the_link(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    nodes, seen = sshd_nodes[:2], list[Event]()
    squatter = Squatter(times)
    monkeypatch.setattr(start, "plan_launch", squatter)
    try:
        async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts), observer=seen.append) as pool:
            deployed = (
                await ad.deploy_all([each.node for each in nodes], workspace, ad.SystemEnv(), pool=pool)
            ).unwrap()
            line = ad.Ranks("echo $ASYNCDEPLOY_RUN_ID >>runs; sleep 1", nproc_per_node=1)
            if times < start.PORT_TRIES:
                launch = await ad.start_launch(pool, deployed, line)
                report = await ad.wait_launch(launch, pool=pool)
                assert report.ok, report
            else:
                with pytest.raises(LaunchFailed, match="its port was taken by something else 3 times"):
                    await ad.start_launch(pool, deployed, line)
        assert len(notes(seen, "was taken meanwhile")) == times
        assert len(squatter.held) == times
        runs = [path.read_text().split() for path in nodes[0].home.glob("*/runs")]
        assert runs == ([[launch.id]] if times < start.PORT_TRIES else [])
    finally:
        squatter.close()


async def test_l13_the_supervisor_starts_nothing_without_its_side_of_the_link(
    pool: ad.Pool, sshd_nodes: Sequence[SshdNode]
) -> None:
    sshd = sshd_nodes[0]
    with socket.create_server(("", 0)) as stranger:
        plan = {**PLAN, "port": stranger.getsockname()[1], "meet": 1, "silence_s": 60, "grace_s": 1}
        command = ad.Command("touch ran", secrets={"ASYNCDEPLOY_GANG": Secret(json.dumps(plan))})
        with pytest.raises(JobFailed, match="the port of its launch's link is taken"):
            await ad.start_job(pool.at(sshd.node), command, name="rank")
    assert not (sshd.home / "ran").exists()
