"""Run contenders in turn as whole processes, check what they did, and print medians and ratios."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

RESULTS = Path(__file__).parent / "results.jsonl"
OURS = "asyncdeploy"
SAMPLE_S = 0.1


@attrs.frozen
class Contender:
    """One tool: a name and an argv; with ``marks``, a file of "begin" and "end" lines, only the time between counts."""

    name: str
    argv: Sequence[str]
    marks: Path | None = None


@attrs.frozen
class Run:
    """One run: seconds, CPU seconds of the process tree that was waited for, its memory in MB at the most."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def parser_of(description: str, *, repeat: int = 5) -> argparse.ArgumentParser:
    """Return a parser of what every benchmark takes from its command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeat", type=int, default=repeat)
    parser.add_argument("--tiny", action="store_true", help="a run that only shows that it works")
    parser.add_argument("--no-save", action="store_true", help="do not append to results.jsonl")
    return parser


def options(description: str) -> argparse.Namespace:
    """Return what a benchmark with hosts was told on its command line."""
    parser = parser_of(description)
    parser.add_argument("--hosts", type=int, default=None, help="other than the case's number of hosts")
    parser.add_argument("--beside", type=Path, help="a checkout whose code runs in turn with ours")
    return parser.parse_args()


def ours_and_beside(
    args: argparse.Namespace, words: Callable[[str], Sequence[str]], marks: Path | None = None
) -> list[Contender]:
    """Return our contender, and with ``--beside`` that of the other checkout, each run by its own benchmarks.driver.

    Args:
        args: from ``options``.
        words: the driver's arguments, given the first word of the contender's name.
        marks: as a Contender's.
    """
    contenders = [Contender(OURS, _driver(RESULTS.parent.parent, words(OURS)), marks)]
    if args.beside is not None:
        name = f"beside: {commit_of(args.beside)}"
        contenders.append(Contender(name, _driver(args.beside.resolve(), words("beside")), marks))
    return contenders


def _driver(checkout: Path, words: Sequence[str]) -> list[str]:
    """Return the argv of a checkout's driver: python looks for it in the current folder, before PYTHONPATH."""
    return ["env", "-C", str(checkout), f"PYTHONPATH={checkout}", sys.executable, "-m", "benchmarks.driver", *words]


def commit_of(checkout: Path) -> str:
    """Return a checkout's commit, or its folder's name where it has none."""
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or checkout.name


def run_once(contender: Contender, scratch: Path, timeout_s: float = 300) -> Run:
    """Run a contender as a process in a session of its own; its CPU as the kernel counted it, its memory sampled."""
    if contender.marks:
        contender.marks.unlink(missing_ok=True)
    rss_mb = 0.0
    with (scratch / "stdout").open("wb") as out, (scratch / "stderr").open("wb") as err:
        start = time.monotonic()
        process = subprocess.Popen(
            contender.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        pid_fd = os.pidfd_open(process.pid)
        try:
            while not select.select([pid_fd], [], [], SAMPLE_S)[0]:
                rss_mb = max(rss_mb, _session_rss_mb(process.pid))
                if time.monotonic() - start > timeout_s:
                    os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            os.close(pid_fd)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = (scratch / "stderr").read_text(errors="replace")[-2000:]
        sys.exit(f"{contender.name} failed with {process.returncode}:\n{tail}")
    if contender.marks:
        marks = dict(line.split() for line in contender.marks.read_text().splitlines())
        wall = float(marks["end"]) - float(marks["begin"])
    return Run(wall, usage.ru_utime + usage.ru_stime, rss_mb)


def _session_rss_mb(session: int) -> float:
    """Return what the processes of a session hold now (ru_maxrss would count what stood before exec)."""
    pages = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def compare(
    title: str,
    contenders: Sequence[Contender],
    scratch: Path,
    args: argparse.Namespace,
    *,
    before: Callable[[Contender], None] = lambda _: None,
    check: Callable[[Contender], None] = lambda _: None,
) -> None:
    """Run all contenders in turn, ``repeat`` times, and print the table; ours is the last row's divisor.

    Args:
        title: what is measured.
        contenders: ours and the others.
        scratch: an empty folder.
        args: from ``options``.
        before: prepares the nodes for one run, outside the time.
        check: exits unless the run did what it should.
    """
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for _ in range(1 if args.tiny else args.repeat):
        for contender in contenders:
            before(contender)
            runs[contender.name].append(run_once(contender, scratch))
            check(contender)
    ours = statistics.median(run.wall_s for run in runs[OURS])
    print(f"\n## {title}\n")
    print("| | wall s | min..max | ours / it | client CPU s | peak RSS MB |")
    print("|---|---|---|---|---|---|")
    rows = {}
    for name, its in runs.items():
        wall = statistics.median(run.wall_s for run in its)
        low, high = min(run.wall_s for run in its), max(run.wall_s for run in its)
        cpu, rss = statistics.median(run.cpu_s for run in its), max(run.rss_mb for run in its)
        print(f"| {name} | {wall:.2f} | {low:.2f}..{high:.2f} | {ours / wall:.2f} | {cpu:.2f} | {rss:.0f} |")
        rows[name] = {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "rss_mb": round(rss), "runs": len(its)}
    sys.stdout.flush()
    save(title, rows, args)


def save(title: str, rows: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    """Append a case's figures to results.jsonl, unless it was a tiny run or is not to be kept."""
    if args.no_save or args.tiny:
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    line = {"at": round(time.time()), "commit": commit.stdout.strip(), "machine": machine, "case": title, "rows": rows}
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
