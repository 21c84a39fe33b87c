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
from tests.fuzz.targets import TARGETS


def found_in(name: str, folder: Path) -> list[str]:
    """Return what a hunt has found: where, by which input, how."""
    said = folder / "said.json"
    if not said.exists():
        return [f"{name}: it died, see above"]
    places = [folder / place for place in json.loads(said.read_text())["found"]]
    return [f"{name}: {each.name}: {each.read_bytes()!r}\n{each.with_suffix('.txt').read_text()}" for each in places]


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
    names, found = asked.targets or list(TARGETS), []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as file:  # atheris names every module that it prepares
            line = [sys.executable, "-m", "tests.fuzz.guided", folder, str(asked.seconds), *names]
            if subprocess.run(line, stderr=file, check=False).returncode:
                print(log.read_text()[-4000:])
                return 1
        for name in names:
            found += found_in(name, Path(folder, name))
            if asked.keep:
                print(f"{name}: {keep(TARGETS[name], Path(folder, name, 'new'))} kept", flush=True)
    print("\n".join(found) if found else "nothing was found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
