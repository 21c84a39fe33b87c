"""What runs on a node runs with every Python that it may have: a run, a push, a job and a collect with each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import read_log, start_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.pythons import find_python
from tests.support.tools import need_root

MINORS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")


@pytest.mark.parametrize("minor", MINORS)
async def test_a_node_may_have_any_of_these_pythons(
    minor: str, start_sshd: Callable[..., SshdNode], tmp_path: Path
) -> None:
    need_root()
    python = find_python(minor)
    if python is None:
        pytest.skip(f"there is no python{minor} on this machine")
    # Where the node looks first stands this one, and nothing else of the machine is changed.
    sshd = start_sshd("python", files={"/usr/bin/python3": f'#!/bin/sh\nexec {python} "$@"\n'})
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "in.txt").write_text("pushed\n")
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        assert (await probe_node(remote)).python_version.startswith(f"{minor}.")
        done = await run_command(remote, Command("cat; echo err >&2; exit 3", stdin="in", env={"A": "b"}))
        assert (done.status, done.stdout, done.stderr) == (3, b"in", b"err\n")
        site = await push_code(remote, Workspace(tmp_path / "project"))
        assert await push_code(remote, Workspace(tmp_path / "project")) == site
        job = await start_job(remote, Command("cat in.txt; mkdir out; cp in.txt out/", cwd=site.path), name="story")
        assert (await wait_job(remote, job)).ok
        assert await read_log(remote, job) == "pushed\n"
        collected = await sync_results(remote, f"{site.path}/out", tmp_path / "home")
        assert (collected.files, (tmp_path / "home" / "in.txt").read_text()) == (1, "pushed\n")
