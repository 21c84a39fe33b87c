"""A simulated machine: its processes, its disk, its clock, its sshd; and what may happen to it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import attrs

from tests.simulator.machine.loop import Life, SimLoop
from tests.simulator.machine.sshd import End, Login

if TYPE_CHECKING:
    from tests.simulator.machine.link import Link
    from tests.simulator.machine.world import World
    from tests.simulator.model.job_folder import Folder

_NONCE = re.compile(r"echo (asyncdeploy-[0-9a-f]{16})\.at")


@attrs.define(eq=False)
class Process(Life):
    """A process of a node; what must happen when it dies, however it dies."""

    pid: int = 0
    at_death: list[Callable[[], object]] = attrs.field(factory=list)

    def die(self) -> None:
        """Be gone, at once: nothing of it is tidied up but what the kernel does."""
        if not self.is_dead:
            self.is_dead = True
            for work in self.at_death:
                work()


class Node:
    """One machine.

    Attributes:
        boot: how often it was started: what ran under another number is gone.
        is_down: nobody listens. is_dark: nobody answers at all.
        disk_is_full, disk_s: what its disk lacks, and how long a write takes.
        clock_off_s: what its wall clock shows beside the truth.
        lies: how many of the next answers are none.
        jobs: its job folders, which a boot does not take away.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.boot = 1
        self.is_down = self.is_dark = False
        self.disk_is_full = False
        self.disk_s = 0.0
        self.clock_off_s = 0.0
        self.lies = 0
        self.lied = False
        self.max_sessions = 10
        self.links: list[Link] = []
        self.processes: dict[int, Process] = {}
        self.jobs: dict[str, Folder] = {}
        self.names_lock: Process | None = None
        self._last_pid = 100

    @property
    def loop(self) -> SimLoop:
        return self.world.loop

    def time(self) -> float:
        """Return the node's wall clock."""
        return self.world.clock.time() - self.world.clock.jumped_s + self.clock_off_s

    def sshd(self, link: Link) -> Login:
        """A client has logged in."""
        self.links = [each for each in self.links if not each.is_cut]
        self.links.append(link)
        return Login(self, link)

    def run_line(self, line: str, end: End) -> None:
        """Run a line of the client's in a session: our worker, or what a shell says of anything else."""
        from tests.simulator.model.worker import search, serve

        found = _NONCE.search(line)
        if found is None:
            self.world.breaks(f"{self.name} was asked to run a line that nobody knows: {line[:60]!r}")
            return
        work = serve if "_frozen_importlib_external" in line else search
        process = self.spawn("worker", lambda process: work(self, process, end, found[1]))
        end.process = process
        process.at_death.append(lambda: end.exit(None, "KILL"))

    def spawn(self, name: str, work: Callable[[Process], Coroutine[Any, Any, None]]) -> Process:
        """Start a process; it is dead when its work is done."""
        self._last_pid += 1
        process = Process(f"{self.name}/{name}", pid=self._last_pid)
        self.processes[process.pid] = process
        process.at_death.append(lambda: self.processes.pop(process.pid, None))
        context = self.world.context(process)
        self.loop.call_soon(self._begin, process, work, context=context)
        return process

    def _begin(self, process: Process, work: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        task = self.loop.create_task(work(process))
        task.add_done_callback(lambda done: self._ended(process, done.exception()))

    def _ended(self, process: Process, error: BaseException | None) -> None:
        if error is not None:
            self.world.breaks(f"the model itself: {process.name}: {type(error).__name__}: {error}")
        process.die()

    async def write(self, name: str) -> None:
        """Write a small file and have it on the disk."""
        import asyncio

        if self.disk_s:
            await asyncio.sleep(self.disk_s * (0.5 + self.world.chance.random()))
        if self.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device", name)

    # -- what may happen to it ------------------------------------------------------------------------------------

    def restart(self, down_s: float) -> None:
        """Lose all power, and come back after a while."""
        for link in tuple(self.links):
            link.cut()
        for record in self.world.records:
            if record.node == self.name and not record.is_ended:
                record.is_ended, record.is_killed, record.ended_at = True, True, self.loop.now
        for process in tuple(self.processes.values()):
            process.die()
        self.processes.clear()
        self.names_lock = None
        self.boot += 1
        self.is_down = True
        self.loop.call_later(down_s, self._up, self.boot, context=self.world.context())

    def _up(self, boot: int) -> None:
        if self.boot == boot:
            self.is_down = False
