"""What does not grow: memory and the event loop's longest pause while a large file, or very many files, are pushed."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
from pathlib import Path

from benchmarks.bed import Bed, bed_of
from benchmarks.measure import OURS, Contender, compare, options

PIECE = 1 << 20


def main() -> None:
    """Push a sparse file with random parts, then a folder of small files; the pauses are printed below each table."""
    args = options(__doc__ or "")
    with bed_of(args.hosts or 1) as bed:
        os.environ["XDG_CACHE_HOME"] = str(bed.folder / "cache")  # what files hashed to is not known from another run
        large = make_large(bed.folder / "large", *((64, 16) if args.tiny else (20_000, 2_000)))
        measure(bed, large, f"a file of {large.stat().st_size / 1e9:.1f} GB, most of it holes", args)
        count = 300 if args.tiny else 100_000
        make_many(bed.folder / "many" / "tree", count)
        measure(bed, bed.folder / "many" / "tree" / "0", f"{count:,} small files", args)


def make_large(folder: Path, size_mb: int, random_mb: int) -> Path:
    """Make a file with random megabytes spread over holes."""
    folder.mkdir()
    dice = random.Random(1)
    with (folder / "model.bin").open("wb") as file:
        file.truncate(size_mb * PIECE)
        for number in range(random_mb):
            file.seek(number * (size_mb // random_mb) * PIECE)
            file.write(dice.randbytes(PIECE))
    return folder / "model.bin"


def make_many(folder: Path, count: int) -> None:
    """Make files of a line each, a thousand a folder."""
    for number in range(count):
        place = folder / str(number // 1000)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.txt").write_text(f"value {number}\n")


def measure(bed: Bed, path: Path, title: str, args: argparse.Namespace) -> None:
    """Push the tree that holds a path to every node, cold."""
    source = path.parent
    pauses = bed.folder / "pauses"
    words = [sys.executable, "-m", "benchmarks.driver", "push", str(bed.nodes_file), str(source), "~/ws", str(pauses)]

    def clean(_: Contender) -> None:
        for home in bed.homes.values():
            shutil.rmtree(home / "ws", ignore_errors=True)

    def check(_: Contender) -> None:
        for name, home in bed.homes.items():
            if sum(1 for _ in (home / "ws").rglob("*.*")) < sum(1 for _ in source.rglob("*.*")):
                sys.exit(f"the tree on {name} is not whole")

    compare(f"cold push of {title}", [Contender(OURS, words)], bed.folder, args, before=clean, check=check)
    print(f"\nlongest pause of the event loop: {float(pauses.read_text()) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
