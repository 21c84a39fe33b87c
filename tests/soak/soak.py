"""A soak: people at work on 8 real sshd nodes, faults all the while, and every few minutes a look at what is held."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

import asyncdeploy as ad
from tests.soak import flood
from tests.soak.faults import Weather
from tests.soak.measures import Held, held
from tests.soak.players import Player, Tally
from tests.support.beds.disks import small_disk
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths import victims
from tests.support.odd_nodes import hung
from tests.support.waiting import eventually

REST_S = 90.0  # for all that runs to end, and for what nobody holds any more: the lines of the jobs are shorter
SMALL_MB = 48  # of the last node's disk


@attrs.frozen
class Plan:
    """How long, and how much of each kind."""

    seed: int
    minutes: float
    look_minutes: float = 5.0
    warm_minutes: float = 1.0
    nodes: int = 8
    players: int = 4
    fault_every_s: float = 3.0
    commands: int = 10_000
    gigabytes: float = 10.0


@contextlib.contextmanager
def bed_of(count: int, folder: Path) -> Iterator[Sequence[SshdNode]]:
    """So many nodes, the last one with a small disk."""
    bed = SshdBed()
    with small_disk(folder / "small", SMALL_MB) as disk:
        disk.chmod(0o700)
        try:
            yield [bed.start(f"node-{number}", home=disk if number == count - 1 else None) for number in range(count)]
        finally:
            bed.close()


async def soak(plan: Plan, say: Callable[[str], None] = print) -> list[str]:
    """Play it, and say what comes; return what was not as it must be."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name, bed_of(plan.nodes, Path(name)) as nodes:
        async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
            return await _Soak(plan, nodes, pool, Path(name), say).run()


def who_works(sshd: SshdNode) -> list[str]:
    """All on a node but workers at rest, each with its keeper."""
    rest, busy = hung.pids(sshd), {pid for what in victims.HOLDERS for pid in victims.find(sshd, what)}
    return [line[-80:] for pid, line in sshd.processes().items() if pid in busy or pid not in rest]


@attrs.define
class _Soak:
    plan: Plan
    nodes: Sequence[SshdNode]
    pool: ad.Pool
    folder: Path
    say: Callable[[str], None]
    tally: Tally = attrs.Factory(Tally)
    looks: list[Held] = attrs.Factory(list)
    began: float = attrs.Factory(time.monotonic)

    async def run(self) -> list[str]:
        players = [self.player(number) for number in range(self.plan.players)]
        weather = Weather(self.nodes, random.Random(self.plan.seed), self.tally, self.plan.fault_every_s)
        await self.flood()
        await self.stretch(players, weather, self.plan.warm_minutes)
        end = time.monotonic() + 60 * self.plan.minutes
        while (left := end - time.monotonic()) > 0 or len(self.looks) < 2:
            await self.stretch(players, weather, min(self.plan.look_minutes, max(left / 60, 0.01)))
        for what, count in sorted(self.tally.outcomes.items()):
            self.say(f"{count:6} {what}{self.tally.example(what)}")
        self.say(f"slowest answer to a cancellation: {self.tally.slowest_cancel_s:.1f} s")
        for broken in self.tally.broken:
            self.say(f"BROKEN: {broken}")
        return self.tally.broken

    def player(self, number: int) -> Player:
        """Each works on some of the nodes; every node has several players."""
        dice = random.Random(self.plan.seed + 1 + number)
        nodes = dice.sample(list(self.nodes), min(len(self.nodes), 3))
        return Player(nodes, self.pool, self.folder, f"player-{number}", dice, self.tally)

    async def flood(self) -> None:
        if self.plan.commands:
            self.say(await flood.commands(self.nodes[0], self.pool, self.plan.commands, self.tally))
        if self.plan.gigabytes:
            self.say(await flood.output(self.nodes, self.pool, self.plan.gigabytes, self.tally))

    async def stretch(self, players: Sequence[Player], weather: Weather, minutes: float) -> None:
        """Let all work for so long, come to rest, and look what is held."""
        end = time.monotonic() + 60 * minutes

        def over() -> bool:
            return time.monotonic() >= end

        async with asyncio.TaskGroup() as group:
            group.create_task(weather.blow(over))
            for player in players:
                group.create_task(player.play(over))
        await self.rest()
        for player in players:
            player.deployments = ()  # they are cleaned away now
        now = await held(self.nodes, self.pool, time.monotonic() - self.began)
        self.looks.append(now)
        self.tally.broken += now.more_than(self.looks[0], len(self.nodes))
        self.say(f"{now.at_s / 60:5.1f} min, {sum(self.tally.outcomes.values())} things done: {now}")

    async def rest(self) -> None:
        """Wait until nothing but workers at rest is on the nodes."""

        def left() -> list[str]:
            return [f"{sshd.node.name}: {who}" for sshd in self.nodes for who in who_works(sshd)]

        try:
            await eventually(lambda: not left(), within_s=REST_S)
        except AssertionError:
            self.tally.broken.append(f"alive {REST_S:.0f} s after all was over: {left()}")
