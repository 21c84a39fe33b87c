"""A failure is a failure: what a rank came to by itself is its own end, whatever stops arrive later."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

import asyncdeploy as ad
from asyncdeploy.connect.pool import Pool
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.values.events import Event
from tests.support.beds.freezer import freezer
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.launched import SMI, launched
from tests.support.launches import Lines
from tests.support.waiting import eventually

DEAF = "(trap '' TERM; echo up; while :; do sleep 0.1; done) &"
WAITS = "until [ -e go ]; do sleep 0.05; done"


async def test_l3_a_stop_that_comes_behind_the_end_did_not_cause_it(sshd_nodes: Sequence[SshdNode], pool: Pool) -> None:
    """What the leader left behind is deaf: the supervisor sweeps for two seconds, and meanwhile it is told to stop."""
    sshd = sshd_nodes[0]
    remote = pool.at(sshd.node)
    job = await ad.start_job(remote, f"{DEAF} {WAITS}; exit 7", name="fails")
    await eventually(lambda: "up" in (sshd.home / ".asyncdeploy/jobs" / job.id / "log").read_text())
    (sshd.home / "go").touch()
    leader = int((sshd.home / ".asyncdeploy/jobs" / job.id / "pid").read_text().split()[0])
    await eventually(lambda: leader not in sshd.processes(), "it has ended by itself")
    status = await ad.stop_job(remote, job)
    assert (status.exit_status, status.stopped) == (7, False)
    status = await ad.job_status(remote, job)
    assert (status.exit_status, status.stopped, status.stopped_at) == (7, False, None)


@pytest.mark.parametrize("late", ["sweeps", "waits for the driver"])
async def test_l3_one_that_failed_by_itself_is_tried_again_whoever_was_seen_to_end_first(
    start_machines: Callable[[int], list[SshdNode]], workspace: ad.Workspace, late: str
) -> None:
    """Node rank 0 is told by the other supervisor and ends first: our stop finds that one at its work."""
    nodes = start_machines(2)
    if late != "sweeps":
        tool = nodes[1].home / ".local/bin/nvidia-smi"
        tool.parent.mkdir(parents=True)
        tool.write_text(SMI)
        tool.chmod(0o755)
        (nodes[1].home / "used").write_text("0")
    fails = f"{DEAF} exit 7" if late == "sweeps" else "echo 61000 >~/used; exit 7"
    line = f'test "$ASYNCDEPLOY_ATTEMPT" = 0 || exit 0; test $NODE_RANK = 0 || {{ sleep 0.3; {fails}; }}; {WAITS}'
    async with launched(nodes, workspace, "true") as (pool, first, seen):
        await ad.wait_launch(first, pool=pool)
        launch = await ad.fan_out(
            [sshd.node for sshd in nodes],
            workspace,
            ad.Ranks(line, nproc_per_node=1),
            ad.SystemEnv(),
            restart=ad.Restart(),
            grace_s=0.5,
            pool=pool,
        )
        report = await ad.wait_launch(launch, pool=pool)
    assert report.ok, report
    (note,) = notes(seen, "begins")
    assert "on machine-1 (node rank 1, local rank 0) failed, its node exited 7" in note


async def test_l3_what_a_person_stops_elsewhere_has_no_cause(
    start_machines: Callable[[int], list[SshdNode]], workspace: ad.Workspace
) -> None:
    async with launched(start_machines(2), workspace) as (pool, launch, _):
        watching = asyncio.create_task(ad.wait_launch(launch, pool=pool))
        await ad.stop_launch(ad.Launch.from_dict(launch.to_dict()), pool=pool)
        report = await watching
    assert not report.ok
    assert failure_of(report) is None


@pytest.mark.parametrize("spares", [1, 0])
async def test_l4_a_node_that_was_booted_again_is_the_cause_and_is_answered(
    network: Network, workspace: ad.Workspace, spares: int
) -> None:
    nodes = [network.start(name) for name in ("a", "b", "c")]
    line = f'echo attempt $ASYNCDEPLOY_ATTEMPT; test "$ASYNCDEPLOY_ATTEMPT" != 0 || {WAITS}'
    seen: list[Event] = []
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts), observer=seen.append) as pool:
        launch = await ad.fan_out(
            [sshd.node for sshd in nodes[:2]],
            workspace,
            ad.Ranks(line, nproc_per_node=1),
            ad.SystemEnv(),
            restart=ad.Restart(),
            spares=[sshd.node for sshd in nodes[2 : 2 + spares]] or None,
            grace_s=0.5,
            pool=pool,
        )
        nodes[1].restart()  # its first process is killed, and with it all the others
        report = await ad.wait_launch(launch, pool=pool)
    assert report.ok, report
    assert [outcome.node.name for outcome in report] == ["a", "c" if spares else "b"]
    (note,) = notes(seen, "begins")
    assert "node rank 1 (b) is lost: its node was booted again" in note
    assert "1 other node stopped because of it" in note


async def test_l4_all_processes_killed_is_a_failure_too(
    sshd_nodes: Sequence[SshdNode], workspace: ad.Workspace
) -> None:
    """The supervisor and whoever watches over it as well, while nobody looks; who asks later is told the same."""
    async with launched(sshd_nodes[:2], workspace, f"echo up; {WAITS}") as (pool, launch, _):
        sshd_nodes[1].sweep()
        first = await ad.wait_launch(launch, pool=pool)
        later = await ad.wait_launch(await ad.find_launch(launch.nodes, launch.id, pool=pool), pool=pool)
    for report in (first, later):
        cause = failure_of(report)
        assert cause is not None
        assert (cause.node_rank, cause.status) == (1, None)
        assert f"node rank 1 ({cause.node}) is lost: no exit status was recorded" in cause.message
        assert [outcome.state for outcome in report] == ["cancelled", "failed"]
    status = first.outcomes[0].value
    assert status is not None
    assert status.because == "node rank 1 failed"


AGENT = """\
import pathlib, subprocess, sys, time
neighbour = subprocess.Popen(["sleep", "600"])
print("up", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.05)
neighbour.kill()
neighbour.wait()  # as an agent of torchrun did, whose other rank has failed
sys.exit(1)
"""


async def test_l10_a_leader_that_waits_for_what_kill_does_not_end_is_the_cause(
    start_machines: Callable[[int], list[SshdNode]], workspace: ad.Workspace
) -> None:
    nodes = start_machines(2)
    (workspace.path / "agent.py").write_text(AGENT)
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
        deployed = await ad.deploy_all([sshd.node for sshd in nodes], workspace, ad.SystemEnv(), pool=pool)
        launcher = Lines((f"echo up; {WAITS}", "exec python3 agent.py"))
        launch = await ad.start_launch(pool, deployed.unwrap(), launcher, grace_s=1)
        with freezer() as cold:
            (stuck,) = await eventually(
                lambda: [pid for pid, line in nodes[1].processes().items() if line == "sleep 600"], "the neighbour runs"
            )
            cold.freeze(stuck)
            (nodes[1].home / "project" / "go").touch()
            report = await ad.wait_launch(launch, pool=pool)
    cause = failure_of(report)
    assert cause is not None
    assert cause.node_rank == 1
    assert "node rank 1 (machine-1) has a process that KILL does not end: " in cause.message
    assert [outcome.state for outcome in report] == ["cancelled", "failed"]
