"""Real Dask over real sshd nodes: a driver computes on all of them, and afterwards nothing is left."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.push.relay.tls import make_identity
from asyncdeploy.values.events import Event
from tests.support.beds.network import Network
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.examples import OurPython
from tests.support.programs.engines import (
    OTHER_PYTHON,
    FromHome,
    dask_project,
    folders,
    nothing_left,
    pids_of,
    put_first,
)
from tests.support.waiting import BACK_S, eventually

pytestmark = pytest.mark.long

ONE = ad.DaskCluster(workers=1)
# One without TLS, one with a certificate of his own, which comes by stdin.
STRANGERS = """\
import sys
from distributed import Client
from distributed.security import Security

pem = sys.stdin.read()
certificate, key = pem[: pem.index("-----BEGIN PRIVATE")], pem[pem.index("-----BEGIN PRIVATE") :]
own = Security(tls_ca_file=certificate, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)
for scheme, security in (("tcp", None), ("tls", own)):
    try:
        Client(f"{scheme}://{sys.argv[1]}", timeout=2, security=security)
        print("let in")
    except OSError:
        print("refused")
"""
SAYS_NOTHING = """\
#!/bin/sh
case "$*" in *dask_nodes.py*) : >~/asked; while [ ! -e ~/go ]; do sleep 0.05; done; exit 3 ;; esac
exec {python} "$@"
"""


@pytest.fixture
def project(project: Path) -> Path:
    """Two drivers, and a module that their tasks come from."""
    return dask_project(project)


async def test_a_driver_computes_on_all_nodes(sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    async with ad.dask_cluster(nodes, project, OurPython(), cluster=ONE, pool=pool) as dask:
        assert len(folders(dask.launch)) == 2
        completed = await dask.run("python driver.py", check=True)
        assert completed.text == f"285 {' '.join(sorted(node.name for node in nodes))}"
        said = await dask.run(ad.Command('echo "$A $B"; exit 3', env={"A": "mine"}, secrets={"B": "own"}))
        assert (said.text, said.status) == ("mine own", 3)
        with pytest.raises(ad.CommandFailed):
            await dask.run("exit 3", check=True)
        kept = (sshd_nodes[0].home / ".asyncdeploy").rglob("*")
        assert not [path for path in kept if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    await nothing_left(sshd_nodes[:2], dask.launch)
    with pytest.raises(ad.LaunchFailed, match="was stopped, and its driver with it"):
        await dask.run("true")


async def test_a_stop_while_it_computes_leaves_nothing(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path
) -> None:
    """From another machine: by the launch's id. A task's child has a session of its own."""
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    launch = await ad.fan_out(nodes, project, ONE, OurPython(), grace_s=3, pool=pool)
    async with pool_for(sshd_nodes[0]) as other:
        found = await ad.find_launch(nodes, launch.id, pool=other)
        job = await ad.start_on_cluster(found, "python busy.py", name="busy", pool=other)
        child = sshd_nodes[0].home / "project" / "child"  # both nodes push to a folder of their own
        other_child = sshd_nodes[1].home / "project" / "child"
        await eventually(lambda: child.exists() or other_child.exists(), "it computes")
        began = time.monotonic()
        report = await ad.stop_launch(found, pool=other)
        took = time.monotonic() - began
        status = await ad.job_status(other.at(nodes[0]), job)
    assert [outcome.state for outcome in report] == ["cancelled"] * 2
    assert status.stopped, "the driver was told first, and not only left without its engine"
    assert took < launch.grace_s + 5
    await nothing_left(sshd_nodes[:2], launch)


async def test_z1_the_scheduler_is_killed(sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path) -> None:
    sshds = sshd_nodes[:2]
    launch = await ad.fan_out([each.node for each in sshds], project, ONE, OurPython(), grace_s=1, pool=pool)
    job = await ad.start_on_cluster(launch, "python busy.py", name="busy", pool=pool)
    child = [sshd.home / "project" / "child" for sshd in sshds]
    await eventually(lambda: any(path.exists() for path in child), "it computes")
    (scheduler,) = pids_of(sshds[0], "dask scheduler")
    os.kill(scheduler, signal.SIGKILL)
    status = await ad.wait_job(pool.at(sshds[0].node), job)
    assert status.exit_status == 75
    assert "has ended, and its driver with it" in status.last_lines
    with pytest.raises(ad.LaunchFailed, match=r"node rank 0 .* 137") as caught:
        await ad.run_on_cluster(launch, "true", pool=pool)
    assert caught.value.node == sshds[0].node.name
    await nothing_left(sshds, launch)


async def test_a_driver_that_is_killed_leaves_the_cluster(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path
) -> None:
    sshds = sshd_nodes[:2]
    async with ad.dask_cluster([each.node for each in sshds], project, OurPython(), cluster=ONE, pool=pool) as dask:
        job = await dask.start("exec python busy.py", name="busy")
        (driver,) = await eventually(lambda: pids_of(sshds[0], "python busy.py"), "it runs")
        os.kill(driver, signal.SIGKILL)
        status = await ad.wait_job(pool.at(sshds[0].node), job)
        assert (status.signal, status.exit_status) == ("KILL", None)
        assert (await dask.run("python driver.py", check=True)).text.startswith("285 ")
    await nothing_left(sshds, dask.launch)


async def test_a_node_that_does_not_join_is_named(sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path) -> None:
    sshds = sshd_nodes[:2]
    put_first(sshds[1], "dask", "#!/bin/sh\necho waits for its licence\nexec sleep 987\n")
    cluster = ad.DaskCluster(workers=1, join_s=15)
    with pytest.raises(ad.LaunchFailed, match=r"node rank 1 did not join the engine within 15 s") as caught:
        await ad.fan_out([each.node for each in sshds], project, cluster, FromHome(), grace_s=1, pool=pool)
    assert caught.value.node == sshds[1].node.name
    assert caught.value.evidence == "waits for its licence"
    for sshd in sshds:
        assert pids_of(sshd, "sleep 987") + pids_of(sshd, "dask") == []
    put_first(sshds[1], "dask", "#!/bin/sh\necho no licence\nexit 5\n")
    with pytest.raises(ad.LaunchFailed, match=r"node rank 1 .*exited 5") as caught:
        await ad.fan_out([each.node for each in sshds], project, cluster, FromHome(), grace_s=1, pool=pool)
    assert "no licence" in caught.value.evidence
    for sshd in sshds:
        assert pids_of(sshd, "dask") == []


async def test_a_node_that_does_not_confirm_its_end_is_named(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path
) -> None:
    first, second = sshd_nodes[:2]
    put_first(first, "python3", SAYS_NOTHING.format(python=sys.executable))
    put_first(second, "dask", "#!/bin/sh\nexec sleep 987\n")
    words = r"could not be asked who has joined the engine; "
    (first.home / "go").touch()
    with pytest.raises(ad.LaunchFailed, match=words + "nothing stays running on any node"):
        await ad.fan_out([first.node, second.node], project, ONE, FromHome(), pool=pool)
    for name in ("go", "asked"):
        (first.home / name).unlink()
    starting = asyncio.create_task(ad.fan_out([first.node, second.node], project, ONE, FromHome(), pool=pool))
    await eventually((first.home / "asked").exists, "it is asked who has joined")
    second.stop()
    second.end_sessions()
    (first.home / "go").touch()
    with pytest.raises(ad.LaunchFailed, match=words + "it is not confirmed that nothing runs on node-1"):
        await starting
    second.start()
    for left in await ad.list_jobs(pool.at(second.node)):
        await ad.stop_job(pool.at(second.node), left)
    await eventually(lambda: pids_of(second, "sleep 987") == [], "what was left has ended")


async def test_a_start_that_is_cancelled_while_it_joins_leaves_nothing(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path
) -> None:
    sshds = sshd_nodes[:2]
    put_first(sshds[1], "dask", "#!/bin/sh\nexec sleep 987\n")
    nodes = [each.node for each in sshds]
    starting = asyncio.create_task(ad.fan_out(nodes, project, ONE, FromHome(), pool=pool))
    await eventually(lambda: pids_of(sshds[0], "dask_nodes.py"), "it is asked who has joined")
    starting.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert time.monotonic() - began < BACK_S
    for sshd in sshds:
        await eventually(
            lambda sshd=sshd: pids_of(sshd, "dask") + pids_of(sshd, "sleep 987") == [],
            f"nothing runs on {sshd.node.name}",
        )


async def test_what_is_not_fit_is_seen_before_anything_starts(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    sshds, seen = sshd_nodes[:2], list[Event]()
    nodes, folder = [each.node for each in sshds], Path(sys.executable).parent
    said = '{"python": "%s", "engine": "%s", "shared_memory": 7}'
    expected: list[tuple[str, str, type[ad.DeployError], str]] = [
        ("9.9", "3000.2", ad.PreflightFailed, "need one distributed, got 3000.1 on node-0; 3000.2 on node-1"),
        ("9.8", "3000.1", ad.PreflightFailed, "need one Python, got 9.9 on node-0; 9.8 on node-1"),
        ("9.9", "2023.12.1", ad.PreflightFailed, "distributed 2024.1 or newer was expected, got 2023.12.1"),
        ("9.9", "", ad.ToolMissing, "its environment has no distributed"),
    ]
    put_first(sshds[0], "python3", OTHER_PYTHON % (said % ("9.9", "3000.1"), folder))
    async with pool_for(sshds[0], observer=seen.append) as pool:
        for python, engine, kind, words in expected:
            put_first(sshds[1], "python3", OTHER_PYTHON % (said % (python, engine), folder))
            with pytest.raises(kind, match=re.escape(words)) as caught:
                await ad.fan_out(nodes, project, ONE, FromHome(), pool=pool)
        assert caught.value.hint == "add it to the project: uv add distributed"
    assert not [event for event in seen if isinstance(event, ad.StageStarted) and event.stage == "start"]


async def test_little_shared_memory_is_noted_and_a_program_that_is_missing_named(
    sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    sshd, seen, folder = sshd_nodes[0], list[Event](), Path(sys.executable).parent
    said = '{"python": "9.9", "engine": "3000.1", "shared_memory": 67108864}'
    put_first(sshd, "python3", OTHER_PYTHON % (said, folder))
    put_first(sshd, "ray", "#!/bin/sh\necho no library >&2; exit 127\n")
    async with pool_for(sshd, observer=seen.append) as pool:
        with pytest.raises(ad.LaunchFailed, match=r"node rank 0 \(node-0\) exited 127"):
            await ad.fan_out(sshd.node, project, ad.RayCluster(), FromHome(), pool=pool)
    assert notes(seen, "shared memory") == [
        "64 MiB of shared memory (/dev/shm); ray wants 1024 MiB, and is slow with less"
    ]


async def test_the_addresses_are_those_that_were_proven(network: Network, project: Path) -> None:
    """Each node has a docker0 as well, at an address that all of them have."""
    sshds = [network.start(name, trap=True) for name in ("a", "b")]
    async with pool_for(sshds[0]) as pool:
        nodes = [sshd.node for sshd in sshds]
        async with ad.dask_cluster(nodes, project, OurPython(), cluster=ONE, pool=pool) as dask:
            line = "python -c 'from distributed import Client; print(*sorted(Client().has_what()))'"
            found = (await dask.run(line, check=True)).text.split()
            assert [address.rpartition(":")[0] for address in found] == [
                f"tls://{network.address(sshd)}" for sshd in sshds
            ]
            assert (await dask.run("python driver.py", check=True)).text == "285 a b"


async def test_an_engine_is_no_run(pool: ad.Pool) -> None:
    with pytest.raises(ValueError, match="ranks that end were expected, got a DaskCluster"):
        await ad.run_launch(pool, [], ONE)


async def test_two_clusters_at_once_and_strangers(sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    second = ad.DaskCluster(workers=1, name="second")
    async with ad.dask_cluster(nodes, project, OurPython(), cluster=ONE, pool=pool) as dask:
        async with ad.dask_cluster(nodes[:1], project, OurPython(), cluster=second, pool=pool) as other:
            assert len((await dask.run("python driver.py", check=True)).text.split()) == 1 + 2
            assert len((await other.run("python driver.py", check=True)).text.split()) == 1 + 1
        place = dask.launch.placement
        words = [sys.executable, "-c", STRANGERS, f"{place.master_addr}:{place.master_port}"]
        stranger = await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = await stranger.communicate(make_identity("stranger").pem.encode())
        assert out == b"refused\nrefused\n"
        assert len((await dask.run("python driver.py", check=True)).text.split()) == 1 + 2
    await nothing_left(sshd_nodes[:2], dask.launch)


async def test_a_restart_is_a_new_cluster(sshd_nodes: Sequence[SshdNode], pool: ad.Pool, project: Path) -> None:
    sshds = sshd_nodes[:2]
    launch = await ad.fan_out(
        [each.node for each in sshds], project, ONE, OurPython(), grace_s=1, restart=ad.Restart(), pool=pool
    )
    watching = asyncio.create_task(ad.wait_launch(launch, pool=pool))
    os.kill(pids_of(sshds[1], "dask worker")[0], signal.SIGKILL)
    await eventually(lambda: launch.current.id != launch.id, "it was started again")
    completed = await ad.run_on_cluster(launch, "python driver.py", check=True, pool=pool)
    assert completed.text.startswith("285 ")
    await ad.stop_launch(launch, pool=pool)
    await watching
    await nothing_left(sshds, launch.current)
