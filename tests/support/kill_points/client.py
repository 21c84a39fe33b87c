"""A client that dies at one of its system calls: a fork for each piece of work, for a start costs too much.

Each line on stdin is JSON: "work", what tracer.py is to do, and what the work is told. The answer to each is a line
with the exit status of the fork: 0, 1 for an error, or -9. What people are told of an error of ours stands in
PLAN.error, pickled.

A step of the event loop is a call of epoll_wait, a write to a connection one of sendto or sendmsg.
"""

import asyncio
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import asyncdeploy as ad
from asyncdeploy.envs.base import Step
from tests.support.envs import StepsEnv
from tests.support.kill_points import tracer

SILENCE_S = 6.0  # until a rank misses another, which was never started
CALLS = (
    *("epoll_wait", "sendto", "sendmsg", "openat", "write", "read", "fsync", "ftruncate", "utimensat", "fchmod"),
    *("pwrite64", "rename", "renameat", "mkdir", "mkdirat", "unlink", "unlinkat", "link", "linkat", "symlinkat"),
    "fchmodat",
)


def env_of(version: str) -> StepsEnv:
    """One that takes a moment to make, and is told from that of another version."""
    line = f"echo {version} >.made.new && sleep 0.05 && mv .made.new .made"
    return StepsEnv((Step("make", line),), looks=f'test "$(cat .made)" = {version}')


def line_of(name: str) -> str:
    """What each rank does."""
    return f"echo up >~/{name}-up; until [ -e ~/{name}-go ]; do sleep 0.05; done; echo 0 >~/{name}-end"


async def push(pool: ad.Pool, told: dict[str, Any]) -> None:
    await ad.push_code(pool.at(ad.Node.from_dict(told["nodes"][0])), told["source"])


async def deploy(pool: ad.Pool, told: dict[str, Any]) -> None:
    nodes = [ad.Node.from_dict(each) for each in told["nodes"]]
    (await ad.deploy_all(nodes, told["source"], env_of(told["version"]), pool=pool)).unwrap()


async def launch(pool: ad.Pool, told: dict[str, Any]) -> None:
    ranks = ad.Ranks(line_of(told["name"]), nproc_per_node=1, name=told["name"])
    deployments = [ad.Deployment.from_dict(each) for each in told["deployments"]]
    started = await ad.start_launch(pool, deployments, ranks, grace_s=0.5, silence_s=SILENCE_S)
    for go in told["go"]:
        Path(go).touch()
    report = await ad.wait_launch(started, pool=pool)
    assert report.ok, report


async def collect(pool: ad.Pool, told: dict[str, Any]) -> None:
    deployments = [ad.Deployment.from_dict(each) for each in told["deployments"]]
    (await ad.collect_all(deployments, "~/out", told["target"], pool=pool)).unwrap()


WORK = {work.__name__: work for work in (push, deploy, launch, collect)}


async def play(told: dict[str, Any]) -> None:
    async with ad.Pool(host_keys=ad.HostKeys.strict(told["known_hosts"])) as pool:
        await WORK[told["work"]](pool, told)


def main() -> None:
    for name in ad.__all__:
        getattr(ad, name)  # loaded here, and not anew in each fork
    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            tracer.follow(told["plan"], os.getpid())
            code = 1
            try:
                asyncio.run(play(told))
                code = 0
            except (ad.FleetError, ad.DeployError) as error:
                first = error.exceptions[0] if isinstance(error, ad.FleetError) else error
                Path(told["plan"] + ".error").write_bytes(pickle.dumps(first))
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
