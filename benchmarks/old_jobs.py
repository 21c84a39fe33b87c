"""The start of a job on a node where thousands have ended, beside one where none has; also beside another checkout."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bed import Bed, bed_of
from benchmarks.measure import OURS, Contender, commit_of, compare, options

STARTS = 20
DRIVER = Path(__file__).resolve().with_name("old_jobs_driver.py")


def main() -> None:
    """Run the two cases."""
    args = options(__doc__ or "")
    with bed_of(1) as bed:
        for old in (0, 50 if args.tiny else 10_000):
            case(bed, old, args)


def case(bed: Bed, old: int, args: argparse.Namespace) -> None:
    """Compare the starts of jobs beside so many old ones."""
    marks = bed.folder / "marks"
    checkouts = {OURS: DRIVER.parent.parent}
    if args.beside is not None:
        checkouts[f"beside: {commit_of(args.beside)}"] = args.beside.resolve()
    words = [str(DRIVER), str(bed.nodes_file), str(marks), str(STARTS)]
    contenders = [
        Contender(name, ["env", "-C", str(folder), f"PYTHONPATH={folder}", sys.executable, *words], marks)
        for name, folder in checkouts.items()
    ]

    def before(_: Contender) -> None:
        write_old(next(iter(bed.homes.values())) / ".asyncdeploy/jobs", old)

    title = f"{STARTS} starts of a job, one after the other, where {old} have ended, in all"
    compare(title, contenders, bed.folder, args, before=before)


def write_old(jobs: Path, count: int) -> None:
    """Let so many jobs have ended; what was there goes, and whoever keeps a list of what runs makes it anew."""
    subprocess.run(["rm", "-rf", jobs], check=True)
    for number in range(count):
        folder = jobs / f"old-{number:08d}".translate(str.maketrans("0189", "abcd"))
        folder.mkdir(parents=True)
        spec = {"id": folder.name, "name": "old", "site": "", "line": "true", "created_at": time.time()}
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "exit").write_text(json.dumps({"status": 0, "signal": None, "ended_at": time.time()}))


if __name__ == "__main__":
    main()
