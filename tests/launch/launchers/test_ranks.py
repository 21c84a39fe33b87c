"""Any program that takes its rank from the environment: the plan's arithmetic, and real nodes."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.collect import collect_logs
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import fan_out, stop_launch, wait_launch
from asyncdeploy.launch.gang.attached import run_launch
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.launchers.rank_env import RANK_LINE
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.placement import Placement
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import LaunchFailed
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.freezer import freezer
from tests.support.launches import plan
from tests.support.places import HOUSE, ROOT
from tests.support.pythons import find_python
from tests.support.waiting import BACK_S, eventually, eventually_sync, is_alive

NODE_SIDE = HOUSE / "node_side" / "launch"
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
SAY = f"""\
import json, os, sys
print(json.dumps({{name: os.environ.get(name) for name in {NAMES!r}}}))
print("err", file=sys.stderr)
"""


def by_rank(placement: Placement, node_rank: int) -> Command:
    """A callable of the plan."""
    return Command(f"echo {node_rank} of {len(placement.places)}", env={"WHO": "me"})


def words_of(command: Command) -> list[str]:
    """What the runner is given, its folder and file left out."""
    line = command.line.replace("exec python3 -I", "printf '%s\\0'")
    env = {**dict(command.env), "HOME": "/home/u", "PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, check=True)
    assert done.stderr == b""
    runner, folder, *words = done.stdout.decode().split("\0")[:-1]
    launch = "/home/u/.asyncdeploy/launches/train-abcdefgh"
    assert (runner, folder) == (f"{launch}/tools/rank_runner.py", f"{launch}/rank-{env['NODE_RANK']}")
    return [*words, env[RANK_LINE]]


def test_one_runner_a_node_knows_its_ranks() -> None:
    ranks = Ranks("python 'my train.py'", nproc_per_node=2, uneven=True)
    assert [words_of(command) for command in ranks.commands(plan(2, 1, 2))] == [
        ["2", "0", "5", "python 'my train.py'"],
        ["1", "2", "5", "python 'my train.py'"],
        ["2", "3", "5", "python 'my train.py'"],
    ]


def test_once_a_node_there_are_no_ranks() -> None:
    commands = Ranks(by_rank, nproc_per_node=8, each="node").commands(plan(8, 8))
    assert [words_of(command) for command in commands] == [
        ["1", "-", "16", "echo 0 of 2"],
        ["1", "-", "16", "echo 1 of 2"],
    ]
    env = dict(commands[1].env)
    assert (env["WHO"], env["NODE_RANK"], env["ASYNCDEPLOY_GPUS_PER_NODE"]) == ("me", "1", "8")
    assert (env["GLOO_SOCKET_IFNAME"], env["NCCL_SOCKET_IFNAME"]) == ("eth0", "=eth0")


def test_bad_values_are_refused() -> None:
    for bad in ({"nproc_per_node": 0}, {"master_port": 70000}, {"each": "gpu"}):
        with pytest.raises(ValueError, match="expected"):
            Ranks("true", **bad)
    for name in ("RANK", "MASTER_PORT", "ASYNCDEPLOY_RUN_ID"):
        with pytest.raises(ValueError, match=name):
            Ranks(Command("true", env={name: "1"}))
        with pytest.raises(ValueError, match=name):
            Ranks(lambda *_: Command("true", secrets={name: "1"})).commands(plan(1))  # noqa: B023 - called here
    with pytest.raises(ValueError, match="no stdin was expected"):
        Ranks(Command("cat", stdin=b"x"))


def test_it_travels() -> None:
    ranks = Ranks(Command("train", env={"A": "1"}), nproc_per_node=None, each="node", name="t", opens_port=True)
    assert pickle.loads(pickle.dumps(ranks)) == ranks
    assert Ranks.from_dict(json.loads(json.dumps(ranks.to_dict()))) == ranks
    assert hash(Ranks.from_dict(ranks.to_dict())) == hash(ranks)
    assert pickle.loads(pickle.dumps(Ranks(by_rank))) == Ranks(by_rank)
    with pytest.raises(ValueError, match="got a callable, which has no plain form"):
        Ranks(by_rank).to_dict()


@pytest.fixture
def project(project: Path) -> Path:
    """A folder with a program that says who it is."""
    (project / "say.py").write_text(SAY)
    return project


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    """Two nodes."""
    async with LocalCluster(2) as cluster:
        yield cluster


@pytest.fixture
async def pool(cluster: LocalCluster) -> AsyncIterator[Pool]:
    """Its connections."""
    async with cluster.pool() as pool:
        yield pool


async def deployed(cluster: LocalCluster, pool: Pool, project: Path) -> tuple[Deployment, ...]:
    """The project on both nodes."""
    return (await deploy_all(cluster.nodes, Workspace(project), SystemEnv(), pool=pool)).unwrap()


async def test_every_rank_has_its_number_and_its_log(
    cluster: LocalCluster, pool: Pool, project: Path, tmp_path: Path
) -> None:
    launcher = Ranks(Command("python3 say.py", env={"PYTHONPATH": "/there"}), nproc_per_node=2)
    launch = await fan_out(cluster.nodes, project, launcher, SystemEnv(), pool=pool)
    assert (await wait_launch(launch, pool=pool)).ok
    (await collect_logs(launch, tmp_path / "home", pool=pool)).unwrap()
    for rank in range(4):
        folder = tmp_path / "home" / f"{rank // 2}-local-{rank // 2}" / str(rank % 2)
        assert (folder / "stderr.log").read_text() == "err\n"
        assert json.loads((folder / "stdout.log").read_text()) == {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank % 2),
            "WORLD_SIZE": "4",
            "LOCAL_WORLD_SIZE": "2",
            "NODE_RANK": str(rank // 2),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(launch.placement.master_port),
        }


async def test_attached_too(cluster: LocalCluster, pool: Pool, project: Path) -> None:
    deployments = await deployed(cluster, pool, project)
    report = await run_launch(pool, deployments, Ranks("echo $RANK; exit $LOCAL_RANK", nproc_per_node=2))
    assert not report.ok
    cause = next(outcome.error for outcome in report if isinstance(outcome.error, LaunchFailed))
    assert cause.local_rank == 1
    assert "failed" in cause.message
    report = await run_launch(pool, deployments, Ranks("echo $RANK", nproc_per_node=2))
    said = [set(done.text.split()) for done in report.unwrap()]
    assert said == [{"[local0]:0", "[local1]:1"}, {"[local0]:2", "[local1]:3"}]
    (alone, _) = (await run_launch(pool, deployments, Ranks("echo a; exec printf b"))).unwrap()
    assert alone.text == "a\nb", "a rank without neighbours prints as it does at home"


async def test_f13_one_rank_fails_and_its_neighbours_end(cluster: LocalCluster, pool: Pool, project: Path) -> None:
    """The neighbours ignore TERM; all are gone when the launch has ended."""
    stays = "echo $$ > pid-$RANK; trap '' TERM; while :; do sleep 0.1; done"
    fails = "until [ -e pid-0 ] && [ -e go ]; do sleep 0.02; done; echo sorry >&2; exit 4"
    (project / "rank.sh").write_text(f"if [ $RANK = 1 ]; then\n{fails}\nfi\n{stays}\n")
    launch = await start_launch(
        pool, await deployed(cluster, pool, project), Ranks("sh rank.sh", nproc_per_node=2), grace_s=0.3
    )
    homes = [cluster.home(node) / "project" for node in cluster.nodes]
    files = [homes[0] / "pid-0", homes[1] / "pid-2", homes[1] / "pid-3"]
    await eventually(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(file.read_text()) for file in files]
    (homes[0] / "go").touch()
    with anyio.fail_after(BACK_S):
        error = failure_of(await wait_launch(launch, pool=pool))
    assert not [pid for pid in pids if is_alive(pid)]
    assert error is not None
    assert (error.rank, error.status, error.evidence) == (1, 4, "sorry")
    assert "rank 1 (status 4) on local-0 (node rank 0, local rank 1) failed, its node exited 4" in error.message


async def test_a_rank_that_is_told_to_stop_ends_in_its_own_way(
    cluster: LocalCluster, pool: Pool, project: Path
) -> None:
    line = "trap 'echo saved > saved-$RANK; exit 0' TERM; echo up > up-$RANK; while :; do sleep 0.02; done"
    launch = await fan_out(cluster.nodes, project, Ranks(line, nproc_per_node=2), SystemEnv(), pool=pool)
    homes = [cluster.home(node) / "project" for node in cluster.nodes]
    await eventually(lambda: len([file for home in homes for file in home.glob("up-*")]) == 4)
    report = await stop_launch(launch, grace_s=3, pool=pool)
    assert [outcome.state for outcome in report] == ["cancelled", "cancelled"]
    assert len([file for home in homes for file in home.glob("saved-*")]) == 4


def test_l10_a_neighbour_that_kill_does_not_end_hides_no_failure(tmp_path: Path) -> None:
    """Our end is how the supervisor, and by it the other nodes, hear that a rank has failed."""
    line = f"echo $$ >{tmp_path}/pid-$RANK; test $RANK = 0 || while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 7"
    line = f"test $RANK = 1 || {{ echo $$ >{tmp_path}/pid-0; exec sleep 300; }}; {line}"
    runner = [sys.executable, "-I", str(NODE_SIDE / "rank_runner.py"), str(tmp_path / "logs"), "2", "0", "2"]
    with freezer() as cold:
        process = subprocess.Popen(runner, env={**os.environ, RANK_LINE: line, "ASYNCDEPLOY_GRACE_S": "0.2"})
        files = [tmp_path / f"pid-{rank}" for rank in range(2)]
        eventually_sync(lambda: all(file.exists() and file.read_text() for file in files))
        stuck = int(files[0].read_text())
        cold.freeze(stuck)
        (tmp_path / "go").touch()
        assert process.wait(60) == 7
        assert is_alive(stuck)
    eventually_sync(lambda: not is_alive(stuck), "it has its KILL")


async def test_l8_beside_a_rank_that_failed_the_others_have_the_launchs_grace(
    cluster: LocalCluster, pool: Pool, project: Path
) -> None:
    saves = "trap 'sleep 4; echo saved > saved; exit 0' TERM; echo up > up; while :; do sleep 0.02; done"
    fails = "until [ -e up ]; do sleep 0.02; done; exit 4"
    (project / "rank.sh").write_text(f"if [ $RANK = 1 ]; then\n{fails}\nfi\n{saves}\n")
    deployments = await deployed(cluster, pool, project)
    launch = await start_launch(pool, deployments[:1], Ranks("exec sh rank.sh", nproc_per_node=2), grace_s=25)
    report = await wait_launch(launch, pool=pool)
    error = failure_of(report)
    assert error is not None
    assert error.status == 4
    assert (cluster.home(cluster.nodes[0]) / "project" / "saved").exists()


# --- what notes exceptions -----------------------------------------------------


def shimmed(
    tmp_path: Path, program: str, python: str = sys.executable, **env: str
) -> tuple["subprocess.CompletedProcess[str]", list[dict[str, Any]]]:
    """Run a program below our hook; return what became of it and what was noted."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text((NODE_SIDE / "rank_shim.py").read_text())
    (tmp_path / "program.py").write_text(program)
    paths = os.pathsep.join([str(folder), env.pop("PYTHONPATH", "")])
    done = subprocess.run(
        [python, str(tmp_path / "program.py")],
        env={
            "PYTHONPATH": paths,
            "ASYNCDEPLOY_ERRORS": str(tmp_path / "errors"),
            "RANK": "3",
            "LOCAL_RANK": "1",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done, [json.loads(path.read_text()) for path in sorted((tmp_path / "errors").glob("*.json"))]


def test_an_exception_is_noted_and_goes_its_way(tmp_path: Path) -> None:
    done, (record,) = shimmed(tmp_path, "def f():\n    raise ValueError('a\\nb')\nf()\n")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: a\nb\n")
    assert "sitecustomize" not in done.stderr
    assert (record["type"], record["message"], record["rank"], record["local_rank"]) == ("ValueError", "a\nb", "3", "1")
    assert [frame[1:] for frame in record["frames"]] == [[3, "<module>"], [2, "f"]]
    assert ((tmp_path / "errors").stat().st_mode & 0o777, len(list((tmp_path / "errors").iterdir()))) == (0o700, 1)


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "import sys; sys.exit(0)"])
def test_an_end_that_is_none_is_not_noted(tmp_path: Path, end: str) -> None:
    done, records = shimmed(tmp_path, end)
    assert (done.returncode, done.stderr, records) == (0, "", [])


def test_the_hook_of_the_program_is_the_last_to_speak(tmp_path: Path) -> None:
    program = "import sys\nbefore = sys.excepthook\nsys.excepthook = lambda *a: (print('mine'), before(*a))\n1 / 0\n"
    done, (record,) = shimmed(tmp_path, program)
    assert done.stdout == "mine\n"
    assert record["type"] == "ZeroDivisionError"


def test_the_sitecustomize_of_the_site_runs(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\nsys.excepthook = lambda *a: print('hooked')\nX = 1\n"
    )
    program = "import sys, sitecustomize\nprint(sitecustomize.X, [p for p in sys.path if 'tools' in p])\n1 / 0\n"
    done, (record,) = shimmed(tmp_path, program, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout == "1 []\nhooked\n"
    assert record["message"] == "division by zero"


@pytest.mark.parametrize("minor", ["2.7", "3.6", "3.7", "3.8", "3.13"])
def test_l24_a_python_of_any_age_starts_with_the_sitecustomize_of_its_site(tmp_path: Path, minor: str) -> None:
    python = find_python(minor)
    if python is None:
        pytest.skip(f"no Python {minor} here")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("X = 1\n")
    program = "import sys, sitecustomize\nprint(sitecustomize.X)\nsys.stdout.flush()\nraise OSError('it broke')\n"
    done, records = shimmed(tmp_path, program, python=python, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout == "1\n"
    assert "sitecustomize" not in done.stderr
    assert done.stderr.endswith("Error: it broke\n")
    assert [record["message"] for record in records] == ["it broke"] * (minor not in {"2.7", "3.6", "3.7"})


def test_a_folder_that_cannot_be_written_costs_the_note_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done, records = shimmed(tmp_path, "1 / 0\n", ASYNCDEPLOY_ERRORS=str(tmp_path / "file" / "errors"))
    assert (done.returncode, records) == (1, [])
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_the_runner_dies_as_its_ranks_died(tmp_path: Path) -> None:
    runner = [sys.executable, str(NODE_SIDE / "rank_runner.py"), str(tmp_path / "logs"), "2", "0", "2"]
    env = {**os.environ, RANK_LINE: "kill -KILL $$", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(runner, env=env, capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGKILL
    ends = [json.loads(line) for line in (tmp_path / "logs" / "exits").read_text().splitlines()]
    assert {end["local_rank"] for end in ends} == {0, 1}
    assert ends[0]["exit_code"] == -signal.SIGKILL
    assert ends[0]["stopped"] is False
