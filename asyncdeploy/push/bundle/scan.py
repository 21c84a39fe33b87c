"""Which files of a local folder are sent, and what they hold: the only room that reads a workspace. Blocking code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs

from asyncdeploy.push.bundle.hash_cache import Stamp, load_hashes, save_hashes
from asyncdeploy.push.bundle.manifest import MAX_ENTRIES, Entry, Manifest, check_path
from asyncdeploy.push.bundle.pieces import DIGEST, hash_pieces, is_large, large_id, piece_count
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.patterns import Patterns
from asyncdeploy.values.workspace import Workspace

IGNORE_FILE = ".asyncdeployignore"
NEVER = frozenset({".git", ".asyncdeploy"})
"""Never sent: git's own store (its remotes may hold tokens), and what a receiver keeps in a site."""

GIT_S = 60.0
"""How long git may take: 1 s for 10^6 files with a cold cache, a minute on a network home."""
MAX_NESTED = 16
"""Repositories inside repositories."""
TRIES = 3
"""How often a file that changes while it is read is read again."""
HASHERS = min(os.cpu_count() or 1, 16)
"""Threads that hash large files: hashing frees the interpreter's lock; beyond 16 the memory is what is waited for."""
BLOCK = 1 << 20
MAX_NOTES = 20
"""Notes of one kind: enough to see what is meant."""

Digest = TypeVar("Digest", str, bytes)

_SECRETS = Patterns(
    (".env", ".env.*", "!.env.example", "*.pem", "id_rsa", "id_ed25519", "id_ecdsa", ".netrc", ".pgpass")
)


@attrs.frozen
class Listing:
    """A scanned folder.

    Attributes:
        manifest: the tree.
        stamps: a file's path to what it was when it was hashed.
        pieces: a large file's path to the sha256 of its pieces.
        notes: what a person should know (what was not sent, what looks like a secret).
    """

    manifest: Manifest
    stamps: dict[str, Stamp]
    pieces: dict[str, bytes]
    notes: tuple[str, ...]


def list_workspace(workspace: Workspace, stop: threading.Event) -> Listing:
    """Scan and hash a workspace.

    Args:
        workspace: what is to be sent.
        stop: set by another thread to end the scan early.

    Raises:
        TransferFailed: a file cannot be read, keeps changing, or has a name that no node can hold; or git failed.
        ToolMissing: the folder is in git, and git is not installed.
    """
    root = workspace.path
    if not root.is_dir():
        raise TransferFailed("", f"the workspace is no folder: {root}", "give the project's folder", path=str(root))
    scan = _Scan(workspace, stop)
    scan.add_all(_names(root, scan))
    scan.hash_large()
    scan.note_secrets()
    try:
        manifest = Manifest(scan.entries)
    except ValueError as error:
        raise TransferFailed("", f"{root}: {error}", "exclude it", path=str(root)) from None
    return Listing(manifest, scan.stamps, scan.pieces, tuple(scan.notes))


def _names(root: Path, scan: _Scan) -> Iterator[str]:
    """Yield the paths that git or the walk would send, and those that include brings back."""
    in_git = _in_git(root)
    sent = set(_git_names(root, scan) if in_git else _walk(root, scan))
    if scan.include:
        every = set(_walk(root, scan, everything=True))
        sent |= {path for path in every if scan.include.match(path)}
    yield from sent


def _in_git(root: Path) -> bool:
    """Whether git says what belongs to the folder (one that its repository ignores as a whole stands alone)."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return False
    if shutil.which("git") is None:
        hint = "install git, or remove the .git folder: without git its ignore rules cannot be trusted"
        raise ToolMissing("", f"git is needed to list {root}, which is in a repository", hint, tool="git")
    if (root / ".git").exists():
        return True
    ignored = _git(root, "check-ignore", "-q", ".", statuses=(0, 1))
    return ignored.returncode == 1


def project_id(root: Path) -> str:
    """Return what tells one project from another: the same for every clone of a repository, wherever it lies.

    It is the hash of the repository's first commit and the folder's place in it; where there is none (no git, no
    commit, a shallow clone) it is this machine's name and the folder's path, so that two folders of one name stay two.
    """
    alone = f"{platform.node()}:{os.path.realpath(root)}"
    if not _in_git(root):
        return alone
    if _git(root, "rev-parse", "--is-shallow-repository", statuses=tuple(range(256))).stdout.strip() != b"false":
        return alone
    roots = _git(root, "rev-list", "--max-parents=0", "HEAD", statuses=tuple(range(256))).stdout.split()
    place = _git(root, "rev-parse", "--show-prefix").stdout.strip()
    return f"{min(roots).decode()}/{os.fsdecode(place)}" if roots else alone


def _git(root: Path, *args: str, statuses: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[bytes]:
    # GIT_DIR and the like are set where we are called from a hook; they would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    line, nothing = ["git", "-C", str(root), *args], subprocess.DEVNULL
    try:
        done = subprocess.run(line, capture_output=True, env=env, stdin=nothing, timeout=GIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TransferFailed("", f"git {args[0]} took over {GIT_S:.0f} s in {root}", path=str(root)) from None
    if done.returncode not in statuses:
        text = done.stderr.decode("utf-8", "replace").strip()
        hint = "run `git status` there" if "dubious" not in text else f"git config --global --add safe.directory {root}"
        raise TransferFailed("", f"git {args[0]} failed in {root}", hint, text[-2000:], path=str(root))
    return done


def _git_names(root: Path, scan: _Scan, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield what git tracks or would track; repositories inside are listed by their own rules."""
    listed = _git(root, "ls-files", "-co", "--exclude-standard", "-z").stdout
    for raw in set(listed.split(b"\0")) - {b""}:
        path = os.fsdecode(raw)
        if path.endswith("/") or ((root / path).is_dir() and not (root / path).is_symlink()):
            path = path.rstrip("/")
            if not (root / path / ".git").exists():
                scan.note(f"{prefix}{path} is a submodule that is not checked out; it was not sent")
            elif depth == MAX_NESTED:
                scan.note(f"{prefix}{path} lies in too many nested repositories; it was not sent")
            else:
                yield from _git_names(root / path, scan, f"{prefix}{path}/", depth + 1)
        else:
            yield prefix + path


def _walk(root: Path, scan: _Scan, *, everything: bool = False) -> Iterator[str]:
    """Yield files, links and empty folders, as .gitignore files there say; all of them with ``everything``."""
    pending: list[tuple[str, tuple[tuple[str, Patterns], ...]]] = [("", ())]
    while pending:
        scan.check_stop()
        folder, rules = pending.pop()
        try:
            with os.scandir(root / folder if folder else root) as found:
                entries = list(found)
        except OSError as error:
            raise _unreadable(root / folder, error) from None
        if not everything and any(entry.name == ".gitignore" and entry.is_file() for entry in entries):
            rules = (*rules, (folder, _read_patterns(root / folder / ".gitignore")))
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in NEVER or _ignored(path, rules, folder=is_folder):
                continue
            if is_folder:
                pending.append((path, rules))
            else:
                yield path
        if not entries and folder and not everything:
            yield folder


def _ignored(path: str, rules: tuple[tuple[str, Patterns], ...], *, folder: bool) -> bool:
    for base, patterns in reversed(rules):
        decided = patterns.decide(path[len(base) + 1 :] if base else path, folder=folder)
        if decided is not None:
            return decided
    return False


def _read_patterns(path: Path) -> Patterns:
    try:
        return Patterns(path.read_text("utf-8", "surrogateescape").splitlines())
    except FileNotFoundError:
        return Patterns(())
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path | str, error: OSError) -> TransferFailed:
    what = error.strerror or str(error)
    return TransferFailed("", f"cannot read {path}: {what}", "make it readable, or exclude it", path=str(path))


class _Scan:
    """Turns paths into entries; what cannot be sent becomes a note."""

    def __init__(self, workspace: Workspace, stop: threading.Event) -> None:
        self.root = os.fspath(workspace.path)
        self.real_root = os.path.realpath(self.root)
        self.include = Patterns(workspace.include)
        self.exclude = Patterns(workspace.exclude)
        self.ignore = _read_patterns(workspace.path / IGNORE_FILE)
        self.stop = stop
        self.entries: list[Entry] = []
        self.stamps: dict[str, Stamp] = {}
        self.notes: list[str] = []
        self.pieces: dict[str, bytes] = {}
        self.large: list[str] = []

    def note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise TransferFailed("", "the scan was stopped", path=self.root)

    def wanted(self, path: str) -> bool:
        if not NEVER.isdisjoint(path.split("/")) or self.exclude.match(path):
            return False
        return not self.ignore.match(path) or self.include.match(path)

    def add_all(self, paths: Iterable[str]) -> None:
        for path in paths:
            if self.wanted(path):
                self.check_stop()
                self.add(path)
            if len(self.entries) > MAX_ENTRIES:
                hint = "ignore or exclude what is generated"
                raise TransferFailed("", f"{self.root} holds over {MAX_ENTRIES} files", hint, path=self.root)

    def add(self, path: str) -> None:
        try:
            check_path(path)
            full = f"{self.root}/{path}"
            found = os.lstat(full)
            if stat.S_ISREG(found.st_mode):
                if is_large(found.st_size):
                    self.large.append(path)
                else:
                    self.add_file(path)
            elif stat.S_ISLNK(found.st_mode):
                self.add_link(path, full)
            elif stat.S_ISDIR(found.st_mode):
                self.entries.append(Entry(path, "dir", stat.S_IMODE(found.st_mode) & 0o777 | 0o700))
            else:
                self.note(f"{path} is a socket, FIFO or device; it was not sent")
        except (FileNotFoundError, NotADirectoryError):
            return  # tracked by git and deleted here, or gone since it was listed
        except OSError as error:
            raise _unreadable(f"{self.root}/{path}", error) from None
        except ValueError as error:
            raise TransferFailed("", str(error), "rename or exclude it", path=path) from None

    def add_link(self, path: str, full: str) -> None:
        target = os.readlink(full)  # noqa: PTH115 - its bytes, not a Path
        led = os.path.normpath(os.path.join(self.real_root, os.path.dirname(path), target))  # noqa: PTH118,PTH120
        if target.startswith("/") or not (led + "/").startswith(self.real_root.rstrip("/") + "/"):
            self.note(f"{path} is a link that leads out of the workspace, to {target}; it was sent as it is")
        self.entries.append(Entry(path, "link", 0, 0, "", target, 0))

    def add_file(self, path: str) -> None:
        self.put_file(path, *self.hash(path, self.read_all))

    def put_file(self, path: str, sha256: str, found: os.stat_result) -> None:
        self.stamps[path] = Stamp.of(found)
        # The owner must be able to read it on the node: it is verified and compared there.
        mode = stat.S_IMODE(found.st_mode) & 0o777 | 0o400
        self.entries.append(Entry(path, "file", mode, found.st_size, sha256, "", max(0, found.st_mtime_ns)))

    def hash_large(self) -> None:
        """Hash the large files, each by many threads, but for those that are known to be what they were."""
        if not self.large:
            return
        known, fresh = load_hashes(self.real_root), {}
        with ThreadPoolExecutor(HASHERS, "asyncdeploy-hash") as executor:
            for path in self.large:
                began = time.time_ns()
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    self.add_large(path, known.get(path), executor)
                if path in self.pieces and not self.stamps[path].is_racy(began):
                    fresh[path] = (self.stamps[path], self.pieces[path])
        if fresh != known:
            save_hashes(self.real_root, fresh)

    def add_large(self, path: str, known: tuple[Stamp, bytes] | None, executor: Executor) -> None:
        found = os.lstat(f"{self.root}/{path}")
        if known is not None and known[0] == Stamp.of(found):
            digests = known[1]
        else:
            digests, found = self.hash(path, lambda fd, size: self.read_pieces(fd, size, executor))
        if not is_large(found.st_size):  # it was cut meanwhile
            self.add_file(path)
            return
        self.pieces[path] = digests
        self.put_file(path, large_id(digests), found)

    def hash(self, path: str, read: Callable[[int, int], tuple[Digest, int]]) -> tuple[Digest, os.stat_result]:
        """Return what a file that held still while it was read hashed to, and its stat."""
        full = f"{self.root}/{path}"
        for _ in range(TRIES):
            try:
                fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _unreadable(full, error) from None
            try:
                before = os.fstat(fd)
                digest, size = read(fd, before.st_size)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if Stamp.of(before) == Stamp.of(after) and size == before.st_size:
                return digest, before
        raise changed(path)

    def read_pieces(self, fd: int, size: int, executor: Executor) -> tuple[bytes, int]:
        digests = hash_pieces(fd, size, executor, self.stop)
        self.check_stop()
        return digests, size if len(digests) == piece_count(size) * DIGEST else -1

    def read_all(self, fd: int, size: int) -> tuple[str, int]:
        if size < BLOCK:
            data = os.read(fd, size + 1)
            if len(data) == size:
                return hashlib.sha256(data).hexdigest(), size
            os.lseek(fd, 0, os.SEEK_SET)
        digest, total = hashlib.sha256(), 0
        while data := os.read(fd, BLOCK):
            digest.update(data)
            total += len(data)
            self.check_stop()
            if total > size:
                break  # it grows; the caller looks again
        return digest.hexdigest(), total

    def note_secrets(self) -> None:
        paths = {entry.path for entry in self.entries}
        for path in sorted(paths):
            if _SECRETS.decide(path):
                self.note(f"{path} looks like a secret and is sent (Workspace(exclude=...) keeps it here)")
        if ".env" not in paths and os.path.lexists(f"{self.root}/.env"):
            self.note('.env is ignored and was not sent (Workspace(include=".env") sends it)')


def changed(path: str) -> TransferFailed:
    """Return the error for a file that does not hold still."""
    hint = "stop what writes to it, or exclude it"
    return TransferFailed("", f"{path} changed while it was read", hint, path=path)
