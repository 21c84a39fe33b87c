"""Answers that no program of ours would give: a node that lies, or whose memory is bad."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    from tests.simulator.model.worker import Worker

ODD: tuple[Any, ...] = (None, True, -1, 1e300, "", "\x1b[2J", "x" * 5000, [], [[]], {}, {"a": {}}, 2**70, "running")


async def bent(worker: Worker, answer: bytes) -> None:
    """Send something else than an answer, in the place of one."""
    chance = worker.node.world.chance
    way = min(chance.randrange(8), 4)
    if way == 0:
        await worker.send(b"Z", answer[: chance.randrange(len(answer) + 1)])
    elif way == 1:
        await worker.send(chance.choice([b"Q", b"D", b"O", b"M"]), answer[:100])
        await worker.send(b"Z", answer)
    elif way == 2:
        await worker.end.write(b"Z\xff\xff\xff\xff")
    elif way == 3:
        await worker.send(b"Z", chance.randbytes(chance.randrange(40)))
    else:
        await worker.send(b"Z", _changed(chance, answer))


def _changed(chance: random.Random, answer: bytes) -> bytes:
    """Return an answer in JSON with one of its values exchanged."""
    try:
        value = json.loads(answer)
    except ValueError:
        return answer[::-1]
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ():
            places.append((one, key))
            waiting.append(one[key])
    if not places:
        return json.dumps(chance.choice(ODD)).encode()
    inside, key = places[chance.randrange(len(places))]
    inside[key] = chance.choice(ODD)
    return json.dumps(value).encode()
