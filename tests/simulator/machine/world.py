"""One world: its loop, its clock, its nodes, and the truth about what ran there."""

from __future__ import annotations

import asyncio
import hashlib
import random
from contextvars import Context
from typing import TYPE_CHECKING

import attrs

from tests.simulator.machine.loop import LIFE, Life, SimLoop
from tests.simulator.machine.node import Node

if TYPE_CHECKING:
    from tests.simulator.machine.steady import Clock
    from tests.simulator.model.hands import Hands
    from tests.simulator.trees import Trees

MAY_HOLD_SECRETS = (b"V", b"+", b"Crun.run\0")
"""How a frame begins in which a secret may travel: a start's variables, the call of a run and its first parts."""
HARMLESS = ("clock", "client clock")
"""What befalls and must change nothing: no outcome follows from a clock that jumps."""


@attrs.define(eq=False)
class Record:
    """What really became of something that was started.

    Attributes:
        key: its marker, or its job's id.
        status, signal: as recorded on the node; both None while it runs, and where nobody recorded them.
        is_ended: nothing of it lives.
        asked: somebody asked for its end: a client, its leash, its time.
        is_killed: the world ended it.
    """

    node: str
    key: str
    line: str
    started_at: float
    env: tuple[bytes, ...] = ()
    stdin: bytes = b""
    printed: bytearray = attrs.field(factory=bytearray)
    status: int | None = None
    signal: int | None = None
    is_ended: bool = False
    ended_at: float | None = None
    asked: bool = False
    is_killed: bool = False


@attrs.define(eq=False)
class World:
    """Everything.

    Attributes:
        records: all that was ever started, in order.
        broken: the invariants that did not hold, in words.
        secret: what must stand nowhere but in its frame.
    hands: programs of node_side that run in threads. trees: what is pushed, where the story pushes.
    is_void: something came up that the model does not have, so that nothing can be said of the story.
    """

    loop: SimLoop
    clock: Clock
    chance: random.Random
    names: tuple[str, ...]
    latency: float = 0.01
    secret: str = ""
    nodes: dict[str, Node] = attrs.field(init=False)
    records: list[Record] = attrs.field(factory=list)
    broken: list[str] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)
    is_void: bool = False
    hands: list[Hands] = attrs.field(factory=list)
    trees: Trees | None = None
    befell: list[tuple[float, str, str, float]] = attrs.field(factory=list)
    client: Life = attrs.field(factory=lambda: Life("client"))
    is_healed: bool = False
    client_died: asyncio.Event = attrs.field(factory=asyncio.Event)
    _trace: object = attrs.field(factory=hashlib.blake2b)

    def __attrs_post_init__(self) -> None:
        self.nodes = {name: Node(self, name) for name in self.names}

    def context(self, life: Life | None = None) -> Context:
        """Return a context in which nothing of the client's is known."""
        context = Context()
        context.run(LIFE.set, life)
        return context

    def note(self, text: str) -> None:
        """Add to the trace, by which two plays of a seed are compared."""
        line = f"{self.loop.now:.6f} {text}"
        self._hash(line.encode())
        self.told.append(line)

    def _hash(self, data: bytes) -> None:
        """Add bytes to the trace; the folder of a story has another name each time."""
        known = data.replace(str(self.trees.root).encode(), b"ROOT") if self.trees is not None else data
        self._trace.update(known)  # type: ignore[attr-defined]

    def trace(self) -> str:
        """Return the trace's hash."""
        return self._trace.hexdigest()[:16]  # type: ignore[attr-defined,no-any-return]

    def breaks(self, text: str) -> None:
        """An invariant did not hold."""
        self.broken.append(f"{text} (at {self.loop.now:.3f} s)")
        self.note(f"BROKEN {text}")

    def overhear(self, node: Node, channel: int, data: bytes) -> None:
        """Look at what the client sends; how our programs are compiled differs between processes."""
        if data[:1] != b"P" and b"import marshal" not in data[:40]:
            self._hash(data)
        if self.secret and self.secret.encode() in data and not (data[:1] + data[5:13]).startswith(MAY_HOLD_SECRETS):
            self.breaks(f"a secret went to {node.name} outside its frame: {data[:40]!r}")

    def overheard(self, node: Node, data: bytes) -> None:
        """Look at what a node sends."""
        self._hash(data)
        if self.secret and self.secret.encode() in data:
            self.breaks(f"a secret came back from {node.name}: {data[:40]!r}")

    def record(self, key: str) -> Record | None:
        """Return the latest record of a key."""
        return next((record for record in reversed(self.records) if record.key == key), None)

    def is_touched(self, node: str) -> bool:
        """Whether anything befell a node until now that may change what a call there comes to."""
        return any(where == node and what not in HARMLESS for _, what, where, _ in self.befell)

    def living(self) -> list[Record]:
        """Return what runs."""
        return [record for record in self.records if not record.is_ended]
