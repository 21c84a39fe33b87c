"""Which of many inputs are worth keeping: the smallest ones that together reach every line of ours that all reach."""

import contextlib
import hashlib
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.target import CORPUS, MOST_INPUT, Target

HOUSE = str(Path(__file__).parents[2] / "asyncdeploy")
MOST_KEPT = 3 * MOST_INPUT
"""Bytes of one target."""
MOST_EACH = 512
"""Bytes of one input: what takes more says the same thing many times."""

Lines = frozenset[tuple[str, int, int]]


def keep(target: Target, new: Path) -> int:
    """Add to a target's corpus; return how many inputs were added."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    reached: set[tuple[str, int, int]] = set()
    room = MOST_KEPT
    for path in target.corpus():
        reached |= reach(target, path.read_bytes())
        room -= path.stat().st_size
    inputs = sorted((path.read_bytes() for path in new.iterdir()), key=lambda data: (len(data), data))
    count = 0
    for data in inputs:
        if len(data) > min(room, MOST_EACH):
            break
        more = reach(target, data) - reached
        if more:
            (folder / hashlib.sha256(data).hexdigest()[:10]).write_bytes(data)
            reached |= more
            room -= len(data)
            count += 1
    return count


def reach(target: Target, data: bytes) -> Lines:
    """Return the steps from line to line of ours that an input takes; none where it breaks a promise."""
    steps: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(HOUSE):
            return None
        before = 0

        def step(inner: FrameType, event: str, _argument: Any) -> Any:
            nonlocal before
            if event == "line":
                steps.add((inner.f_code.co_filename, before, inner.f_lineno))
                before = inner.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        with contextlib.suppress(Exception):
            target.run(data)
            return frozenset(steps)
    finally:
        sys.settrace(None)
    return frozenset()
