"""`python -m tests.fuzz [--seconds N] [--keep] [TARGET ...]`: hunt each target for so long, guided by coverage.

It needs atheris (`pip install 'asyncdeploy[fuzz]'`), prints what it did and found, and ends with 1 if it found
anything. With --keep what reached lines of ours that the corpus had not reached is added to it.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.keep import keep
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

MORE_S = 120
"""For a process to come up, and to end after an input that takes its time."""


def hunt(target: Target, seconds: float, folder: Path) -> list[str]:
    """Hunt one target, and say what was found."""
    line = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(seconds), str(folder)]
    log = folder / "log"
    with log.open("wb") as file:
        try:
            subprocess.run(line, stdout=file, stderr=file, check=False, timeout=seconds + MORE_S)
        except subprocess.TimeoutExpired:
            pass  # what it has not said, it has not done
    said = folder / "said.json"
    if not said.exists():  # libFuzzer itself has ended it: out of memory, or a hang in C
        return [f"{target.name}: it died: {log.read_text(errors='replace')[-2000:]}"]
    told = json.loads(said.read_text())
    reached = f"{told['cases']} inputs in {seconds:g} s, {told['new']} reached something new"
    slowest = f"the slowest took {told['slowest_s'] * 1000:.0f} ms"
    print(f"{target.name}: {reached}, {slowest}, {len(told['found'])} found", flush=True)
    return [
        f"{target.name}: {place}: {(folder / place).read_bytes()!r}\n{(folder / place).with_suffix('.txt').read_text()}"
        for place in told["found"]
    ]


def main() -> int:
    """Hunt all that is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what reaches more of our lines")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is needed: pip install 'asyncdeploy[fuzz]'")
    found = []
    for name in asked.targets or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            found += hunt(TARGETS[name], asked.seconds, Path(folder))
            if asked.keep:
                print(f"{name}: {keep(TARGETS[name], Path(folder, 'new'))} kept", flush=True)
    print("\n".join(found) if found else "nothing was found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
