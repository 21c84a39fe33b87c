"""Rings 3 and 4: a plan says what a deploy, a run and a launch would do, and nothing is touched by looking."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.plan import plan_all
from asyncdeploy.fleet.planned import NodePlan, Plan
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.nodes.parse import Node, fold_names
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.events import Event
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.envs import steps, write_project
from tests.support.events import details
from tests.support.trees import commit, untouched, write


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """Two nodes."""
    async with LocalCluster(2) as cluster:
        yield cluster


@pytest.fixture
def source(project: Path) -> Path:
    """A repository with a program, and what git ignores."""
    write(project, {".gitignore": ".env\n*.log\n", "train.py": "print(1)\n"})
    commit(project)
    write(project, {".env": "TOKEN=1", "a.log": ""})
    return project


async def test_nothing_is_touched_and_all_is_told(
    sshd_nodes: Sequence[SshdNode], pool: Pool, source: Path, tmp_path: Path
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    homes = [sshd.home for sshd in sshd_nodes[:2]]
    write_project(source, ("one",))
    workspace = Workspace(source, remote_path=f"~/{tmp_path.name}-plan", include=("wheels",))
    launcher = Torchrun("train.py", "--lr", 1, secrets={"KEY": "hunter2"})
    with untouched(source, *homes):
        plan = await plan_all(nodes, workspace, launcher=launcher, pool=pool)
    assert plan.ok, plan
    assert ".env is ignored" in plan.warnings[0]
    assert dict(plan.ignored)[".env"] == ".gitignore:1: .env"
    for rank, (each, home) in enumerate(zip(plan.nodes, homes, strict=True)):
        assert each.path == str(home / f"{tmp_path.name}-plan")
        assert (each.files, each.env) == (plan.files, "make")
        assert "uv sync" in each.steps
        assert each.command is not None
        assert f"--node-rank={rank}" in each.command.line
        assert each.line.endswith("train.py --lr 1")
    text = plan.describe()
    assert text == str(plan)
    assert "hunter2" not in text + repr(plan) + json.dumps(plan.to_dict())
    assert "KEY=***" in text
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))).describe() == text

    (await deploy_all(nodes, workspace, pool=pool)).unwrap()
    with untouched(source, *homes):
        plan = await plan_all(nodes, workspace, command="python train.py", pool=pool)
    assert [(each.push, each.making) for each in plan.nodes] == [("= unchanged", "= unchanged")] * 2
    assert plan.nodes[0].command is not None
    assert ".venv" in plan.nodes[0].command.line
    assert f"  {fold_names([node.name for node in nodes])}: python train.py" in plan.describe()

    # Touched, not changed: a look of a deploy would note the new times, and remove an environment nobody uses.
    old = next((homes[0] / f"{tmp_path.name}-plan/.asyncdeploy").glob("venv-*")) / "unused"
    old.mkdir()
    write(old, {"pyvenv.cfg": "home = /nowhere\n"})
    os.utime(homes[0] / f"{tmp_path.name}-plan/.venv/.asyncdeploy-made-from")
    write(source, {"train.py": "print(2)\n"})
    with untouched(source, *homes):
        plan = await plan_all(nodes, workspace, pool=pool)
    assert [(each.files, each.env) for each in plan.nodes] == [(1, "unchanged")] * 2
    events: list[Event] = []
    async with pool_for(sshd_nodes[0], observer=events.append) as observed:
        (await deploy_all(nodes, workspace, pool=observed)).unwrap()
    assert details(events, "env") == ["= unchanged"] * 2, "the plan was right"

    write_project(source, ("one", "two"))
    plan = await plan_all(nodes, workspace, pool=pool)
    assert [each.env for each in plan.nodes] == ["stands"] * 2


async def test_a_node_without_python3_is_only_looked_at_too(plain_sshd: SshdNode, source: Path) -> None:
    env = steps("mkdir -p .venv", looks="test -d .venv")
    async with pool_for(plain_sshd) as pool:
        with untouched(source, plain_sshd.home):
            plan = await plan_all(plain_sshd.node, source, env, command="sh train.sh", pool=pool)
        assert plan.ok, plan
        assert [(each.files, each.env, each.line) for each in plan.nodes] == [(plan.files, "make", "sh train.sh")]
        (await deploy_all(plain_sshd.node, source, env, pool=pool)).unwrap()
        with untouched(source, plain_sshd.home):
            plan = await plan_all(plain_sshd.node, source, env, pool=pool)
        assert [(each.push, each.env) for each in plan.nodes] == [("= unchanged", "unchanged")]


async def test_a_push_alone_has_no_environment(cluster: LocalCluster, source: Path) -> None:
    async with cluster.pool() as pool:
        plan = await plan_all(cluster.nodes, source, None, pool=pool)
    assert plan.env == ""
    assert [(each.env, each.steps, each.command) for each in plan.nodes] == [("none", (), None)] * 2


async def test_each_rank_has_its_command(cluster: LocalCluster, source: Path) -> None:
    async with cluster.pool() as pool:
        ranks = Ranks("python train.py", nproc_per_node=2)
        plan = await plan_all(cluster.nodes, source, SystemEnv(), launcher=ranks, pool=pool)
        assert plan.ok, plan
        ports = {dict(each.command.env)["MASTER_PORT"] for each in plan.nodes if each.command}
        assert len(ports) == 1
        assert [each.line for each in plan.nodes] == ["python train.py"] * 2
        assert "would run:\n  everywhere: " in plan.describe()
        plan = await plan_all(cluster.nodes, source, SystemEnv(), command=lambda node: f"echo {node.name}", pool=pool)
        assert [each.line for each in plan.nodes] == [f"echo {node.name}" for node in cluster.nodes]


async def test_a_node_that_is_not_there_is_a_problem(cluster: LocalCluster, source: Path) -> None:
    gone = Node("127.0.0.1", port=1, name="gone")
    async with cluster.pool() as pool:
        plan = await plan_all([*cluster.nodes, gone], source, SystemEnv(), launcher=Torchrun("train.py"), pool=pool)
    assert not plan.ok
    assert plan.nodes[0].push == f"{plan.files} files, {plan.bytes} B"
    assert plan.nodes[2].problems
    assert "not every node could be looked at" in plan.problems[0]
    assert "problem: gone: " in plan.describe()
    assert plan.describe().endswith("nothing was changed; it would not succeed")


async def test_what_a_push_would_refuse_is_a_problem(cluster: LocalCluster, source: Path) -> None:
    async with cluster.pool() as pool:
        (await deploy_all(cluster.nodes, source, SystemEnv(), pool=pool)).unwrap()
        write(cluster.home(cluster.nodes[0]) / source.name, {"train.py": "edited"})
        write(source, {"train.py": "new"})
        plan = await plan_all(cluster.nodes, source, SystemEnv(), pool=pool)
    assert not plan.ok
    assert "edited on the node" in plan.nodes[0].problems[0]
    assert not plan.nodes[1].problems


async def test_slips_are_refused_before_a_node_is_touched(cluster: LocalCluster, source: Path) -> None:
    async with cluster.pool() as pool:
        with pytest.raises(ValueError, match=r"did you mean 'train\.py'"):
            await plan_all(cluster.nodes, source, launcher=Torchrun("trian.py"), pool=pool)
        with pytest.raises(ValueError, match="got both"):
            await plan_all(cluster.nodes, source, command="x", launcher=Torchrun("train.py"), pool=pool)
        with pytest.raises(ValueError, match="an environment was expected"):
            await plan_all(cluster.nodes, source, None, command="x", pool=pool)
        with pytest.raises(TransferFailed, match="a folder was expected"):
            await plan_all(cluster.nodes, source / "nothing", pool=pool)


def test_a_large_plan_is_short() -> None:
    nodes = tuple(
        NodePlan(Node(f"n{at:03}"), "/x", 3, 1, 0, 5000, env="make", steps=("uv sync",), command=Command("x"), line="x")
        for at in range(100)
    )
    ignored = tuple((f"{at}.log", ".gitignore:1: *.log") for at in range(50))
    text = Plan(nodes, Workspace("/p"), "uv", 3, 5000, ignored).describe()
    assert "n099  3 files, 5.0 kB, 1 removed  uv sync" in text
    assert "n[000-099]: x" in text
    assert "  and 38 more" in text
    assert repr(Plan(nodes, Workspace("/p"), "uv", 3)) == "Plan(100 nodes, files=3, env='uv', ok)"
    assert repr(nodes[0]) == "NodePlan('n000', push='3 files, 5.0 kB, 1 removed', env='make')"


def test_words_of_a_file_name_cannot_drive_a_terminal() -> None:
    plan = Plan((NodePlan(Node("n"), "/x"),), Workspace("/p"), ignored=(("a\x1b[2J\n.log", "exclude"),))
    assert "\x1b" not in plan.describe()
    assert "a\\x1b[2J .log" in plan.describe()


def test_a_notebook_shows_it_and_takes_no_markup_from_it() -> None:
    plan = Plan((NodePlan(Node("n"), "/x"),), Workspace("/p"), ignored=(("<img src=x>", "exclude"),))
    assert "plan · 1 node" in plan._repr_html_()
    assert "<img" not in plan._repr_html_()
