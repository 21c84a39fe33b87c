"""One client and thousands of nodes: does anything grow faster than they do, how long is the loop held, what is kept.

256 real sshd, and 500, 1,000 and 2,000 simulated nodes (simulated.py), each by a client of its own: connect, run,
deploy, the same deploy again, plan a launch, and show what came of it. Seconds are those of nodes that share our cores;
what counts is the client's CPU, whose exponent over the number of nodes is told: 1 is linear.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.bed import bed_of
from benchmarks.measure import parser_of, save
from benchmarks.simulated import simulated_bed

REAL, SIMULATED = 256, (500, 1000, 2000)
COLUMNS = {
    "wall_s": "wall s",
    "cpu_s": "client CPU s",
    "p99_ms": "loop held, p99 ms",
    "max_ms": "longest ms",
    "node_kb": "KB a node",
}

Steps = Mapping[str, Mapping[str, float]]


def main() -> None:
    """Measure both kinds of nodes and print a table for each number of them."""
    args = options()
    sizes = [2, 4] if args.tiny else args.nodes or [*SIMULATED]
    with a_folder() as folder:
        source = folder / "project"
        source.mkdir()
        (source / "train.py").write_text("print('trained')\n")
        with bed_of(2 if args.tiny else args.real) as bed:
            tell(f"{len(bed.names)} nodes, sshd", measure(bed.nodes_file, source), args)
        found = {}
        for count in sizes:
            with simulated_bed(folder / str(count), count) as nodes_file:
                found[count] = measure(nodes_file, source)
            tell(f"{count:,} nodes, simulated", found[count], args)
    print("\nclient CPU grows with the number of nodes to the power of:")
    for step in found[sizes[0]]:
        print(f"  {step}: {exponent({count: steps[step]['cpu_s'] for count, steps in found.items()}):.2f}")


def options() -> argparse.Namespace:
    """Return what we were told on the command line."""
    parser = parser_of(__doc__ or "", repeat=1)
    parser.add_argument("--real", type=int, default=REAL, help="how many sshd")
    parser.add_argument("--nodes", type=int, nargs="*", help="how many simulated nodes, each number by itself")
    return parser.parse_args()


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """Give a temporary folder; thousands of homes in it are gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix="asyncdeploy-scale-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(nodes_file: Path, source: Path) -> Steps:
    """Let a client of its own take all steps; return what each took."""
    words = [sys.executable, "-m", "benchmarks.scale_driver", str(nodes_file), str(source)]
    run = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    steps: Steps = json.loads(run.stdout)
    return steps


def tell(title: str, steps: Steps, args: argparse.Namespace) -> None:
    """Print a table of the steps, and keep it."""
    print(f"\n## {title}\n\n| asyncdeploy | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}")
    for name, row in steps.items():
        cells = [f"{row[column]:.2f}" if column.endswith("_s") else f"{row[column]:.0f}" for column in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} |")
    sys.stdout.flush()
    save(title, {name: {key: round(value, 3) for key, value in row.items()} for name, row in steps.items()}, args)


def exponent(seconds: Mapping[int, float]) -> float:
    """Return the slope of a straight line through the points, both sides as logarithms."""
    points = [(math.log(count), math.log(max(took, 1e-6))) for count, took in seconds.items()]
    middle = [sum(each) / len(points) for each in zip(*points, strict=True)]
    across = sum((x - middle[0]) ** 2 for x, _ in points)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in points) / across


if __name__ == "__main__":
    main()
