"""The whole way once, on four nodes inside this process or on real machines."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.base import Env
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.fleet.collect import collect_all
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.jobs import start_all
from asyncdeploy.fleet.launch import fan_out, follow_launch, wait_launch
from asyncdeploy.fleet.run import run_all
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.launch.placement import Launcher
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.launch.root_cause.judge import failure_of
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import FleetError
from asyncdeploy.run.jobs import wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Event, Observer, OutputLine
from asyncdeploy.values.words import clean
from asyncdeploy.values.workspace import Workspace
from asyncdeploy.view.plain import print_events

NODES = 4
PYTHON = "python3"
"""In an environment it is that one's, and without one there is none of another name (Debian has no `python`)."""
FAILING_RANK = 2
COUNTDOWN = "for i in 3 2 1; do echo countdown $i; sleep 0.2; done; mkdir -p results; date > results/done.txt"


def main(hosts: str | None, *, accept_new: bool, results: str | None) -> int:
    """Run the demo and return the exit status; what went wrong is said."""
    try:
        return asyncio.run(run_demo(hosts, accept_new=accept_new, results=results))
    except KeyboardInterrupt:
        return 130
    except (DeployError, FleetError) as error:
        print(f"error: {error.describe()}", file=sys.stderr)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


async def run_demo(hosts: str | None, *, accept_new: bool = False, results: str | None = None) -> int:
    """Run the demo and return the exit status.

    Args:
        hosts: real machines, as ``parse_nodes`` takes them; None is a LocalCluster of four.
        accept_new: record unknown host keys.
        results: where the results go; None is a temporary folder that is removed.
    """
    start = time.monotonic()
    async with _machines(hosts, accept_new=accept_new) as (nodes, pool):
        with _folder(results) as target, tempfile.TemporaryDirectory(prefix="asyncdeploy-demo-") as folder:
            workspace = Workspace(
                _make_project(Path(folder)), remote_path="~/asyncdeploy-demo", on_conflict="overwrite"
            )
            await _tour(nodes, workspace, target, pool)
    _say(f"\nAll of it took {time.monotonic() - start:.1f} s.")
    if hosts is None:
        _say("Next: the same on your machines:  python -m asyncdeploy demo --hosts root@host1,root@host2")
    _say("Then read README.md: a script of 15 lines does this with your own project.")
    return 0


async def _tour(nodes: tuple[Node, ...], workspace: Workspace, target: Path, pool: Pool) -> None:
    env = _env()
    _title(f"1. deploy: push a workspace to {len(nodes)} nodes and make its environment")
    deployments = (await deploy_all(nodes, workspace, env, pool=pool)).unwrap()
    _title("2. deploy again: nothing changed, so nothing is done")
    await deploy_all(nodes, workspace, env, pool=pool)
    _title("3. one detached job: it would outlive us")
    await _detached_job(deployments[0], pool)
    launcher = await _launcher(nodes, pool)
    _title(
        f"4. a job over all {len(nodes)} nodes: {'torchrun' if isinstance(launcher, Torchrun) else 'ranks over TCP'}"
    )
    launch = await _follow(nodes, workspace, launcher, env, pool)
    _title("5. collect: the results come home, a folder a node")
    (await collect_all(launch, "results", target, pool=pool)).unwrap()
    for path in sorted(target.rglob("sum.json")):  # noqa: ASYNC240 - four small files
        _say(f"{path.relative_to(target)}: {json.loads(path.read_text())}")
    _title(f"6. the same with a failure injected into node rank {min(FAILING_RANK, len(nodes) - 1)}")
    await _show_failure(nodes, workspace, env, pool)


async def _detached_job(deployment: Deployment, pool: Pool) -> None:
    jobs = (await start_all([deployment], COUNTDOWN, name="countdown", pool=pool)).unwrap()
    _say(f"started {jobs[0].id} on {jobs[0].node.name}")
    status = await wait_job(pool.at(jobs[0].node), jobs[0], timeout_s=30)
    if not status.ok:
        raise status.failure() or DeployError(jobs[0].node.name, "the detached job did not end")
    _say(f"it ended with exit status {status.exit_status}")


async def _follow(nodes: tuple[Node, ...], workspace: Workspace, launcher: Launcher, env: Env, pool: Pool) -> Launch:
    launch = await fan_out(nodes, workspace, launcher, env, pool=pool)
    _say(f"launched {launch.id}")
    async with follow_launch(launch, pool=pool) as lines:
        async for line in lines:
            _say(f"{line.node}: {line.text}")
    (await wait_launch(launch, pool=pool)).unwrap()
    return launch


async def _show_failure(nodes: tuple[Node, ...], workspace: Workspace, env: Env, pool: Pool) -> None:
    failing = min(FAILING_RANK, len(nodes) - 1)
    launcher = Ranks(f"{PYTHON} rank.py --fail {failing}", name="failing", opens_port=True)
    launch = await fan_out(nodes, workspace, launcher, env, pool=pool)
    report = await wait_launch(launch, pool=pool)
    if report.ok:
        raise DeployError("", "the injected failure did not show: the demo is broken")
    error = failure_of(report)
    _say(
        describe_failure(error)
        if error
        else "\n".join(outcome.error.describe() for outcome in report.failures if outcome.error)
    )


async def _launcher(nodes: tuple[Node, ...], pool: Pool) -> Launcher:
    """Return real torchrun where every node has a torch to run it with, else the script that needs nothing."""
    python = sys.executable if importlib.util.find_spec("torch") else PYTHON
    question = Command.of(python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)")
    if (await run_all(nodes, question, pool=pool)).ok:
        return Torchrun("train.py", nproc_per_node=1, python=python)
    return Ranks(f"{PYTHON} rank.py", name="rank", opens_port=True)


def _env() -> Env:
    """Return the uv environment if this machine has a uv to send, else the nodes' own python."""
    if importlib.util.find_spec("uv"):
        return UvEnv()
    _say("(uv is not installed here: the nodes' own python is used; `pip install asyncdeploy[uv]` changes that)")
    return SystemEnv()


@contextlib.asynccontextmanager
async def _machines(hosts: str | None, *, accept_new: bool) -> AsyncIterator[tuple[tuple[Node, ...], Pool]]:
    if hosts is None:
        async with LocalCluster(NODES) as cluster, cluster.pool(observer=_observer()) as pool:
            yield cluster.nodes, pool
        return
    keys = HostKeys.accept_new() if accept_new else HostKeys.strict()
    async with Pool(host_keys=keys, observer=_observer()) as pool:
        yield parse_nodes(hosts), pool


@contextlib.contextmanager
def _folder(results: str | None) -> Iterator[Path]:
    if results is not None:
        yield Path(results)
        return
    with tempfile.TemporaryDirectory(prefix="asyncdeploy-results-") as folder:
        yield Path(folder)


def _make_project(folder: Path) -> Path:
    source = importlib.resources.files("asyncdeploy.cli").joinpath("demo_project")
    project = folder / "demo-project"
    with importlib.resources.as_file(source) as path:
        shutil.copytree(path, project, ignore=shutil.ignore_patterns("__pycache__"))
    return project


def _observer() -> Observer:
    """Return an observer that shows the stages; output is shown where the demo wants it."""
    show = print_events()

    def stages(event: Event) -> None:
        if not isinstance(event, OutputLine) or event.source.startswith("env"):
            show(event)

    return stages


def _title(text: str) -> None:
    _say(f"\n== {text}")


def _say(text: str) -> None:
    print(clean(text), flush=True)
