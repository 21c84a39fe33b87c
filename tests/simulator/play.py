"""Plays a story: callers beside each other, what befalls, a client that may die; then all is looked at once more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs

import asyncdeploy as ad
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Connection, Route
from tests.simulator.calls import Called, Caller
from tests.simulator.checks import check, check_end
from tests.simulator.machine import faults, link
from tests.simulator.machine.loop import Life, SimLoop, Stuck
from tests.simulator.machine.steady import steady
from tests.simulator.machine.world import World
from tests.simulator.model.hands import on_real_disks
from tests.simulator.story import Step, Story
from tests.simulator.trees import Trees

AFTERWARDS_S = 240.0
"""How long the world goes on: a worker takes a client for dead after 90 s, and then there are graces."""
BOUND_S = 2000.0
"""No call of a story is under way for so long."""


@attrs.frozen
class Played:
    """What came of a story."""

    story: Story
    broken: tuple[str, ...]
    trace: str
    told: tuple[str, ...] = attrs.field(repr=False)
    is_void: bool = False


class SimConnector:
    """Connects to simulated nodes."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def resolve(self, node: Node) -> Route:
        return Route(node.host, 22)

    async def connect(self, node: Node, through: Connection | None = None) -> Connection:
        return await link.connect(self._world, self._world.nodes[node.name])


def play(story: Story) -> Played:
    """Play a story from its beginning; the same one always ends the same."""
    with simulated(story.seed, story.nodes, story.latency) as world, _disks(world, story):
        play = _Play(world, story)
        try:
            world.loop.run_until_complete(play.whole())
        except Stuck as error:
            world.breaks(f"{error}; under way: {[str(called) for called in play.under_way]}")
    broken = () if world.is_void else tuple(world.broken)
    return Played(story, broken, world.trace(), tuple(world.told), world.is_void)


@contextlib.contextmanager
def _disks(world: World, story: Story) -> Iterator[None]:
    """Give a story that pushes folders on a real disk, in memory where there is one."""
    if not any(step.does == "push" for lane in story.lanes for step in lane):
        yield
        return
    with _folder(story.seed) as root, on_real_disks(world, str(root)):
        world.trees = Trees(root)
        yield


@contextlib.contextmanager
def _folder(seed: int) -> Iterator[Path]:
    """Give an empty folder, the same for each play of a seed, as its name goes into what is sent."""
    base = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    root = base / f"simulator-{seed}"
    try:
        root.mkdir()
    except FileExistsError:  # another process plays it just now, or has died over it
        root = Path(tempfile.mkdtemp(prefix="simulator-", dir=base))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def simulated(seed: int, nodes: int, latency: float) -> Iterator[World]:
    """Give a world in which nothing has happened yet; whatever is under way at the block's end is let go of."""
    chance = random.Random(f"world {seed}")
    loop = SimLoop(chance)
    with steady(loop, random.Random(f"client {seed}")) as clock:
        names = tuple(f"n{number}" for number in range(nodes))
        world = World(loop, clock, chance, names, latency, f"canary-{seed}-{chance.randrange(10**9)}")
        loop.set_exception_handler(lambda _loop, said: world.breaks(f"the loop complains: {said}"))
        gc.collect(0)
        gc.disable()
        try:
            yield world
        finally:
            _bury(loop, world)
            gc.enable()


def _bury(loop: SimLoop, world: World) -> None:
    """Let go of what was still under way, without a word: what was killed has nothing to say."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    loop.set_exception_handler(lambda _loop, _said: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in loop.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()  # type: ignore[union-attr]
            loop.tasks.clear()
            loop._ready.clear()
            loop._scheduled.clear()
            loop.close()
            gc.collect(0)  # what is left of this story, and of nothing else, as none was collected meanwhile
    finally:
        sys.unraisablehook = hook


class _Play:
    """One story under way."""

    def __init__(self, world: World, story: Story) -> None:
        self.world, self.story = world, story
        self.under_way: list[Called] = []
        self.nodes = tuple(ad.Node(name, user="sim", name=name) for name in world.names)
        self.jobs: dict[tuple[str, str], Any] = {}

    async def whole(self) -> None:
        """Play it."""
        world = self.world
        faults.arrange(world, self.story.faults)
        lanes = self._spawn(self._client(), world.client)
        died = asyncio.ensure_future(world.client_died.wait())
        done, _ = await asyncio.wait((lanes, died), return_when="FIRST_COMPLETED", timeout=BOUND_S)
        if not done:
            raise Stuck(f"not over after {BOUND_S:g} s")
        if lanes in done and not lanes.cancelled():
            lanes.result()
        died.cancel()
        faults.heal(world)
        world.note("the world is healed")
        await asyncio.wait((self._spawn(self._look(), Life("another client")),))
        await asyncio.sleep(AFTERWARDS_S)
        check_end(world)

    def _spawn(self, work: Coroutine[Any, Any, None], life: Life) -> asyncio.Task[None]:
        return self.world.loop.create_task(work, context=self.world.context(life))

    def _pool(self) -> ad.Pool:
        return ad.Pool(connector=SimConnector(self.world), observer=self._observe if self.story.is_observed else None)

    def _observe(self, event: ad.Event) -> None:
        if self.world.secret in f"{event!r}{event.to_dict()}":
            self.world.breaks(f"a secret in an event: {event!r}")

    async def _client(self) -> None:
        world = self.world
        async with self._pool() as pool:
            caller = Caller(world, pool, self.nodes, random.Random(f"ids {self.story.seed}"), self.jobs)
            lanes = [self._lane(caller, index, lane) for index, lane in enumerate(self.story.lanes)]
            tasks = [world.loop.create_task(lane) for lane in lanes]
            if tasks:
                await asyncio.wait(tasks)
            for task in tasks:
                task.result()
        self._check_leaks()

    async def _lane(self, caller: Caller, index: int, lane: tuple[Step, ...]) -> None:
        for place, step in enumerate(lane):
            await asyncio.sleep(step.pause_s)
            called = caller.begin(step, f"{index}.{place}")
            if called is not None:
                await self._step(caller, called)

    async def _step(self, caller: Caller, called: Called) -> None:
        """Play one step, and give it up as the story says."""
        loop, step = self.world.loop, called.step
        self.under_way.append(called)
        task = loop.create_task(_given_up(caller.call(called), called, loop))

        def cancel() -> None:
            if not task.done():
                called.gave_up_at = called.gave_up_at if called.gave_up_at is not None else loop.now
                task.cancel()

        if step.ends == "cancel":
            loop.after(step.after, cancel)
            if step.twice:
                loop.after(step.after + step.twice, cancel)
        await asyncio.wait((task,))
        self.under_way.remove(called)
        called.ended_at = loop.now
        if task.cancelled():
            called.error = asyncio.CancelledError()
        elif task.exception() is not None:
            called.error = task.exception()
        else:
            called.value = task.result()
        self.world.note(f"{called}")
        if self.world.is_healed and called.error is not None and not isinstance(called.error, ad.JobLost):
            self.world.breaks(f"{called}: nothing hinders it any more")
        check(self.world, called)

    async def _look(self) -> None:
        """Come back as another client: find what runs, and end it."""
        world = self.world
        async with self._pool() as pool:
            caller = Caller(world, pool, self.nodes, random.Random("ids"), dict(self.jobs))
            for index, node in enumerate(self.nodes):
                if world.trees is not None and (pushed := caller.begin(Step("push", index), "after push")):
                    await self._step(caller, pushed)
                for does in ("list", "status", "stop", "status", "wait"):
                    for (name, job_name), _ in tuple(self.jobs.items()):
                        if name == node.name:
                            step = Step(does, index, job="" if does == "list" else job_name)
                            called = caller.begin(step, f"after {does}")
                            if called is not None:
                                await self._step(caller, called)

    def _check_leaks(self) -> None:
        """Nothing of the client's is left once its pool is closed."""
        here = asyncio.current_task()
        for task in self.world.loop.tasks:
            if task.life is not self.world.client or task is here:
                continue
            if not task.done():
                self.world.breaks(f"a task is left: {task!r}")
            elif task._log_traceback:  # type: ignore[attr-defined]
                self.world.breaks(f"an error that nobody took note of: {task!r}")


async def _given_up(call: Coroutine[Any, Any, Any], called: Called, loop: SimLoop) -> Any:
    """Make a call whose caller gives up after a while, by a timeout or a scope."""
    step = called.step
    after_s = step.after / 1000
    if step.ends == "timeout":
        called.gave_up_at = loop.now + after_s
        async with asyncio.timeout(after_s):
            return await call
    if step.ends == "scope":
        called.gave_up_at = loop.now + after_s
        with anyio.move_on_after(after_s):
            return await call
        raise TimeoutError
    return await call
