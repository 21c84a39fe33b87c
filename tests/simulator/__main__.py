"""Play seeds from the command line: ``python -m tests.simulator 17`` tells one, ``... 0 20000`` plays many."""

from __future__ import annotations

import sys
import time

from tests.simulator.play import play
from tests.simulator.shrink import failures, shrink
from tests.simulator.story import make_story

BATCH = 1000


def main(first: int, count: int | None) -> int:
    """Tell one seed's story and what it broke, or say what many broke."""
    if count is None:
        played = play(make_story(first))
        print(played.story.text(), *played.told, f"trace {played.trace}", *played.broken, sep="\n")
        if played.broken:
            short = shrink(played)
            print("\nshorter:", short.story.text(), *short.broken, sep="\n")
        return len(played.broken)
    broken = 0
    began = time.monotonic()
    for start in range(first, first + count, BATCH):
        said = failures(start, min(BATCH, first + count - start))
        broken += said.count("python -m tests.simulator")
        print(f"{start + BATCH - first} seeds, {broken} broke something, {time.monotonic() - began:.0f} s", flush=True)
        if said:
            print(said, flush=True)
    return min(broken, 100)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
