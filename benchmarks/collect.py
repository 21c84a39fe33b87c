"""Bring results home from N nodes at once: all of them, and the same again; beside rsync."""

from __future__ import annotations

import shutil
import sys

from benchmarks.bed import bed_of
from benchmarks.measure import OURS, Contender, compare, options
from benchmarks.trees import digests, make_results


def main() -> None:
    """Run both cases."""
    args = options(__doc__ or "")
    with bed_of(args.hosts or (2 if args.tiny else 16)) as bed:
        count, megabytes = len(bed.names), 1 if args.tiny else 50
        for name, home in bed.homes.items():
            make_results(home / "results", name, megabytes)
        wanted = {name: digests(home / "results") for name, home in bed.homes.items()}
        target = bed.folder / "home"
        ours = [
            sys.executable,
            "-m",
            "benchmarks.driver",
            "collect",
            str(bed.nodes_file),
            "~/results",
            f"{target}/{OURS}",
        ]
        rsync = bed.each("rsync", f"rsync -a -e '{bed.ssh}' $1:results/ {target}/rsync/$1/", f"mkdir -p {target}/rsync")
        contenders = [Contender(OURS, ours), Contender("rsync", rsync)]

        def clean(contender: Contender) -> None:
            shutil.rmtree(target / contender.name, ignore_errors=True)

        def check(contender: Contender) -> None:
            for name in bed.names:
                if digests(target / contender.name / name) != wanted[name]:
                    sys.exit(f"{contender.name}: what came from {name} differs")

        compare(
            f"collect {10 + megabytes} MB from each of {count} nodes",
            contenders,
            bed.folder,
            args,
            before=clean,
            check=check,
        )
        compare(f"the same again from {count} nodes", contenders, bed.folder, args, check=check)


if __name__ == "__main__":
    main()
