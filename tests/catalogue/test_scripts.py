"""The catalogue: scripts of people that die of an error on real nodes, and all that they see of it."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.places import ROOT

HEAD = """\
import asyncio, json, sys
import anyio
import asyncdeploy as ad
NODES = [ad.Node.from_dict(node) for node in json.loads(sys.argv[1])]
KNOWN, PROJECT = sys.argv[2:4]
def pool():
    return ad.Pool(host_keys=ad.HostKeys.strict(KNOWN))
async def one_of_four():
    async with pool() as lent:
        report = await ad.run_all(NODES, lambda node: "exit 7" if node == NODES[2] else "true", pool=lent)
        report.unwrap()
async def all_alike():
    async with pool() as lent:
        (await ad.run_all(NODES, "echo no data >&2; exit 7", pool=lent)).unwrap()
async def refused():
    async with pool() as lent:
        await ad.deploy_project(lent, NODES[0], PROJECT, ad.UvEnv(pre="echo no such module; exit 1"))
async def launch():
    async with pool() as lent:
        line = "test $NODE_RANK != 1 || { echo cannot read data.bin; exit 3; }; exec sleep 999"
        launch = await ad.fan_out(NODES, PROJECT, ad.Ranks(line, nproc_per_node=1), ad.SystemEnv(), pool=lent)
        (await ad.wait_launch(launch, pool=lent)).unwrap()
"""
SEEN = {
    "one_of_four": """\
  File "script.py", line 11, in one_of_four
    report.unwrap()
asyncdeploy.FleetError: 1 of 4 nodes failed: node-2: command exited 7: exit 7
""",
    "all_alike": """\
  File "script.py", line 14, in all_alike
    (await ad.run_all(NODES, "echo no data >&2; exit 7", pool=lent)).unwrap()
asyncdeploy.FleetError: 4 of 4 nodes failed: node-[0-3]: command exited 7: echo no data >&2; exit 7
  | no data
""",
    "refused": """\
  File "script.py", line 17, in refused
    await ad.deploy_project(lent, NODES[0], PROJECT, ad.UvEnv(pre="echo no such module; exit 1"))
asyncdeploy.BootstrapFailed: node-0: env failed: pre: echo no such module; exit 1 exited 1
  | no such module
""",
    "launch": """\
  File "script.py", line 22, in launch
    (await ad.wait_launch(launch, pool=lent)).unwrap()
asyncdeploy.FleetError: 1 of 4 nodes failed, 3 stopped because of it: node-1: run ranks-<id> failed: rank 1 (status 3) on node-1 (node rank 1, local rank 0) failed, its node exited 3 after <s>s
ROOT CAUSE  node-1, rank 1 (node rank 1, local rank 0), first of 4
  last 1 line of its log (full: <bed>/node-1/home/.asyncdeploy/launches/ranks-<id>/rank-1/0/stdout.log on node-1)
  cannot read data.bin
CONSEQUENCES
  node-[0,2-3] (3)  +<s>s  stopped by us
""",
}


@pytest.mark.parametrize("runner", ["asyncio.run({}())", "anyio.run({})"])
@pytest.mark.parametrize("what", SEEN)
async def test_a_script_dies_in_a_dozen_lines(
    sshd_nodes: Sequence[SshdNode], tmp_path: Path, what: str, runner: str
) -> None:
    script, project = tmp_path / "script.py", tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[project]\nname = "proj"\nversion = "1"\n')
    last = runner.format(what)
    script.write_text(f"{HEAD}{last}\n")
    nodes = json.dumps([sshd.node.to_dict() for sshd in sshd_nodes])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), nodes, str(sshd_nodes[0].known_hosts), str(project)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    text = errors.decode().replace(str(script), "script.py")
    text = re.sub(r"/tmp/adbed-[\w-]+", "<bed>", re.sub(r"\branks-[a-z2-7]{8}\b", "ranks-<id>", text))
    text = re.sub(r"(after |\+)\d+\.\ds", r"\1<s>s", text)
    heading = (
        f'Traceback (most recent call last):\n  File "script.py", line {len(HEAD.splitlines()) + 1}, in <module>\n'
    )
    assert text == f"{heading}    {last}\n{SEEN[what]}"
    assert len(text.splitlines()) <= 12
    assert (out, process.returncode) == (b"", 1)
