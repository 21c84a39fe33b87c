"""Targets under atheris, each in a process of its own: `python -m tests.fuzz.guided FOLDER SECONDS TARGET ...`.

FOLDER/TARGET takes what was found: each input that breaks a promise in another place than those before, and, below
`new`, each that reached what no other had reached.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import atheris

import tests.fuzz.target

with atheris.instrument_imports(include=["asyncdeploy"], enable_loader_override=False):
    from tests.fuzz.target import MOST_INPUT, Target
    from tests.fuzz.targets import TARGETS

WEIGHED_EVERY = 200
"""Of so many inputs one is weighed, and each that takes long: weighing all would leave a third of them."""
LONG_S = 0.02
SLOWER = 3
"""Times, by what atheris puts between our lines."""


class Hunt:
    """Runs inputs until its time is up, and writes down what they found."""

    def __init__(self, target: Target, seconds: float, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.end = time.monotonic() + seconds
        self.cases, self.slowest_s = 0, 0.0
        self.places: set[str] = set()

    def one(self, data: bytes) -> None:
        """Run an input; whatever it finds, the hunt goes on."""
        began = time.process_time()
        try:
            self.target.case(data)
            took = time.process_time() - began
            if took > LONG_S or self.cases % WEIGHED_EVERY == WEIGHED_EVERY - 1:
                self.target.case(data, weighed=True)
        except Exception as error:
            self.note(data, error)
        self.slowest_s = max(self.slowest_s, time.process_time() - began)
        self.cases += 1
        if time.monotonic() > self.end:
            self.finish()

    def note(self, data: bytes, error: Exception) -> None:
        """Keep the first input, and then each shorter one, that failed in a place."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "asyncdeploy/" in frame.filename or "tests/fuzz/targets" in frame.filename]
        last = (ours or frames)[-1]
        place = f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
        kept = self.folder / place
        if place not in self.places or len(data) < kept.stat().st_size:
            kept.write_bytes(data)
            text = "".join(traceback.format_exception(error))
            kept.with_suffix(".txt").write_text(text[-6000:], errors="replace")
        self.places.add(place)

    def finish(self) -> None:
        """Write down how it went, and be gone: libFuzzer has no other end that says nothing."""
        new = len(list((self.folder / "new").iterdir()))
        said = {"cases": self.cases, "slowest_s": self.slowest_s, "new": new, "found": sorted(self.places)}
        (self.folder / "said.json").write_text(json.dumps(said))
        os._exit(0)


def hunt(target: Target, seconds: float, folder: Path) -> NoReturn:
    """Hunt one target; the process ends with the time."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    words = folder / "words"
    escaped = ("".join(f"\\x{letter:02x}" for letter in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    kept = target.corpus()
    options = [f"-max_len={MOST_INPUT}", "-timeout=60", "-rss_limit_mb=3000", "-verbosity=0", "-len_control=20"]
    folders = [str(folder / "new"), *([str(kept[0].parent)] if kept else [])]
    one = Hunt(target, seconds, folder).one
    atheris.Setup([sys.argv[0], *options, *([f"-dict={words}"] if target.words else []), *folders], one)
    atheris.Fuzz()
    os._exit(1)


def told(name: str, seconds: float, folder: Path) -> str:
    """Say how a hunt went."""
    said = folder / "said.json"
    if not said.exists():  # libFuzzer itself has ended it: out of memory, or a hang in C
        return f"{name}: it died: {(folder / 'log').read_text(errors='replace')[-2000:]}"
    told = json.loads(said.read_text())
    reached = f"{told['cases']} inputs in {seconds:g} s, {told['new']} reached something new"
    return f"{name}: {reached}, the slowest took {told['slowest_s'] * 1000:.0f} ms, {len(told['found'])} found"


def main() -> None:
    """Hunt one target after the other: what atheris has made of our modules is used by all."""
    top, seconds = Path(sys.argv[1]), float(sys.argv[2])
    tests.fuzz.target.MOST_S *= SLOWER
    for name in sys.argv[3:]:
        folder = top / name
        (folder / "new").mkdir(parents=True)
        pid = os.fork()
        if not pid:
            hunt(TARGETS[name], seconds, folder)
        os.waitpid(pid, 0)
        print(told(name, seconds, folder), flush=True)


if __name__ == "__main__":
    main()
