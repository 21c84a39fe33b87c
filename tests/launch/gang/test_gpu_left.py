"""After the end of a launch: no GPU's memory is held by it, or it is said which. nvidia-smi is played by a script."""

from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.values.events import Event
from tests.support.events import notes
from tests.support.launched import SMI
from tests.support.waiting import eventually

TAKES = 'test -z "$ASYNCDEPLOY_GPUS" && echo 61000 >~/used'


@attrs.frozen
class Ended:
    """How a launch on the first node ended, and what was said meanwhile."""

    status: ad.JobStatus
    notes: list[str]


async def ended(tmp_path: Path, line: str) -> Ended:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "a").write_text("a")
    seen: list[Event] = []
    async with ad.LocalCluster(1) as cluster, cluster.pool(observer=seen.append) as pool:
        node = cluster.nodes[0]
        install(Path((await ad.probe_node(pool.at(node))).home), SMI)
        deployments = (await ad.deploy_all([node], tmp_path / "project", ad.SystemEnv(), pool=pool)).unwrap()
        facts = await ad.probe_node(pool.at(node), fresh=True)
        deployments = tuple(attrs.evolve(each, facts=facts) for each in deployments)
        launch = await ad.start_launch(pool, deployments, ad.Ranks(line, nproc_per_node=1))
        report = await ad.wait_launch(launch, pool=pool)
        (status,) = report.unwrap()
    return Ended(status, notes(seen))


HANGS = """#!/bin/sh
case $1 in
--query-gpu=uuid,memory.used) echo $$ >~/asked; exec sleep 600 ;;
*) echo '0, H100, 81559, 0, 550.54, GPU-0' ;;
esac
"""


async def test_l9_the_end_is_written_before_the_driver_is_asked(tmp_path: Path) -> None:
    """A tool that hangs holds up what is known besides the end, for a bounded time, and never the end."""
    (tmp_path / "project").mkdir()
    async with ad.LocalCluster(1) as cluster, cluster.pool() as pool:
        node = cluster.nodes[0]
        deployments = (await ad.deploy_all([node], tmp_path / "project", ad.SystemEnv(), pool=pool)).unwrap()
        home = install(Path(deployments[0].facts.home), SMI)
        facts = await ad.probe_node(pool.at(node), fresh=True)
        deployments = tuple(attrs.evolve(each, facts=facts) for each in deployments)
        waits = "until [ -e ~/go ]; do sleep 0.05; done; exit 7"
        launch = await ad.start_launch(pool, deployments, ad.Ranks(waits, nproc_per_node=1))
        install(home, HANGS)
        (home / "go").touch()
        await eventually(lambda: (home / "asked").exists(), "the driver was asked")
        assert (home / ".asyncdeploy/jobs" / launch.jobs[0].id / "exit").exists()
        (outcome,) = await ad.wait_launch(launch, pool=pool)
    assert outcome.value is not None
    assert (outcome.value.exit_status, outcome.value.gpu_left) == (7, ())


def install(home: Path, program: str) -> Path:
    """Put what plays nvidia-smi onto a node."""
    tool = home / ".local/bin/nvidia-smi"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text(program)
    tool.chmod(0o755)
    (home / "used").write_text("0")
    return home


async def test_f8_memory_that_nobody_frees_is_named(tmp_path: Path) -> None:
    end = await ended(tmp_path, TAKES)
    assert end.status.gpu_left == ("GPU 1: 59.6 GiB",)
    assert "GPU memory stays in use though nothing of the run is seen there: GPU 1: 59.6 GiB" in end.notes


@pytest.mark.parametrize(
    "line",
    [
        "true",
        f"{TAKES}; touch ~/soon",
        f"{TAKES}; echo 'GPU-1, 9912, 61000, python' >~/users",
    ],
    ids=["none was taken", "the driver takes a moment", "somebody else computes there now"],
)
async def test_f8_what_is_free_again_or_somebody_elses_is_not(tmp_path: Path, line: str) -> None:
    end = await ended(tmp_path, line)
    assert end.status.gpu_left == ()
    assert not [text for text in end.notes if "stays in use" in text]
