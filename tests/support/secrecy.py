"""Look for a text everywhere that others could see it while a test runs.

`sightings_of(canary, homes)` watches one canary closely. Beside it each secret that any test of the suite makes is
watched for a little, all the time: no error, no log, no program that is started here, no process of a node's and no
file that it leaves there may tell it, nor what the test prints.
"""

import logging
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from asyncdeploy.values.command import Secret
from asyncdeploy.values.errors import DeployError

# As often as somebody with `watch ps` in a loop could.
LOOK_S = 0.01
# Larger files are no leak of a line of text, and reading them would slow the looks.
MAX_BYTES = 1 << 20
# A folder of pytest's for one run, and what is older than any run takes.
RUN, EARLIER_S = re.compile(r"pytest-\d+"), 3600
# Shorter ones are words that anything may say.
MIN_SECRET = 6
# What the test's own program prints is its own affair.
PRINTED = frozenset({"log", "stdout.log", "stderr.log"})

_known: set[bytes] = set()
_told: set[str] = set()


def look(where: str, *texts: object) -> None:
    """Note that a secret of this test's is told."""
    for text in texts if _known else ():
        data = text if isinstance(text, bytes) else str(text).encode("utf-8", "replace")
        if any(secret in data for secret in _known):
            _told.add(where)


def look_at_files(folder: Path) -> None:
    """Note the files below a folder that tell a secret of this test's."""
    for above, _, names in os.walk(folder) if _known else ():
        for name in names:
            path = Path(above, name)
            try:
                if path.is_file() and not path.is_symlink() and path.lstat().st_size <= MAX_BYTES:
                    look(f"file {path}", b"" if name in PRINTED else path.read_bytes())
            except OSError:
                continue  # it went


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        look(f"a record of the logger {record.name}", record.getMessage(), record.exc_info or "")


def _watched(owner: Any, name: str, tell: Any) -> None:
    """Have a method of a class tell us of each call, behind it."""
    method = getattr(owner, name)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = method(self, *args, **kwargs)
        tell(self, *args)
        return done

    setattr(owner, name, call)


def _learn(secret: Secret, *_: object) -> None:
    if secret.value is not None and len(secret.value) >= MIN_SECRET:
        _known.add(secret.value.encode("utf-8", "replace"))


def _look_at_error(error: DeployError, *_: object) -> None:
    if _known:
        look(f"a {type(error).__name__}", error.describe(), repr(error), error.to_dict())


def pytest_configure() -> None:
    """Learn of each secret, error and program from now on."""
    _watched(Secret, "__init__", _learn)
    _watched(DeployError, "__attrs_post_init__", _look_at_error)
    _watched(subprocess.Popen, "__init__", lambda _, words, *__: look("a program that is started here", words))
    logging.getLogger().addHandler(_Log())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Look at what a test has printed; its traceback would show the line in which it made its secret."""
    report = yield
    look("what the test printed", *(text for _, text in report.sections))
    return report


@pytest.fixture(autouse=True)
def no_secret_is_told() -> Iterator[None]:
    """Fail a test that tells a secret of its own."""
    _known.clear()
    _told.clear()
    yield
    assert _told == set(), f"a secret is told by {sorted(_told)}"


class Sightings:
    """What was seen: where the canary showed, and how often was looked."""

    def __init__(self, canary: str, homes: Iterable[Path]) -> None:
        self._canary = canary.encode()
        self._homes = tuple(homes)
        self._started_at = time.time()
        self._read: set[tuple[int, int, int]] = set()
        self._stop = threading.Event()
        self.arguments: set[bytes] = set()
        self.places: set[str] = set()
        self.looks = 0

    def watch(self) -> None:
        """Look at all processes' arguments and the homes' files until told to stop."""
        while not self._stop.wait(LOOK_S):
            self.looks += 1
            self._look_at_arguments()
            for home in self._homes:
                self._look_below(home)

    def stop(self) -> None:
        """Stop watching, and look at every file that was written meanwhile, also where temporary ones stand."""
        self._stop.set()
        for folder in (*self._homes, Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/dev/shm")):
            self._look_below(folder)

    def _look_at_arguments(self) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                self.arguments.add(line)
                if self._canary in line:
                    self.places.add(f"arguments of process {entry.name}")

    def _look_below(self, folder: Path) -> None:
        pending = [str(folder)]
        while pending:  # os.walk recurses, and the tree of another test may be thousands of folders deep
            try:
                entries = list(os.scandir(pending.pop()))
            except OSError:
                continue  # it went, or its name has become too long
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not self._is_of_an_earlier_run(entry):
                        pending.append(entry.path)
                else:
                    self._look_at_file(Path(entry.path))

    def _is_of_an_earlier_run(self, entry: "os.DirEntry[str]") -> bool:
        """Whether it is what pytest has kept of a run that is over: there may be hundreds of thousands of files."""
        try:
            return RUN.fullmatch(entry.name) is not None and entry.stat().st_mtime < self._started_at - EARLIER_S
        except OSError:
            return True  # it went

    def _look_at_file(self, path: Path) -> None:
        try:
            info = path.lstat()
            key = (info.st_ino, info.st_size, info.st_mtime_ns)
            is_new = info.st_mtime >= self._started_at - 1 and key not in self._read
            if not is_new or info.st_mode & 0o170000 != 0o100000 or info.st_size > MAX_BYTES:
                return
            self._read.add(key)
            if self._canary in path.read_bytes():
                self.places.add(f"file {path}, mode {info.st_mode & 0o777:o}")
        except OSError:
            return  # it went, or is not ours to read


@contextmanager
def sightings_of(canary: str, homes: Iterable[Path]) -> Iterator[Sightings]:
    """Watch in a thread for as long as the block lasts."""
    sightings = Sightings(canary, homes)
    thread = threading.Thread(target=sightings.watch)
    thread.start()
    try:
        yield sightings
    finally:
        sightings.stop()
        thread.join()
