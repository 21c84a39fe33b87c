"""Push a 2,000-file tree to N nodes: cold, unchanged, one file changed; beside rsync and tar by ssh."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys

from benchmarks.bed import Bed, bed_of
from benchmarks.measure import Contender, compare, options, ours_and_beside
from benchmarks.trees import change_one, digests, make_repository


def main() -> None:
    """Run the three cases."""
    args = options(__doc__ or "")
    with bed_of(args.hosts or (2 if args.tiny else 16)) as bed:
        source = make_repository(bed.folder / "tree", *((60, 400_000) if args.tiny else (2000, 20_000_000)))
        cases(bed, str(source), args)


def cases(bed: Bed, source: str, args: argparse.Namespace) -> None:
    """Compare cold, unchanged and one changed file."""
    count = len(bed.names)
    tarball = bed.folder / "tree.tar"
    rsync = Contender("rsync", bed.each("rsync", f"rsync -a --delete -e '{bed.ssh}' {source}/ $1:ws-rsync/"))
    unpack = f"{bed.ssh} $1 'mkdir -p ws-tar && tar -C ws-tar -xf -' < {tarball}"
    tar = Contender("tar by ssh", bed.each("tar", unpack, f"tar -C {source} -cf {tarball} ."))
    ours = ours_and_beside(args, lambda name: ["push", str(bed.nodes_file), source, f"~/ws-{name}"])
    salts = itertools.count(1)

    def folder_of(contender: Contender) -> str:
        return f"ws-{contender.name.partition(' ')[0].rstrip(':')}"

    def clean(contender: Contender) -> None:
        for home in bed.homes.values():
            shutil.rmtree(home / folder_of(contender), ignore_errors=True)

    def check(contender: Contender) -> None:
        wanted = digests(bed.folder / "tree")
        for name, home in bed.homes.items():
            if digests(home / folder_of(contender)) != wanted:
                sys.exit(f"{contender.name}: the tree on {name} differs")

    def edit(_: Contender) -> None:
        change_one(bed.folder / "tree", next(salts))

    compare(
        f"cold push of the tree to {count} nodes",
        [*ours, rsync, tar],
        bed.folder,
        args,
        before=clean,
        check=check,
    )
    compare(f"re-push of it unchanged to {count} nodes", [*ours, rsync], bed.folder, args, check=check)
    compare(
        f"re-push to {count} nodes after one file changed", [*ours, rsync], bed.folder, args, before=edit, check=check
    )


if __name__ == "__main__":
    main()
