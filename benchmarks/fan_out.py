"""Connect to N nodes and run a command on each; and many commands over connections already open."""

from __future__ import annotations

import argparse
import shutil
import sys

from benchmarks.bed import Bed, bed_of
from benchmarks.measure import Contender, compare, options, ours_and_beside

LINE = "echo ok $(hostname)"


def cold(bed: Bed, args: argparse.Namespace) -> None:
    """One command on each node, connections included."""
    out = bed.folder / "out"

    def empty(_: Contender) -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    def check(contender: Contender) -> None:
        got = [path.read_text() for path in out.iterdir()] if contender.name != "pdsh" else None
        lines = got if got is not None else (bed.folder / "stdout").read_text().splitlines()
        if len(lines) != len(bed.names) or not all("ok " in line for line in lines):
            sys.exit(f"{contender.name}: {len(lines)} of {len(bed.names)} answers")

    plain = bed.each("ssh", f"{bed.ssh} $1 '{LINE}' > {out}/$1")
    contenders = [
        *ours_and_beside(args, lambda _: ["run", str(bed.nodes_file), LINE, str(out)]),
        Contender("xargs -P ssh", plain),
    ]
    if shutil.which("pdsh"):
        ways = f"-R ssh -f {len(bed.names)} -w {','.join(bed.names)}"
        line = f"PDSH_SSH_ARGS_APPEND='-F {bed.ssh_config}' pdsh {ways} '{LINE}'"
        contenders.append(Contender("pdsh", ["sh", "-c", line]))
    title = f"one command on each of {len(bed.names)} nodes, connections included"
    compare(title, contenders, bed.folder, args, before=empty, check=check)


def warm(bed: Bed, count: int, args: argparse.Namespace) -> None:
    """Many commands over open connections, four at a time on each."""
    marks, at_once = bed.folder / "marks", 4
    words = ["warm", str(bed.nodes_file), LINE, str(count), str(at_once), str(marks)]
    master = f"{bed.ssh} -o ControlPath={bed.folder}/m-%n -o ControlMaster"
    share = count // len(bed.names)
    script = f"""
set -e
for h in {" ".join(bed.names)}; do {master}=yes -o ControlPersist=60 -fN $h; done
trap 'for h in {" ".join(bed.names)}; do {master}=no -O exit $h 2>/dev/null; done' EXIT
begin=$(cut -d' ' -f1 /proc/uptime)
for i in $(seq {share}); do cat {bed.folder}/hosts; done |
    xargs -P {at_once * len(bed.names)} -I{{}} {master}=no {{}} '{LINE}' > /dev/null
printf 'begin %s\\nend %s\\n' "$begin" "$(cut -d' ' -f1 /proc/uptime)" > {marks}
"""
    contenders = [
        *ours_and_beside(args, lambda _: words, marks),
        Contender("bare asyncssh", [sys.executable, "-m", "benchmarks.peers", *words], marks),
        Contender("ssh ControlMaster", ["bash", "-c", script], marks),
    ]
    compare(f"{count} commands over {len(bed.names)} open connections", contenders, bed.folder, args)


def main() -> None:
    """Run both cases."""
    args = options(__doc__ or "")
    with bed_of(args.hosts or (2 if args.tiny else 64)) as bed:
        cold(bed, args)
    hosts = args.hosts or (2 if args.tiny else 16)
    with bed_of(hosts) as bed:
        warm(bed, hosts * (2 if args.tiny else 63), args)


if __name__ == "__main__":
    main()
