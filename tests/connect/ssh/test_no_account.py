"""K4: a client whose uid has no account (OpenShift, `docker run -u`), with and without HOME and USER."""

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.world import run_without_account

PROGRAM = """
import json, os, sys
known_hosts, project, results, node, *unset = sys.argv[1:]
for name in unset:
    os.environ.pop(name, None)
import asyncio
import asyncdeploy as ad

async def main():
    one = ad.Node.from_dict(json.loads(node))
    async with ad.Pool(host_keys=ad.HostKeys.strict(known_hosts)) as pool:
        if one.user is None:
            print([*await ad.run_all(one, "echo in", pool=pool)][0].error.describe())
            return
        deployed = await ad.deploy_all(one, project, ad.SystemEnv(), pool=pool)
        ran = await ad.run_all(one, "echo in", pool=pool)
        job = await ad.start_job(pool.at(one), "echo kept > kept", name="job")
        await ad.wait_job(pool.at(one), job)
        collected = await ad.collect_all(deployed.unwrap(), ".", results, pool=pool)
        print(ran.unwrap()[0].stdout.decode().strip(), collected.ok)

asyncio.run(main())
"""


@pytest.mark.parametrize("unset", [(), ("USER", "LOGNAME"), ("HOME", "USER", "LOGNAME")])
async def test_k4_a_node_that_says_everything_needs_no_account_here(
    start_sshd: Callable[..., SshdNode],
    project: Path,
    tmp_path: Path,
    unset: tuple[str, ...],
) -> None:
    sshd = start_sshd("box")
    (project / "main.py").write_text("print(1)\n")
    node = json.dumps(sshd.node.to_dict())
    words = [str(sshd.known_hosts), str(project), str(tmp_path / "results"), node, *unset]
    assert await run_without_account(PROGRAM, *words) == "in True\n"


@pytest.mark.parametrize("unset", [(), ("HOME", "USER", "LOGNAME")])
async def test_k4_a_node_that_says_less_is_told_what_it_has_to_say(
    start_sshd: Callable[..., SshdNode], tmp_path: Path, unset: tuple[str, ...]
) -> None:
    sshd = start_sshd("box")
    node = json.dumps(attrs.evolve(sshd.node, user=None).to_dict())
    said = await run_without_account(PROGRAM, str(sshd.known_hosts), "", "", node, *unset)
    assert "as which user to log in" in said
    assert "hint: write user@" in said
