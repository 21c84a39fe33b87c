"""Adding to a known_hosts file and taking away from it, alone by a lock."""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from asyncdeploy.connect.ssh.known_hosts.entries import MARK, MAX_BYTES, Entry, KnownHosts, read_hash

LOCK_S = 5.0
"""How long another process may hold the file: it appends one line."""


def record_key(path: Path, names: Sequence[str], kind: str, blob: str) -> dict[str, list[Entry]]:
    """Append a line for those names that the file does not know yet; blocking, and alone by a lock.

    Returns:
        The entries of each name: what another process recorded while we were connecting, for the caller to judge.

    Raises:
        OSError: the file cannot be written or its lock is held for too long.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path, create=True) as descriptor:
        text = _read_all(descriptor)
        known = KnownHosts.parse(text, str(path))
        entries = {name: [entry for entry in known.find(name) if not entry.marker] for name in names}
        new = [name for name in names if not entries[name]]
        if new:
            end = "" if not text or text.endswith("\n") else "\n"
            os.write(descriptor, f"{end}{','.join(new)} {kind} {blob} {MARK}\n".encode())
        return entries


def forget_names(path: Path, names: Iterable[str], borrowed: str | None = None) -> int:
    """Take out every line that names one of these hosts; patterns, certificate authorities and revocations stay.

    The new file takes the old one's place in one step. Blocking.

    Args:
        path: the file.
        names: as they are written there.
        borrowed: one of them that others have too: a line of ours that is found by it alone is another's, and stays.

    Returns:
        How many lines were taken out.

    Raises:
        OSError: the file cannot be written.
    """
    if not path.exists():
        return 0
    path = path.resolve()  # a link to the file stays one
    wanted = {name.lower() for name in names}
    with _locked(path, create=False) as descriptor:
        lines = io.StringIO(_read_all(descriptor), newline="\n").readlines()
        own = wanted - {(borrowed or "").lower()}
        kept = [line for line in lines if not _names_one_of(line, own if _is_ours(line) else wanted)]
        if len(kept) < len(lines):
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            mode = os.fstat(descriptor).st_mode & 0o777
            target = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
            with os.fdopen(target, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.writelines(kept)
            fresh.replace(path)
        return len(lines) - len(kept)


def _is_ours(line: str) -> bool:
    return line.split(None, 3)[3:] == [f"{MARK}\n"]


def _names_one_of(line: str, wanted: set[str]) -> bool:
    hosts = line.split(None, 1)[0] if line.strip() else "#"
    if hosts.startswith(("#", "@")):
        return False
    if hosts.startswith("|"):
        try:
            salt, digest = read_hash(hosts)
        except ValueError:
            return False
        return any(hmac.digest(salt, name.encode(), "sha1") == digest for name in wanted)
    return not wanted.isdisjoint(hosts.lower().split(","))


@contextlib.contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[int]:
    """Hold the file's lock; a file that was replaced while we waited is opened anew."""
    end = time.monotonic() + LOCK_S
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            _lock(descriptor, path, end)
            held, there = os.fstat(descriptor), path.stat()
            if (held.st_ino, held.st_dev) == (there.st_ino, there.st_dev):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"{path}: another process has held its lock for {LOCK_S:.0f} s") from None
            time.sleep(0.01)


def _read_all(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(0)
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:  # what was cut here would be gone from the file that we write
        raise OSError(f"a known_hosts of at most {MAX_BYTES >> 20} MiB was expected, it has more")
    return raw.decode("utf-8", "surrogateescape")
