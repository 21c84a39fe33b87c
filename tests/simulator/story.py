"""A story: what people do over a few nodes, and what befalls them. Data, made from a seed, and made shorter."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs

LINES = (
    "exit 0",
    "echo hello; exit 0",
    "sleep 2; echo done",
    "echo a; sleep 5; exit 3",
    "trap '' TERM; sleep 8; echo deaf",
    "trap 'exit 7' TERM; sleep 6",
    "seq 500; sleep 1; seq 20",
    "sleep 1; kill -9 $$",
    "sleep 40; echo late",
    "cat; sleep 1",
    "sleep 100",
    "flood 50; exit 0",
)
FAULTS = (
    "cut", "cut", "silent", "silent", "still", "restart", "dark", "full", "slow", "clock", "client clock", "lie",
    "kill worker", "kill worker", "kill supervisor", "few sessions", "stop", "stop", "die",
)  # fmt: skip

ABOUT = ("wait", "crowd", "follow", "stop", "status", "log")
"""Calls about a job that was started."""
INPUT = (b"x" * 1023 + b"\n") * 100
MUCH_INPUT = INPUT * 32
"""Above what is under way at once, so that a start has to wait for its end."""


@attrs.frozen
class Step:
    """One call of the library.

    Attributes:
        does: run, start, wait, crowd (many who wait), follow, stop, status, find, list, log, drop, probe,
            push (the next version of a workspace).
        nodes: how many nodes it is for (the first ones), or which one.
        line: what runs.
        job: which job is meant, by its name.
        timeout_s, at_most_s: as the call takes them.
        ends: how the caller gives up: "" (never), "cancel" (Task.cancel), "timeout" (asyncio.timeout), "scope" (anyio).
        after: when: handles of the loop for "cancel", else milliseconds.
        twice: it is cancelled again, so many handles later; 0 is never.
    """

    does: str
    node: int = 0
    line: str = ""
    job: str = ""
    timeout_s: float | None = None
    at_most_s: float | None = None
    pause_s: float = 0.0
    ends: str = ""
    after: int = 0
    twice: int = 0
    stdin: bytes | None = None
    has_secret: bool = False


@attrs.frozen
class Fault:
    """Something that befalls a node: what, when (seconds), for how long."""

    does: str
    at_s: float
    node: int = 0
    for_s: float = 0.0


@attrs.frozen
class Story:
    """What happens; lanes are callers beside each other, each with one step after another."""

    seed: int
    nodes: int
    latency: float
    lanes: tuple[tuple[Step, ...], ...]
    faults: tuple[Fault, ...] = ()
    is_observed: bool = False

    def shorter(self) -> Iterator[Story]:
        """Yield the same with one thing less."""
        for index in range(len(self.lanes)):
            yield attrs.evolve(self, lanes=self.lanes[:index] + self.lanes[index + 1 :])
        for index in range(len(self.faults)):
            yield attrs.evolve(self, faults=self.faults[:index] + self.faults[index + 1 :])
        for index, lane in enumerate(self.lanes):
            for place, step in enumerate(lane):
                yield self._with(index, (*lane[:place], *lane[place + 1 :]))
                for change in _simpler(step):
                    yield self._with(index, (*lane[:place], change, *lane[place + 1 :]))
        if self.nodes > 1:
            yield attrs.evolve(self, nodes=self.nodes - 1)

    def _with(self, index: int, lane: tuple[Step, ...]) -> Story:
        lanes = (*self.lanes[:index], lane, *self.lanes[index + 1 :])
        return attrs.evolve(self, lanes=tuple(lane for lane in lanes if lane))

    def text(self) -> str:
        """Return it as a few lines for people."""
        lines = [f"seed {self.seed}: {self.nodes} nodes, {self.latency * 1000:g} ms away"]
        for index, lane in enumerate(self.lanes):
            lines += [f"  lane {index}: {_shown(step)}" for step in lane]
        return "\n".join([*lines, *(f"  {_shown(fault)}" for fault in self.faults)])


def _simpler(step: Step) -> Iterator[Step]:
    for name, value in (("ends", ""), ("twice", 0), ("stdin", None), ("has_secret", False), ("pause_s", 0.0)):
        if getattr(step, name) != value:
            yield attrs.evolve(step, **{name: value})
    for name in ("timeout_s", "at_most_s"):
        if getattr(step, name) is not None:
            yield attrs.evolve(step, **{name: None})


def _shown(one: Step | Fault) -> str:
    fields = {field.name: getattr(one, field.name) for field in attrs.fields(type(one)) if field.name != "does"}
    default = {field.name: field.default for field in attrs.fields(type(one))}
    said = {name: f"{len(value)} bytes" if isinstance(value, bytes) else repr(value) for name, value in fields.items()}
    return " ".join([one.does, *(f"{name}={text}" for name, text in said.items() if fields[name] != default[name])])


def make_story(seed: int) -> Story:
    """Return a seed's story: of anything, or of what has been a fault before."""
    chance = random.Random(f"story {seed}")
    theme = THEMES[seed % (len(THEMES) * 2)] if seed % (len(THEMES) * 2) < len(THEMES) else None
    if theme is not None:
        lanes, faults = theme(chance)
        return Story(seed, 1, chance.choice((0.0004, 0.01, 0.15)), lanes, faults, chance.random() < 0.3)
    nodes = chance.choice((1, 1, 2, 3))
    lanes = tuple(_lane(chance, nodes) for _ in range(chance.choice((1, 1, 2, 3))))
    count = chance.choice((0, 1, 1, 2, 3, 5))
    faults = tuple(sorted((_fault(chance, nodes) for _ in range(count)), key=lambda fault: fault.at_s))
    return Story(seed, nodes, chance.choice((0.0004, 0.01, 0.15)), lanes, faults, chance.random() < 0.4)


def _lane(chance: random.Random, nodes: int) -> tuple[Step, ...]:
    """Return what one caller does; a question about a job follows a start of one."""
    steps: list[Step] = []
    for _ in range(chance.randrange(1, 5)):
        does = chance.choice(("run", "run", "start", "start", "about", "about", "about", "list", "drop", "probe"))
        if does == "about":
            started = [step for step in steps if step.does == "start"]
            does = chance.choice(("wait", "crowd", "follow", "stop", "status", "find", "log")) if started else "start"
        step = _step(chance, does, nodes)
        if does in ABOUT and chance.random() < 0.9:
            its = chance.choice(started)
            step = attrs.evolve(step, node=its.node, job=its.job)
        steps.append(step)
    return tuple(steps)


def _step(chance: random.Random, does: str, nodes: int) -> Step:
    step = Step(does, chance.randrange(nodes), pause_s=chance.choice((0.0, 0.0, chance.random() * 4)))
    if does in ("run", "start"):
        step = attrs.evolve(
            step,
            line=chance.choice(LINES),
            timeout_s=chance.choice((None, None, 1.0, 4.0, 30.0)),
            stdin=chance.choice((None, None, None, None, INPUT, MUCH_INPUT)),
            has_secret=chance.random() < 0.3,
        )
    if does == "run":
        step = attrs.evolve(step, at_most_s=chance.choice((None, None, None, 3.0)))
    if does in ("start", *ABOUT):
        step = attrs.evolve(step, job=chance.choice(("a", "a", "b")))
    if does == "wait":
        step = attrs.evolve(step, timeout_s=chance.choice((None, 3.0, 20.0)))
    # A scope of anyio cancels a gather of asyncio at every turn, which is a busy loop and none of ours.
    ends = chance.choice(("", "", "", "cancel", "cancel", "timeout", "timeout" if does == "crowd" else "scope"))
    # Most calls take some hundred handles, and some ten to some hundred milliseconds before they wait for the node.
    after = int(chance.random() ** 2 * (300 if ends == "cancel" else chance.choice((20, 400, 6000))))
    twice = chance.randrange(1, 60) if ends == "cancel" and chance.random() < 0.3 else 0
    return attrs.evolve(step, ends=ends, after=after, twice=twice)


def _fault(chance: random.Random, nodes: int) -> Fault:
    at_s = chance.random() * chance.choice((0.1, 0.5, 2.0, 6.0, 30.0))
    return Fault(
        chance.choice(FAULTS), round(at_s, 4), chance.randrange(nodes), chance.choice((0.5, 3.0, 20.0, 70.0, 120.0))
    )


# -- stories of one kind, each of which was a fault once -------------------------------------------------------------

Themed = tuple[tuple[tuple[Step, ...], ...], tuple[Fault, ...]]


def _given_up_starts(chance: random.Random) -> Themed:
    """Starts and runs that are given up at any moment, some while a little befalls."""
    starts = tuple(_cancelled(chance, _step(chance, chance.choice(("start", "run")), 1)) for _ in range(3))
    faults = (_fault(chance, 1),) if chance.random() < 0.3 else ()
    return (starts,), faults


def _unanswered(chance: random.Random) -> Themed:
    """Questions about a job to a node that hangs, or whose line is silent."""
    about = [Step(chance.choice(ABOUT[:-1]), job="a", timeout_s=chance.choice((None, 2.0))) for _ in range(2)]
    does = chance.choice(("stop", "stop", "silent", "still", "dark"))
    fault = Fault(does, round(0.1 + chance.random(), 3), for_s=chance.choice((20.0, 120.0, 400.0)))
    return ((Step("start", job="a", line="sleep 40; echo late"), *about),), (fault,)


def _lied_to(chance: random.Random) -> Themed:
    """A node that lies, about anything."""
    kinds = ("run", "start", "wait", "status", "find", "list", "log", "stop", "probe")
    steps = (Step(chance.choice(kinds), job="a", line="echo hello; exit 0") for _ in range(4))
    faults = (Fault("lie", round(0.2 + chance.random() * 2, 3)) for _ in range(3))
    return ((Step("start", job="a", line="sleep 3"), *(attrs.evolve(step, pause_s=0.4) for step in steps)),), (*faults,)


def _much_input(chance: random.Random) -> Themed:
    """Input of which some is still on its way when the caller gives up."""
    step = Step(chance.choice(("run", "start")), line="cat; sleep 1", job="a", stdin=MUCH_INPUT)
    limit = chance.choice((None, None, 0.3, 2.2)) if step.does == "run" else None
    if limit is None:
        step = attrs.evolve(step, ends="cancel", after=chance.randrange(50, 110))
    step = attrs.evolve(step, timeout_s=limit)
    fault = Fault(chance.choice(("still", "silent", "cut", "stop")), round(chance.random() * 2.5, 3), for_s=3.0)
    return ((step, Step("list")),), (fault,) if chance.random() < 0.6 else ()


def _crowded(chance: random.Random) -> Themed:
    """A stop, while all that may be lent is lent to those who wait."""
    start = Step("start", job="a", line=chance.choice(("sleep 40; echo late", "trap '' TERM; sleep 8; echo deaf")))
    stop = _cancelled(chance, Step(chance.choice(("stop", "status")), job="a", pause_s=4.0), 0.2)
    return (
        (start, Step("crowd", job="a")),
        (stop, Step("status", job="a")),
        (Step("crowd", job="a", pause_s=3.0),),
    ), ()


def _pushes(chance: random.Random) -> Themed:
    """Versions of a workspace, pushed one after another; some are given up, some die."""
    steps = tuple(_cancelled(chance, Step("push", pause_s=chance.choice((0.0, 0.5))), 0.4) for _ in range(3))
    kinds = ("kill worker", "kill worker", "cut", "silent", "restart", "full", "slow", "still", "stop", "die")
    faults = (
        Fault(chance.choice(kinds), round(chance.random(), 4), for_s=chance.choice((0.05, 0.5, 20.0))) for _ in range(2)
    )
    return (steps,), (*faults,) if chance.random() < 0.8 else ()


def _cancelled(chance: random.Random, step: Step, often: float = 0.8) -> Step:
    if chance.random() > often:
        return step
    twice = chance.randrange(1, 60) if chance.random() < 0.3 else 0
    return attrs.evolve(step, ends="cancel", after=int(chance.random() * 220), twice=twice)


THEMES = (_given_up_starts, _unanswered, _lied_to, _much_input, _crowded, _pushes)
