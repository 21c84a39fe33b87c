"""Which ranks keep the others waiting: as words, and asked of ranks that hang."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

import asyncdeploy as ad
from asyncdeploy.launch.follow.diagnosis import Diagnosis, Frame, RankStand, main_frames
from asyncdeploy.node_side.launch import flight_recorder
from asyncdeploy.values.events import Event
from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.users import STRANGER, Stranger
from tests.support.events import notes
from tests.support.tools import need_torch
from tests.support.waiting import eventually, eventually_sync

DUMP = """\
Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007f2 (most recent call first):
  File "/x/site-packages/torch/distributed/distributed_c10d.py", line 2501 in all_reduce
  File "/home/me/proj/train.py", line 41 in step
  File "/home/me/proj/train.py", line 77 in <module>
"""
SPY = """\
Process 12: python train.py
Python v3.11.2 (/usr/bin/python3.11)

Thread 12 (idle): "MainThread"
    load_batch (train.py:41)
    <module> (train.py:77)
Thread 13 (idle): "Thread-1"
    wait (threading.py:324)
"""
# Waits as in a collective, but for the rank that does not come; all go on when they may.
PROGRAM = """\
import os, pathlib, signal, sys, time
sys.path.insert(0, "fake")
from torch.distributed.fake import all_reduce

def load_batch():
    signal.signal(signal.SIGURG, lambda *_: print("it came to me", flush=True)) if sys.argv[1:] else None
    print("up", flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.05)

if os.environ["RANK"] == "1":
    load_batch()
else:
    all_reduce()
print("done", flush=True)
"""
FAKE = """\
import pathlib, time

def all_reduce():
    print("up", flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
"""
GLOO = """\
import os, pathlib, time
import torch
import torch.distributed as dist

def late():
    while not pathlib.Path("go").exists():
        time.sleep(0.05)

dist.init_process_group("gloo")
print("up", flush=True)
if dist.get_rank() == 1:
    late()
dist.all_reduce(torch.ones(1))
dist.destroy_process_group()
"""


def stand(rank: int, file: str, name: str = "f") -> RankStand:
    return RankStand(rank, f"gpu-{rank}", rank, 10 + rank, "python", "S", (Frame(file, 41, name),), "faulthandler")


def test_the_main_thread_is_read_from_either_tool() -> None:
    frames = main_frames(DUMP)
    assert [frame.name for frame in frames] == ["all_reduce", "step", "<module>"]
    waits = RankStand(0, "gpu-a", 0, frames=frames)
    assert waits.in_collective
    assert waits.place == "/home/me/proj/train.py:41 in step"
    assert [str(frame) for frame in main_frames(SPY)] == ["train.py:41 in load_batch", "train.py:77 in <module>"]
    assert main_frames("nonsense\n" * 10) == ()


def test_who_has_not_come_is_named_with_the_line_where_it_is() -> None:
    waiting = [stand(rank, "/x/site-packages/torch/distributed/c10d.py") for rank in (0, 2, 3)]
    found = Diagnosis("run-abcdefgh", (waiting[0], stand(1, "train.py", "load_batch"), *waiting[1:]))
    line = "rank 1 (gpu-1) has not reached the collective that 3 others wait in: train.py:41 in load_batch"
    assert found.verdict() == (line,)
    assert found.describe().splitlines()[0] == line
    assert "3 on gpu-0,gpu-[2-3] (ranks 0, 2, 3)" in found.describe().replace("gpu-[0,2-3]", "gpu-0,gpu-[2-3]")
    assert Diagnosis.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert "look at the network" in Diagnosis("run-abcdefgh", tuple(waiting)).verdict()[0]
    assert Diagnosis("run-abcdefgh", (stand(1, "train.py"),)).verdict() == ()
    (silent,) = Diagnosis("run-abcdefgh", (), (("gpu-9", "it is off"),)).verdict()
    assert silent == "gpu-9 does not answer: it is off"


def project(tmp_path: Path) -> ad.Workspace:
    folder = tmp_path / "project"
    (folder / "fake/torch/distributed").mkdir(parents=True)
    for path in ("fake/torch/__init__.py", "fake/torch/distributed/__init__.py"):
        (folder / path).touch()
    (folder / "fake/torch/distributed/fake.py").write_text(FAKE)
    (folder / "train.py").write_text(PROGRAM)
    (folder / "gloo.py").write_text(GLOO)
    return ad.Workspace(folder)


async def up(pool: ad.Pool, launch: ad.Launch, times: int) -> None:
    """Wait until so many ranks are where they wait."""

    with anyio.fail_after(90):  # torch is slow to import where two cores serve everybody
        while sum([(await ad.read_log(pool.at(job.node), job)).count("up\n") for job in launch.jobs]) < times:
            await anyio.sleep(0.05)


async def test_ranks_are_asked_and_go_on(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    nodes, seen = [each.node for each in sshd_nodes[:2]], list[Event]()
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts), observer=seen.append) as pool:
        launcher = ad.Ranks(f"{sys.executable} train.py", nproc_per_node=2)
        launch = await ad.fan_out(nodes, project(tmp_path), launcher, ad.SystemEnv(), pool=pool)
        await up(pool, launch, 4)
        found = await ad.diagnose_launch(launch, pool=pool)
        assert [each.rank for each in found.ranks] == [0, 1, 2, 3]
        assert {each.source for each in found.ranks} == {"faulthandler"}
        (missing_one,) = found.missing
        assert missing_one.rank == 1
        assert "train.py" in missing_one.place
        assert "in load_batch" in missing_one.place
        for node in sshd_nodes[:2]:
            (node.home / "project/go").touch()
        report = await ad.wait_launch(launch, pool=pool)
        assert report.ok, report
        again = await ad.diagnose_launch(launch, pool=pool)
        assert (again.ranks, again.verdict()) == ((), ())


async def test_a_program_with_a_handler_of_its_own_is_not_disturbed(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    nodes = [each.node for each in sshd_nodes[:1]]
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        launcher = ad.Ranks(f"{sys.executable} train.py mine", nproc_per_node=2)
        launch = await ad.fan_out(nodes, project(tmp_path), launcher, ad.SystemEnv(), pool=pool)
        await up(pool, launch, 2)
        found = await ad.diagnose_launch(launch, pool=pool)
        assert [each.source for each in found.ranks] == ["faulthandler", ""]
        (sshd_nodes[0].home / "project/go").touch()
        assert (await ad.wait_launch(launch, pool=pool)).ok
        assert "it came to me" not in await ad.read_log(pool.at(nodes[0]), launch.jobs[0])


async def test_l15_a_strangers_process_is_no_rank_and_lends_us_no_program(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path, stranger: Stranger
) -> None:
    """The attack itself: whoever knows a job's id gives his process its variables and has a py-spy of his own."""
    if shutil.which("python3", path="/usr/bin") is None:
        pytest.skip("no Python that a stranger may start")
    trap = f"#!/bin/sh\nid -u >> {stranger.shared}/ran-as\n"
    stranger.run(
        f"mkdir bin; printf '%s' {shlex.quote(trap)} > bin/py-spy; chmod -R 755 bin; touch ran-as; chmod 666 ran-as"
    )
    nodes = [each.node for each in sshd_nodes[:1]]
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        launcher = ad.Ranks(f"{sys.executable} train.py mine", nproc_per_node=2)
        launch = await ad.fan_out(nodes, project(tmp_path), launcher, ad.SystemEnv(), pool=pool)
        await up(pool, launch, 2)
        job = {"ASYNCDEPLOY_JOB": launch.jobs[0].id, "PATH": f"{stranger.shared}/bin:/usr/bin:/bin"}
        sleeps = ["/usr/bin/python3", "-c", "import time; print(flush=True); time.sleep(999)"]
        attackers = [
            subprocess.Popen(sleeps, stdout=subprocess.PIPE, env={**job, "RANK": str(rank)}, **whose)
            for rank, whose in ((7, {"user": STRANGER, "group": STRANGER, "extra_groups": []}), (8, {}), (0, {}))
        ]  # the others stand for programs that became ours by a set-user-id bit, with his variables
        try:
            for each in attackers:
                assert each.stdout is not None
                each.stdout.readline()
            found = await ad.diagnose_launch(launch, pool=pool)
        finally:
            for each in attackers:
                each.kill()
                each.communicate()
        assert [each.rank for each in found.ranks] == [0, 1]
        assert found.ranks[0].source == "faulthandler"
        assert (stranger.shared / "ran-as").read_text() == ""
        (sshd_nodes[0].home / "project/go").touch()
        assert (await ad.wait_launch(launch, pool=pool)).ok


async def test_l15_a_strangers_folder_on_the_path_of_a_rank_lends_us_no_program(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path, stranger: Stranger
) -> None:
    trap = f"#!/bin/sh\nid -u >> {stranger.shared}/ran-as\n"
    stranger.run(f"mkdir bin; printf '%s' {shlex.quote(trap)} > bin/py-spy; chmod -R 755 bin")
    nodes = [each.node for each in sshd_nodes[:1]]
    own = sshd_nodes[0].home / "tools"
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        line = f'PATH="{stranger.shared}/bin:{own}:$PATH"; exec {sys.executable} train.py mine'
        launch = await ad.fan_out(nodes, project(tmp_path), ad.Ranks(line, nproc_per_node=2), ad.SystemEnv(), pool=pool)
        await up(pool, launch, 2)
        own.mkdir()
        (own / "py-spy").write_text("#!/bin/sh\nprintf '%s\\n' 'Thread 1 (idle): \"MainThread\"' '    f (own.py:3)'\n")
        (own / "py-spy").chmod(0o755)
        found = await ad.diagnose_launch(launch, pool=pool)
        assert not (stranger.shared / "ran-as").exists()
        assert (found.ranks[1].source, found.ranks[1].place) == ("py-spy", "own.py:3 in f")
        own.chmod(0o777)
        found = await ad.diagnose_launch(launch, pool=pool)
        assert [each.source for each in found.ranks] == ["faulthandler", ""]
        (sshd_nodes[0].home / "project/go").touch()
        assert (await ad.wait_launch(launch, pool=pool)).ok


def test_l16_the_recorder_of_a_rank_that_nobody_has_looked_at_before(tmp_path: Path) -> None:
    """/proc/PID is dated by who looks at it first, and anew after the kernel was short of memory."""
    path = tmp_path / "trace-0"
    words = ["sh", "-c", 'printf %s "$1" > "$2"; echo there; read -r _', "sh", "not a pickle", str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as rank:
        assert rank.stdout is not None
        rank.stdout.readline()
        eventually_sync(lambda: time.time() - path.stat().st_mtime > 0.1, "the file is older than our first look")
        row = {"rank": 0, "pid": rank.pid, "environ": {b"TORCH_FR_DUMP_TEMP_FILE": os.fsencode(tmp_path / "trace-")}}
        assert [each["path"] for each in flight_recorder.recorders([row])] == [str(path)]
        os.utime(path, (0, 0))
        assert flight_recorder.recorders([row]) == [], "another run's"
        rank.communicate(b"\n")


async def test_silence_is_said_with_where_all_stand(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    nodes, seen = [each.node for each in sshd_nodes[:2]], list[Event]()

    def told() -> list[str]:
        return notes(seen, "printed anything")

    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts), observer=seen.append) as pool:
        launcher = ad.Ranks(f"{sys.executable} train.py", nproc_per_node=1)
        launch = await ad.fan_out(nodes, project(tmp_path), launcher, ad.SystemEnv(), pool=pool)
        async with ad.follow_launch(launch, silent_after_s=1.0, pool=pool) as lines:
            (text,) = await eventually(told, "it was said once", within_s=30)
            assert "rank 1" in text
            assert "has not reached the collective that 1 other waits in" in text
            for node in sshd_nodes[:2]:
                (node.home / "project/go").touch()
            assert [line.text async for line in lines].count("done") == 2
        assert len(told()) == 1


BAR = """\
import pathlib, sys, time
number = 0
while not pathlib.Path("go").exists():
    number += 1
    sys.stdout.write(sys.argv[1].format(number).replace("CR", chr(13)))
    sys.stdout.flush()
    time.sleep(0.05)
print("end of it")
"""


@pytest.mark.parametrize("state", ["CR{}%", "{}%CR"])
async def test_l17_a_progress_bar_is_seen_before_it_ends(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path, state: str
) -> None:
    workspace = project(tmp_path)
    (workspace.path / "bar.py").write_text(BAR)
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        launcher = ad.Ranks(f"{sys.executable} bar.py {state}", nproc_per_node=2)
        launch = await ad.fan_out([sshd_nodes[0].node], workspace, launcher, ad.SystemEnv(), pool=pool)
        seen = list[str]()
        with anyio.fail_after(60):
            async with ad.follow_launch(launch, pool=pool) as lines:
                async for line in lines:
                    seen.append(line.text)
                    if len(seen) == 4:
                        (sshd_nodes[0].home / "project/go").touch()
        whole = (sshd_nodes[0].home / f".asyncdeploy/launches/{launch.id}/rank-0/0/stdout.log").read_bytes()
    assert [text.partition(":")[2].endswith("%") for text in seen[:4]] == [True] * 4
    assert sum(text.endswith("end of it") for text in seen) == 2
    assert len(seen) < whole.count(b"\r"), "not each state"


async def test_l17_who_prints_without_a_line_end_is_not_silent(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    workspace, seen = project(tmp_path), list[Event]()
    (workspace.path / "bar.py").write_text(BAR)
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts), observer=seen.append) as pool:
        launcher = ad.Ranks(f"{sys.executable} bar.py .", nproc_per_node=2)
        launch = await ad.fan_out([sshd_nodes[0].node], workspace, launcher, ad.SystemEnv(), pool=pool)
        log = sshd_nodes[0].home / f".asyncdeploy/launches/{launch.id}/rank-0/0/stdout.log"
        async with ad.follow_launch(launch, silent_after_s=1.0, pool=pool) as lines:
            await eventually(lambda: log.exists() and log.stat().st_size > 80, "it has printed for some seconds")
            (sshd_nodes[0].home / "project/go").touch()
            assert len([line async for line in lines]) == 2
    assert notes(seen, "printed anything") == []


async def test_f13_a_rank_that_does_not_come_to_a_collective_of_torch(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    need_torch()
    nodes = [each.node for each in sshd_nodes[:2]]
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        launcher = ad.Torchrun("gloo.py", nproc_per_node=1, python=sys.executable)
        launch = await ad.fan_out(nodes, project(tmp_path), launcher, ad.SystemEnv(), pool=pool)
        await up(pool, launch, 2)
        with anyio.fail_after(30):  # the other one needs a moment from its line to the collective
            while not (found := await ad.diagnose_launch(launch, pool=pool)).missing:
                await anyio.sleep(0.05)
        assert [each.rank for each in found.missing] == [1]
        assert "in late" in found.missing[0].place
        for node in sshd_nodes[:2]:
            (node.home / "project/go").touch()
        assert (await ad.wait_launch(launch, pool=pool)).ok
