"""Look for a text everywhere that others could see it while a test runs."""

import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# As often as somebody with `watch ps` in a loop could.
LOOK_S = 0.01
# Larger files are no leak of a line of text, and reading them would slow the looks.
MAX_BYTES = 1 << 20


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
                    pending.append(entry.path)
                else:
                    self._look_at_file(Path(entry.path))

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
