"""The first command and the first push on a node that has never seen us, in milliseconds; also beside another checkout.

No SSH stands between: a local shell runs the line that a channel would carry, so what is left is the node's Python, our
worker and programs, and our own part. With ``--beside CHECKOUT`` that one's code is measured too, in turn with ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import OURS, commit_of, parser_of, save

DRIVER = Path(__file__).with_name("cold_driver.py")
ROOT = DRIVER.parent.parent
CASES = {
    "run source": 'first run_command("true"), programs sent as source',
    "run compiled": 'first run_command("true"), programs sent compiled',
    "push source": "first push of 3 files, programs sent as source",
    "push compiled": "first push of 3 files, programs sent compiled",
}


class Driver:
    """A process that has one checkout's code and takes one measurement at a time."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(DRIVER)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def measure(self, case: str) -> tuple[float, float]:
        """Return what a case takes, in milliseconds: of wall time, and of the node's CPU."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(case + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"the driver failed at {case!r}")
        wall_s, cpu_s = map(float, answer.split())
        return 1000 * wall_s, 1000 * cpu_s

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> None:
    """Measure every case, ours and the other in turn."""
    parser = parser_of(__doc__ or "", repeat=20)
    parser.add_argument("--beside", type=Path, help="a checkout whose code is measured too")
    args = parser.parse_args()
    drivers = {OURS: Driver(ROOT)}
    if args.beside:
        drivers[f"beside: {commit_of(args.beside)}"] = Driver(args.beside.resolve())
    try:
        for case, title in CASES.items():
            report(title, take_turns(drivers, case, 1 if args.tiny else args.repeat), args)
    finally:
        for driver in drivers.values():
            driver.end()


def take_turns(drivers: dict[str, Driver], case: str, count: int) -> dict[str, list[tuple[float, float]]]:
    """Measure a case ``count`` times with each, after one time for what our side caches; who begins changes."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in drivers}
    for driver in drivers.values():
        driver.measure(case)
    for turn in range(count):
        for name in list(drivers)[:: -1 if turn % 2 else 1]:
            found[name].append(drivers[name].measure(case))
    return found


def report(title: str, found: dict[str, list[tuple[float, float]]], args: argparse.Namespace) -> None:
    """Print a case's table and keep its figures."""
    walls = {name: [wall for wall, _ in times] for name, times in found.items()}
    medians = {name: statistics.median(times) for name, times in walls.items()}
    cpus = {name: statistics.median(cpu for _, cpu in times) for name, times in found.items()}
    print(f"\n## {title}\n")
    print("| | median ms | min..max | ours / it | node CPU ms |")
    print("|---|---|---|---|---|")
    rows = {}
    for name, its in walls.items():
        ratio = medians[OURS] / medians[name]
        print(f"| {name} | {medians[name]:.1f} | {min(its):.1f}..{max(its):.1f} | {ratio:.2f} | {cpus[name]:.1f} |")
        wall_s, cpu_s = medians[name] / 1000, cpus[name] / 1000
        rows[name] = {"wall_s": round(wall_s, 5), "cpu_s": round(cpu_s, 5), "runs": len(its)}
    sys.stdout.flush()
    save(f"cold start: {title}", rows, args)


if __name__ == "__main__":
    main()
