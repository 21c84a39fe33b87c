"""What befalls the nodes of a soak: lines that break, processes that are killed or stand still, a disk that is full."""

import asyncio
import contextlib
import errno
import math
import random
import signal
import time
from collections.abc import Callable, Sequence

import attrs

from tests.soak.players import Tally
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths import victims

KILLED = ("worker", "supervisor", "keeper", "guard", "leader", "process")
BLOCK = bytes(1 << 20)


@attrs.define
class Weather:
    """One fault after another, at random nodes; the last of them has the small disk."""

    nodes: Sequence[SshdNode]
    dice: random.Random
    tally: Tally
    every_s: float

    async def blow(self, until: Callable[[], bool]) -> None:
        ways = [self.drop, self.restart, self.pause, self.kill, self.kill, self.fill]
        while not until():
            await asyncio.sleep(self.dice.uniform(0, 2 * self.every_s))
            if not until():
                way, sshd = self.dice.choice(ways), self.dice.choice(self.nodes)
                self.tally.fault_at = math.inf  # it lasts
                self.tally.outcomes[f"fault: {await way(sshd)}"] += 1
                self.tally.fault_at = time.monotonic()

    async def drop(self, sshd: SshdNode) -> str:
        sshd.end_sessions(signal.SIGKILL)
        return "its connections are cut"

    async def restart(self, sshd: SshdNode) -> str:
        await asyncio.to_thread(sshd.restart)
        return "its sshd is started again"

    async def pause(self, sshd: SshdNode) -> str:
        found = [*sshd.sessions(), *sshd.processes()]
        victims.send(found, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.dice.uniform(0.2, 3))
        finally:
            victims.send(found, signal.SIGCONT)
        return "it stands still for a while"

    async def kill(self, sshd: SshdNode) -> str:
        what = self.dice.choice(KILLED)
        found = victims.find(sshd, what)
        victims.send(self.dice.sample(found, 1) if found else [], signal.SIGKILL)
        return f"a {what} of it is killed" if found else "nobody was there to be killed"

    async def fill(self, _sshd: SshdNode) -> str:
        """Fill the small disk to its last byte for a while."""
        path = self.nodes[-1].home / "filled"
        try:
            with path.open("wb", buffering=0) as file:
                for block in (BLOCK, BLOCK[:4096]):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(block)
            await asyncio.sleep(self.dice.uniform(0.5, 4))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            path.unlink(missing_ok=True)
        return "its disk is full for a while"
