"""python -m tests.soak --minutes 60: play a soak, say what was done and what is held, end with 1 if a promise broke."""

import argparse
import asyncio
import random
import sys

from tests.soak.soak import Plan, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--look-minutes", type=float, default=5, help="between two looks at what is held")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--players", type=int, default=4)
    parser.add_argument("--commands", type=int, default=10_000, help="over one connection, each tenth too slow")
    parser.add_argument("--gigabytes", type=float, default=10, help="of output from each node at once")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    broken = asyncio.run(soak(Plan(**vars(given)), lambda text: print(text, flush=True)))
    print(f"{len(broken)} promises broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
