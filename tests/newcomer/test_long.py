"""What takes longer than one looks: twelve runs on four nodes, training that loses a node, quit and come back."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.newcomer import Newcomer, aliases, newcomer
from tests.support.tools import need_torch

TWELVE = """\
import asyncio
import asyncdeploy as ad

RUNS = {f"seed {seed}": f"python3 train.py {seed}" for seed in range(12)}


async def main():
    async with ad.Pool() as pool:
        ready = await ad.deploy_all("gpu[1-4]", ".", ad.SystemEnv(), pool=pool)
        async for done in ad.run_queue(ready.unwrap(), RUNS, per_node=2, pool=pool):
            print(done.label, done.node.name, done.state, done.value.text)


asyncio.run(main())
"""
PAIRED = """\
import os, pathlib, sys
slot = os.environ["ASYNCDEPLOY_SLOT"]
pathlib.Path(f"slot-{slot}").touch()
print("loss of", sys.argv[1], "in slot", slot)
"""

TRAINS = """\
import os, time, pathlib
import torch, torch.distributed as dist

dist.init_process_group("gloo")
value = torch.ones(1)
dist.all_reduce(value)
print("all", int(value.item()), "are up", flush=True)
while os.environ["ASYNCDEPLOY_ATTEMPT"] == "0":
    time.sleep(0.1)
dist.barrier()
dist.destroy_process_group()
print("trained", flush=True)
"""


def test_twelve_runs_over_four_nodes_two_at_a_time(person: Newcomer, sshd_nodes: Sequence[SshdNode]) -> None:
    (person.ad.folder / "train.py").write_text(PAIRED)
    said = person.runs(TWELVE, writes=9, reads=12)
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines()]
    assert sorted(int(row[1]) for row in rows) == list(range(12))
    assert {row[2] for row in rows} == {"gpu1", "gpu2", "gpu3", "gpu4"}
    assert all(row[3:6] == ["ok", "loss", "of"] for row in rows)
    for sshd in sshd_nodes:
        assert sorted(path.name for path in sshd.home.glob("*/slot-*")) == ["slot-0", "slot-1"]


@pytest.mark.long
def test_torchrun_on_four_with_a_node_lost_and_a_spare(start_sshd: Callable[..., SshdNode], tmp_path: Path) -> None:
    need_torch()
    path = f"PATH={os.environ['PATH']}"
    nodes = [start_sshd(f"gpu{number}", config={"SetEnv": path}) for number in range(1, 6)]
    person = newcomer(tmp_path, aliases(nodes), nodes)
    (person.ad.folder / "train.py").write_text(TRAINS)
    line = "asyncdeploy launch train.py --env system -n gpu[1-4] --spares gpu5 --restarts 1"
    with person.begins(line) as process:
        assert process.stdout is not None
        read: list[str] = []
        lost = False
        try:
            for said in process.stdout:
                read.append(said)
                if "all 4 are up" in said and not lost:
                    lost = True
                    nodes[2].end_sessions()  # it is booted again
                    nodes[2].sweep()
            assert process.wait(timeout=90) == 0, "".join(read)
        finally:
            process.kill()
    text = "".join(read)
    assert "gpu5 takes the place of gpu3" in text
    (trained,) = [line for line in read if "trained" in line]
    assert "5" in trained.partition("]")[0], "the spare is named by its name"
    assert "gpu3" not in "".join(read[read.index(trained) :])
    assert "more lines of ranks that were stopped or lost their peers: asyncdeploy logs train-" in text
    assert "ChildFailedError" not in text, "torch's own words about the ranks that were stopped"
    assert len(read) <= 75


def test_start_quit_and_attach_from_another_home(
    person: Newcomer, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    train = 'echo "up $RANK"; until [ -e go ]; do sleep 0.1; done; mkdir -p results; echo $RANK >results/rank\n'
    (person.ad.folder / "train.sh").write_text(train)
    line = "asyncdeploy launch 'sh train.sh' --launcher ranks --name train --env system -n gpu[1-2]"
    with person.begins(line) as process:
        assert process.stdout is not None
        read = [next(process.stdout)]
        try:
            while "up" not in read[-1]:
                read.append(next(process.stdout))
            process.send_signal(signal.SIGINT)
            read += process.stdout
            assert process.wait(timeout=60) == 130, "".join(read)
        finally:
            process.kill()
    assert "runs on; nobody watches it now" in "".join(read)
    assert len(read) <= 25, "".join(read)

    (tmp_path / "other").mkdir()
    other = newcomer(tmp_path / "other", aliases(sshd_nodes), sshd_nodes)
    found = other.types("asyncdeploy ps -n gpu[1-2]", reads=7)
    run = next(word for word in found.out.split() if word.startswith("train-"))
    for each in sshd_nodes[:2]:
        (each.home / "project" / "go").touch()
    lines = f"asyncdeploy wait {run} -n gpu[1-2]\nasyncdeploy collect {run} -n gpu[1-2] --source results"
    said = other.types(lines, writes=2, reads=8)
    assert said.code == 0, said.err
    assert sorted(path.read_text() for path in other.ad.folder.glob("results/*/rank")) == ["0\n", "1\n"]
