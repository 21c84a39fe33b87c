"""Who works in a soak: one person with one project, who pushes, runs, launches, collects, stops and loses patience."""

import asyncio
import collections
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode
from tests.support.results import tree as results_of
from tests.support.trees import change_files, tree
from tests.support.waiting import BACK_S

IMPATIENT = 0.2  # of all that is begun so much is cancelled
SILENCE_S = 15.0  # until the ranks of a launch miss one, on a machine that is busy
AT_MOST_S = 120.0  # for one thing; a node's own time, so that one that hangs is a failure of the soak
EXCUSED_S = 60.0  # after a fault something may go wrong: a silence is noticed late, and a launch waits for it
# Each ends by itself: what a fault leaves to nobody is not there a little later.
RANK = "echo rank $NODE_RANK; mkdir -p out; echo $NODE_RANK >out/rank; sleep 0.{tenths}; exit {status}"


@attrs.define
class Tally:
    """What was done, and how it came out; a broken promise is kept in full."""

    outcomes: collections.Counter[str] = attrs.Factory(collections.Counter)
    broken: list[str] = attrs.Factory(list)
    slowest_cancel_s: float = 0.0
    fault_at: float = -math.inf  # the end of the last one
    examples: dict[str, str] = attrs.Factory(dict)

    def example(self, what: str) -> str:
        return f": {self.examples[what]}" if what in self.examples else ""

    def promise(self, kept: bool, what: str) -> None:
        if not kept:
            self.broken.append(what)


@attrs.define
class Player:
    """One person at work on some of the nodes; whatever happens there, what he is told is true."""

    nodes: Sequence[SshdNode]
    pool: ad.Pool
    folder: Path
    name: str
    dice: random.Random
    tally: Tally
    deployments: tuple[ad.Deployment, ...] = ()
    count: int = 0

    def __attrs_post_init__(self) -> None:
        self.project.mkdir(parents=True)

    @property
    def project(self) -> Path:
        return self.folder / self.name

    async def play(self, until: Callable[[], bool]) -> None:
        """One thing after another."""
        ways: list[Callable[[], Awaitable[str]]] = [self.push, self.run, self.job, self.launch, self.collect]
        while not until():
            self.count += 1
            way = self.dice.choice(ways)
            began, example = time.monotonic(), ""
            try:
                said = await self.patiently(way)
            except (ad.FleetError, ad.DeployError) as error:
                first = error.exceptions[0] if isinstance(error, ad.FleetError) else error
                said, example = type(first).__name__, str(first)
            said = f"{way.__name__}: {said}"
            if not said.endswith((" ok", " cancelled", " nothing yet")):
                excused = began - self.tally.fault_at < EXCUSED_S
                self.tally.promise(excused, f"{said}, and nothing was done to anybody: {example}")
                self.tally.examples.setdefault(said, example[:200])
            self.tally.outcomes[said] += 1

    async def patiently(self, way: Callable[[], Awaitable[str]]) -> str:
        """Do a thing, or begin it and lose patience; the call is back in time."""
        if self.dice.random() >= IMPATIENT:
            async with asyncio.timeout(AT_MOST_S + BACK_S):
                return await way()
        task = asyncio.ensure_future(way())
        await asyncio.wait([task], timeout=self.dice.uniform(0, 1.5))
        if task.done():
            return await task
        task.cancel()
        asked = time.monotonic()
        await asyncio.wait([task])
        took = time.monotonic() - asked
        self.tally.slowest_cancel_s = max(self.tally.slowest_cancel_s, took)
        self.tally.promise(took < BACK_S, f"{way.__name__}: back {took:.1f} s after it was cancelled")
        return "cancelled" if task.cancelled() else await task

    # --- what there is to do

    async def push(self) -> str:
        """A new version everywhere: where it is said to be, it is, and no other."""
        change_files(self.project, self.dice)
        wanted = tree(self.project)
        workspace = ad.Workspace(self.project, on_conflict="overwrite", under_jobs="overwrite", on_emptied="remove")
        nodes = [sshd.node for sshd in self.nodes]
        report = await ad.deploy_all(nodes, workspace, ad.SystemEnv(), pool=self.pool, at_most_s=AT_MOST_S)
        for sshd, outcome in zip(self.nodes, report, strict=True):
            if outcome.ok:
                stands = tree(sshd.home / self.name)
                missing = {name for name in wanted if stands.get(name) != wanted[name]}
                self.tally.promise(not missing, f"push said ok and {sshd.node.name} lacks {sorted(missing)[:5]}")
        self.deployments = tuple(report.unwrap())
        return "ok"

    async def run(self) -> str:
        """A line that ends with a status, prints much, or runs too long."""
        status, lines = self.dice.choice((0, 0, 3)), self.dice.choice((1, 1000))
        limit = self.dice.choice((None, None, 0.2))
        line = f"seq {lines}; {'sleep 30' if limit else ':'}; exit {status}"
        nodes = [sshd.node for sshd in self.nodes]
        command = ad.Command(line, timeout_s=limit)
        report = await ad.run_all(nodes, command, pool=self.pool, at_most_s=AT_MOST_S)
        whole = "".join(f"{number}\n" for number in range(1, lines + 1)).encode()
        for outcome in report:
            done = outcome.value
            self.tally.promise(not outcome.ok or (status == 0 and limit is None), f"run: ok for {line!r}: {outcome}")
            if limit is not None:  # TERM ends its sleep, and the shell may go on to its own end
                self.tally.promise(outcome.error is not None, f"run: no error for {line!r} in {limit} s: {outcome}")
            elif done is not None and done.status is not None:
                self.tally.promise(done.status == status, f"run: {done.status} of {line!r}")
                self.tally.promise(done.stdout == whole, f"run: {len(done.stdout)} bytes of {len(whole)} and a status")
        return _said(report, right=status == 0 and limit is None)

    async def job(self) -> str:
        """A job, waited for or stopped."""
        status, stop = self.dice.choice((0, 3)), self.dice.random() < 0.3
        remote = self.pool.at(self.dice.choice(self.nodes).node)
        line = f"sleep {20 if stop else 0.3}; exit {status}"
        job = await ad.start_job(remote, line, name=f"{self.name}-{self.count}")
        if stop:
            ended = await ad.stop_job(remote, job, grace_s=0.5)
            self.tally.promise(not ended.ok and not ended.survivors, f"job: stopped, and it is {ended}")
            return "ok" if ended.ended else ended.state
        ended = await ad.wait_job(remote, job, timeout_s=60)
        self.tally.promise(ended.exit_status in (None, status), f"job: {ended} of {line!r}")
        return "ok" if ended.exit_status == status else ended.state

    async def launch(self) -> str:
        """A launch over all of the nodes, one rank of which may fail."""
        if not self.deployments:
            return "nothing yet"
        status, tenths = self.dice.choice((0, 0, 3)), self.dice.randint(1, 9)
        line = f"test $NODE_RANK = 1 || {{ {RANK.format(tenths=tenths, status=0)}; }}; "
        line += RANK.format(tenths=tenths, status=status)
        ranks = ad.Ranks(line, nproc_per_node=1, name=f"{self.name}-{self.count}")
        launch = await ad.start_launch(self.pool, self.deployments, ranks, grace_s=0.5, silence_s=SILENCE_S)
        report = await ad.wait_launch(launch, pool=self.pool)
        self.tally.promise(not report.ok or status == 0, f"launch: ok though rank 1 ends with {status}")
        return _said(report, right=status == 0)

    async def collect(self) -> str:
        """What the ranks wrote, and the tree itself: here as it is there."""
        if not self.deployments:
            return "nothing yet"
        target = self.folder / f"{self.name}-home"
        before = [results_of(sshd.home / self.name / "many") for sshd in self.nodes]
        report = await ad.collect_all(self.deployments, "many", target, pool=self.pool, at_most_s=AT_MOST_S)
        for rank, (sshd, outcome) in enumerate(zip(self.nodes, report, strict=True)):
            there = results_of(sshd.home / self.name / "many")
            if outcome.ok and there == before[rank]:  # a push that we have cancelled may just be finished
                here = results_of(target / f"{rank}-{sshd.node.name}")
                wrong = [name for name in there if here.get(name) != there[name]]
                self.tally.promise(not wrong, f"collect: ok, and {wrong[:5]} of {sshd.node.name} differ")
        report.unwrap()
        return "ok"


def _said(report: ad.Report[Any], *, right: bool) -> str:
    """Say "ok" of what ended as it had to, else what came instead."""
    others = ", ".join(sorted({each.state for each in report if not each.ok}))
    if right:
        return "ok" if report.ok else others
    return "ok" if "failed" in others else others or "all are ok"
