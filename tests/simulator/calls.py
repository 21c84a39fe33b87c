"""The calls of the library that the steps of a story stand for."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import read_log
from tests.simulator.machine.world import World
from tests.simulator.story import Step

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@attrs.define(eq=False)
class Called:
    """One step as it was played.

    Attributes:
        tag: names the step to what it starts, as a variable of it.
        job: the job that it is about, or that it starts.
        value, error: what came of it.
        gave_up_at: when the caller did.
        known: jobs that had been started on the node when it began.
    """

    step: Step
    tag: str
    began_at: float
    names: tuple[str, ...]
    job: Job | None = None
    value: Any = None
    error: BaseException | None = None
    gave_up_at: float | None = None
    ended_at: float = 0.0
    known: frozenset[str] = frozenset()

    def __str__(self) -> str:
        what = f"{self.error!r}" if self.error is not None else f"{self.value!r}"[:300]
        return f"{self.tag} {self.step.does} on {','.join(self.names)} -> {what}"


@attrs.define(eq=False)
class Caller:
    """Who calls: a pool, the nodes, and the jobs that were started."""

    world: World
    pool: ad.Pool
    nodes: tuple[ad.Node, ...]
    chance: random.Random
    jobs: dict[tuple[str, str], Job] = attrs.field(factory=dict)

    def begin(self, step: Step, tag: str) -> Called | None:
        """Return the call that a step is, None where it has nothing to be about."""
        place = step.node % len(self.nodes)
        nodes = self.nodes[: place + 1] if step.does == "run" else (self.nodes[place],)
        called = Called(step, tag, self.world.loop.now, tuple(node.name for node in nodes))
        called.known = frozenset(self.world.nodes[nodes[-1].name].jobs)
        if step.does == "start":
            job_id = f"{step.job}-" + "".join(self.chance.choice(BASE32) for _ in range(8))
            called.job = Job(nodes[-1], job_id, step.job, "", step.line)
        elif step.job:
            called.job = self.jobs.get((nodes[-1].name, step.job))
            if called.job is None:
                return None
        elif step.does == "find":
            called.job = next((job for (name, _), job in self.jobs.items() if name == nodes[-1].name), None)
            if called.job is None:
                return None
        return called

    async def call(self, called: Called) -> Any:
        """Make the call."""
        step = called.step
        node = self.nodes[step.node % len(self.nodes)]
        remote = self.pool.at(node)
        match step.does:
            case "run":
                nodes = self.nodes[: step.node % len(self.nodes) + 1]
                return await ad.run_all(nodes, self._command(called), at_most_s=step.at_most_s, pool=self.pool)
            case "start":
                assert called.job is not None
                self.jobs[node.name, step.job] = called.job  # it may run, whatever we are told
                job_id = called.job.id
                return await ad.start_job(remote, self._command(called), name=step.job, job_id=job_id)
            case "list":
                return await ad.list_jobs(remote)
            case "drop":
                self.world.befell.append((self.world.loop.now, "drop", node.name, 0.0))
                return await self.pool.drop(node)
            case "push":
                assert self.world.trees is not None
                self.world.trees.edit()
                return await ad.push_code(remote, self.world.trees.workspace(node.name))
            case "probe":
                return await ad.probe_node(remote, fresh=True)
        assert called.job is not None
        match step.does:
            case "wait":
                return await ad.wait_job(remote, called.job, timeout_s=step.timeout_s)
            case "follow":
                async with ad.follow_job(remote, called.job) as log:
                    return [line async for line in log], log.state
            case "crowd":
                waits = (ad.wait_job(remote, called.job, timeout_s=8) for _ in range(9))
                found = await asyncio.gather(*waits, return_exceptions=True)
                if errors := [each for each in found if isinstance(each, BaseException)]:
                    raise errors[0]
                return found[-1]
            case "stop":
                return await ad.stop_job(remote, called.job, grace_s=1)
            case "status":
                return await ad.job_status(remote, called.job)
            case "find":
                return await ad.find_job(remote, called.job.id)
            case "log":
                return await read_log(remote, called.job, 1 << 20)
        raise AssertionError(step.does)

    def _command(self, called: Called) -> ad.Command:
        step = called.step
        return ad.Command(
            step.line,
            env={"SIM_TAG": called.tag},
            secrets={"TOKEN": self.world.secret} if step.has_secret else {},
            stdin=step.stdin,
            timeout_s=step.timeout_s,
        )
