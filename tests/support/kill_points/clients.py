"""Nodes, a process whose forks work on them and die at a chosen call, and the pool of who comes later."""

import asyncio
import json
import os
import pickle
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.kill_points import client
from tests.support.kill_points.points import SEED, Doom, Plan
from tests.support.places import ROOT
from tests.support.trees import write
from tests.support.waiting import eventually

WITHIN_S = 60.0  # for ranks that miss another one, and for the node to see that we are gone


@attrs.define
class Clients:
    """The process whose forks work, the nodes they work on, and the pool of who comes later."""

    process: asyncio.subprocess.Process
    nodes: Sequence[SshdNode]
    pool: ad.Pool
    folder: Path
    dice: random.Random
    alive: Sequence[set[int]] = ()

    @property
    def source(self) -> Path:
        return self.folder / "proj"

    async def play(self, work: str, when: int, **told: Any) -> Doom:
        """Let a fork do it and die there, if it is not 0; what befell it."""
        doom = Doom(self.folder, Plan("0", when, client.CALLS, ours=False))
        code = await self.send(work, doom, told)
        assert code == (-9 if doom.hit() else 0), f"{work}, call {when}: it ended with {code}"
        return doom

    async def send(self, work: str, doom: Doom, told: dict[str, Any]) -> int:
        """How a fork that does it ends."""
        self.alive = [set(sshd.processes()) for sshd in self.nodes]
        words = {
            "work": work,
            "plan": str(doom.path),
            "known_hosts": str(self.nodes[0].known_hosts),
            "nodes": [sshd.node.to_dict() for sshd in self.nodes],
            "source": str(self.source),
            **told,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        return int(await self.process.stdout.readline())

    def quiet(self) -> bool:
        """Whether nothing lives on the nodes but what lived before."""
        return all(not set(sshd.processes()) - had for sshd, had in zip(self.nodes, self.alive, strict=True))

    async def settled(self, what: str) -> None:
        await eventually(self.quiet, f"nothing lives: {what}", within_s=WITHIN_S)

    async def deployed(self) -> tuple[ad.Deployment, ...]:
        report = await ad.deploy_all([sshd.node for sshd in self.nodes], self.source, ad.SystemEnv(), pool=self.pool)
        return tuple(report.unwrap())


@asynccontextmanager
async def clients(nodes: Sequence[SshdNode], folder: Path) -> AsyncIterator[Clients]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", client.__name__),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
            bed = Clients(process, nodes, pool, folder, random.Random(SEED))
            write(bed.source, {"first": "first"})
            await bed.deployed()
            yield bed
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


async def total_of(doom: Doom) -> int:
    """How many calls a client has made."""
    return next(iter((await doom.counted([""])).values()))


def error_of(doom: Doom) -> ad.DeployError:
    """What a client has told of an error."""
    path = Path(f"{doom.path}.error")
    assert path.exists(), "it ended with an error that is none of ours: its traceback stands on stderr"
    error = pickle.loads(path.read_bytes())
    assert isinstance(error, ad.DeployError)
    return error
