"""The client in a process of its own: it starts one piece of work, waits for it, and says in JSON what it was told.

    python -m tests.support.deaths.asker PLAN

A line with "began" comes when the work was started, one with "told" at its end, one with "error" instead.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import Iterable
from typing import Any

import asyncdeploy as ad
from asyncdeploy.launch.root_cause.judge import failure_of

# Signs of life often enough for the short silences of a test.
HASTE = {
    "asyncdeploy.remote.worker.HEARTBEAT_S": 0.5,
    "asyncdeploy.remote.worker.SILENCE_S": 6.0,
    "asyncdeploy.run.attached.GRACE_S": 0.5,
    "asyncdeploy.run.job_ask.ANSWER_S": 4.0,
}


def hasten() -> None:
    """Take short times for long ones in this process."""
    for place, seconds in HASTE.items():
        module, _, name = place.rpartition(".")
        setattr(importlib.import_module(module), name, seconds)


def told(report: ad.Report[Any]) -> dict[str, object]:
    """What a report says, as far as it can be true or false."""
    cause = failure_of(report)
    return {"ok": report.ok, "cause": cause.node_rank if cause else None, "ends": [_end(each) for each in report]}


def _end(outcome: ad.Outcome[Any]) -> dict[str, object]:
    value = outcome.value
    status = getattr(value, "status", getattr(value, "exit_status", None))
    signal = getattr(value, "signal", None)
    return {"state": outcome.state, "status": status, "signal": signal, "error": str(outcome.error or "")}


async def work(pool: ad.Pool, plan: dict[str, Any]) -> dict[str, object]:
    """Do what the plan asks for."""
    nodes = [ad.Node.from_dict(node) for node in plan["nodes"]]
    if plan["work"] == "run":
        say(began="")
        return told(await ad.run_all(nodes, plan["line"], pool=pool))
    if plan["work"] == "job":
        remote = pool.at(nodes[0])
        job = await ad.start_job(remote, plan["line"], name=plan["name"])
        say(began=job.id)
        status = await ad.wait_job(remote, job)
        error = status.failure()
        end = {"state": status.state, "status": status.exit_status, "signal": status.signal, "error": str(error or "")}
        return {"ok": status.ok, "cause": None, "ends": [end]}
    launch = await ad.start_launch(
        pool, deployments(plan["deployments"]), launcher(plan), grace_s=0.5, silence_s=plan["silence_s"]
    )
    say(began=launch.id)
    return told(await ad.wait_launch(launch, pool=pool))


def deployments(kept: Iterable[dict[str, Any]]) -> list[ad.Deployment]:
    return [ad.Deployment.from_dict(each) for each in kept]


def launcher(plan: dict[str, Any]) -> ad.Ranks | ad.Torchrun:
    if plan["work"] == "ranks":
        return ad.Ranks(plan["line"], nproc_per_node=1, name=plan["name"])
    # Torch asks for the names of its peers, and no name server is reached from these nodes.
    env = {"RES_OPTIONS": "timeout:1 attempts:1"}
    return ad.Torchrun("train.py", plan["name"], nproc_per_node=1, python=sys.executable, name=plan["name"], env=env)


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


async def main() -> None:
    hasten()
    plan = json.loads(sys.argv[1])
    async with ad.Pool(host_keys=ad.HostKeys.strict(plan["known_hosts"])) as pool:
        try:
            say(told=await work(pool, plan))
        except ad.DeployError as error:
            say(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
