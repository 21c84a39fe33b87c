"""R15, R16: an impatient Ctrl-C ends a program and what it ran; connects that are cancelled leave no word behind."""

import asyncio
import gc
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

import asyncdeploy as ad
from asyncdeploy.tasks.urgency import Patience
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.places import ROOT
from tests.support.waiting import eventually

PROGRAM = """
import asyncio, json, signal, sys
import asyncdeploy as ad
from asyncdeploy.tasks.urgency import Patience

signal.signal(signal.SIGINT, signal.default_int_handler)  # who started us may have ignored it, as a shell's "&" does

async def main():
    node = ad.Node.from_dict(json.loads(sys.argv[2]))
    async with ad.Pool(host_keys=ad.HostKeys.strict(sys.argv[1])) as pool:
        {}

asyncio.run(main())
"""
WAYS = {
    "a run that is deaf": """await ad.run_all([node], "trap '' TERM INT; echo on; sleep 999", pool=pool)""",
    "a deploy": 'await ad.deploy_and_run([node], sys.argv[3], "sleep 999", ad.SystemEnv(), pool=pool)',
    "a connect": 'await ad.wait_ready(["root@127.0.0.1:1"], timeout_s=600, pool=pool)',
}


@pytest.mark.parametrize("gap_s", [0.05, 0.5])
@pytest.mark.parametrize("name", WAYS)
async def test_r15_three_times_ctrl_c(
    name: str, gap_s: float, start_sshd: Callable[..., SshdNode], project: Any
) -> None:
    sshd = start_sshd("node")
    (project / "a.txt").write_text("a\n")
    words = [str(sshd.known_hosts), json.dumps(sshd.node.to_dict()), str(project)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM.format(WAYS[name]), *words),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=pipe,
        stderr=pipe,
    )
    if name == "a connect":
        await asyncio.sleep(2)  # it is in its pauses then, and prints nothing
    else:
        await eventually(lambda: any("sleep 999" in line for line in sshd.processes().values()), within_s=30)
    for _ in range(3):
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.sleep(gap_s)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode != 0
    assert "never retrieved" not in errors.decode()
    await eventually(lambda: not [line for line in sshd.processes().values() if "sleep 999" in line], within_s=20)


async def test_r16_cancelled_connects_leave_no_word(start_sshd: Callable[..., SshdNode]) -> None:
    sshd = start_sshd("node")
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))

    async def use() -> None:
        async with pool_for(sshd) as pool:
            await ad.run_command(pool.at(sshd.node), "true")

    chance = random.Random(16)
    for _ in range(60):
        task = asyncio.create_task(use())
        await asyncio.wait((task,), timeout=chance.uniform(0, 0.12))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def test_a_person_who_loses_patience_gets_kill_at_once(start_sshd: Callable[..., SshdNode]) -> None:
    """A second Ctrl-C: what is deaf to TERM is not waited for until its grace is over."""
    sshd = start_sshd("node")
    async with pool_for(sshd) as pool:

        def run(name: str) -> "asyncio.Task[ad.Completed]":
            line = f"trap 'touch ~/heard-{name}' TERM; touch ~/up-{name}; while :; do sleep 0.1; done"
            return asyncio.create_task(ad.run_command(pool.at(sshd.node), line))

        patient = run("patient")
        with Patience() as patience:
            hurried = run("hurried")
        await eventually(lambda: len(list(sshd.home.glob("up-*"))) == 2, within_s=30)
        patient.cancel()
        hurried.cancel()
        await eventually(lambda: len(list(sshd.home.glob("heard-*"))) == 2, within_s=30)
        patience.lose()
        done, _ = await asyncio.wait((patient, hurried), return_when=asyncio.FIRST_COMPLETED)
        assert done == {hurried}
        await asyncio.wait((patient,))
