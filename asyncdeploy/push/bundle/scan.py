"""Which files of a local folder are sent, and what they hold: the only room that reads a workspace. Blocking code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

import attrs

from asyncdeploy.push.bundle.file_list import NEVER, ScanState, few, file_names, read_patterns, unreadable
from asyncdeploy.push.bundle.hash_cache import Stamp, load_hashes, save_hashes
from asyncdeploy.push.bundle.manifest import MAX_ENTRIES, Entry, Manifest, check_path, shown
from asyncdeploy.push.bundle.pieces import DIGEST, hash_pieces, is_large, large_id, piece_count
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.patterns import Patterns
from asyncdeploy.values.workspace import Workspace

IGNORE_FILE = ".asyncdeployignore"

TRIES = 3
"""How often a file that changes while it is read is read again."""
HASHERS = min(os.cpu_count() or 1, 16)
"""Threads that hash large files: hashing frees the interpreter's lock; beyond 16 the memory is what is waited for."""
BLOCK = 1 << 20

POINTER = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_SIZES = range(100, 201)
"""Bytes of what Git LFS leaves in the place of a content that it did not fetch: its name and size."""

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
    for folder in (root, root / (workspace.project or "")):
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            what = f"the workspace {folder}: a folder was expected, there is {found}"
            raise TransferFailed("", what, "give the project's folder", path=str(folder))
    scan = _Scan(workspace, stop)
    scan.add_all(file_names(root, scan))
    scan.hash_large()
    scan.pointers.sort()
    scan.add_absent()
    scan.note_odd()
    scan.note_secrets()
    scan.note_left_out()
    try:
        manifest = Manifest(scan.entries)
    except ValueError as error:
        raise TransferFailed("", f"{root}: {error}", "exclude it", path=str(root)) from None
    return Listing(manifest, scan.stamps, scan.pieces, tuple(scan.notes))


class _Scan(ScanState):
    """Turns paths into entries; what cannot be sent becomes a note."""

    def __init__(self, workspace: Workspace, stop: threading.Event) -> None:
        super().__init__(workspace.path, workspace.include, stop)
        self.real_root = os.path.realpath(self.root)
        self.exclude = Patterns(workspace.exclude)
        self.ignore = read_patterns(workspace.path / IGNORE_FILE)
        self.entries: list[Entry] = []
        self.stamps: dict[str, Stamp] = {}
        self.pieces: dict[str, bytes] = {}
        self.large: list[str] = []
        self.pointers: list[str] = []
        self.odd: list[str] = []
        self.led_out: list[str] = []
        self.kinds: dict[str, int] = {}

    def wanted(self, path: str) -> bool:
        if not NEVER.isdisjoint(path.split("/")) or self.exclude.match(path):
            return False
        return not self.ignore.match(path) or self.include.match(path)

    def note_odd(self) -> None:
        self.note_all(self.odd, "is a socket, FIFO or device; it is not sent", "sockets, FIFOs or devices are not sent")
        leads, lead = "is a link that leads out of the workspace", "links lead out of the workspace"
        self.note_all(self.led_out, f"{leads}; it is sent as it is", f"{lead}; they are sent as they are")

    def note_left_out(self) -> None:
        if not any(entry.kind in ("file", "link") for entry in self.entries):
            self.note(f"{self.root} holds no file that would be sent")
        for text in self.generated.notes():
            self.note(text)

    def add_absent(self) -> None:
        """List what is not checked out: a node keeps what it has of it."""
        if self.sparse:
            what = f"{self.sparse} files are not checked out here (git sparse-checkout)"
            self.note(f"{what}: they are not sent, what a node has of them stays")
        if self.pointers:
            what = f"Git LFS pointers, whose contents are not here (git lfs pull): {few(self.pointers)}"
            self.note(f"{what}; they are not sent, what a node has of them stays")
        self.absent.update(self.pointers)
        self.entries += [Entry(path, "absent", 0) for path in self.absent if self.wanted(path) and self.has_room(path)]

    def has_room(self, path: str) -> bool:
        """Whether no file or link has taken the place of a folder that leads to a path."""
        while path := path.rpartition("/")[0]:
            kind = self.kind_of(path)
            if kind:
                return stat.S_ISDIR(kind)
        return True

    def kind_of(self, folder: str) -> int:
        if folder not in self.kinds:
            try:
                self.kinds[folder] = os.lstat(f"{self.root}/{folder}").st_mode
            except OSError:
                self.kinds[folder] = 0
        return self.kinds[folder]

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
                elif found.st_size in POINTER_SIZES and _is_pointer(full) and not self.include.match(path):
                    self.pointers.append(path)
                else:
                    self.add_file(path, found)
            elif stat.S_ISLNK(found.st_mode):
                if not self.generated.leaves_out_link(path):
                    self.add_link(path, full)
            elif stat.S_ISDIR(found.st_mode):
                self.entries.append(Entry(path, "dir", stat.S_IMODE(found.st_mode) & 0o777 | 0o700))
            else:
                self.odd.append(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # tracked by git and deleted here, or gone since it was listed
        except OSError as error:
            raise unreadable(f"{self.root}/{path}", error) from None
        except ValueError as error:
            raise TransferFailed("", str(error), "rename or exclude it", path=shown(path)) from None

    def add_link(self, path: str, full: str) -> None:
        target = os.readlink(full)  # noqa: PTH115 - its bytes, not a Path
        led = os.path.normpath(os.path.join(self.real_root, os.path.dirname(path), target))  # noqa: PTH118,PTH120
        if target.startswith("/") or not (led + "/").startswith(self.real_root.rstrip("/") + "/"):
            self.led_out.append(f"{path} -> {target}")
        self.entries.append(Entry(path, "link", 0, 0, "", target, 0))

    def add_file(self, path: str, found: os.stat_result) -> None:
        self.put_file(path, *self.hash(path, found, self.read_all))

    def put_file(self, path: str, sha256: str, stamp: Stamp, mode: int) -> None:
        self.stamps[path] = stamp
        # The owner must be able to read it on the node: it is verified and compared there.
        self.entries.append(Entry(path, "file", mode & 0o777 | 0o400, stamp.size, sha256, "", max(0, stamp.mtime_ns)))

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
        if known is not None and known[0].is_of(found):
            stamp, digests = known
            mode = found.st_mode
        else:
            digests, stamp, mode = self.hash(path, found, lambda fd, size: self.read_pieces(fd, size, executor))
        if not is_large(stamp.size):  # it was cut meanwhile
            self.add_file(path, os.lstat(f"{self.root}/{path}"))
            return
        self.pieces[path] = digests
        self.put_file(path, large_id(digests), stamp, mode)

    def hash(
        self, path: str, before: os.stat_result, read: Callable[[int, int], tuple[Digest, int]]
    ) -> tuple[Digest, Stamp, int]:
        """Return what a file that held still since it was looked at hashed to, its stamp and its mode."""
        full = f"{self.root}/{path}"
        for _ in range(TRIES):
            try:
                fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise unreadable(full, error) from None
            try:
                digest, size = read(fd, before.st_size)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            stamp = Stamp.of(after)
            if stamp.is_of(before) and size == stamp.size:
                return digest, stamp, after.st_mode
            before = after
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
        stays = "(Workspace(exclude=...) keeps {} here)"
        secrets = [path for path in paths if _SECRETS.decide(path)]
        one, many = "looks like a secret and is sent", "files look like secrets and are sent"
        self.note_all(secrets, f"{one} {stays.format('it')}", f"{many} {stays.format('them')}")
        if ".env" not in paths and os.path.lexists(f"{self.root}/.env"):
            self.note('.env is ignored and is not sent (Workspace(include=".env") sends it)')


def _is_pointer(full: str) -> bool:
    fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, len(POINTER)) == POINTER
    finally:
        os.close(fd)


def changed(path: str) -> TransferFailed:
    """Return the error for a file that does not hold still."""
    hint = "stop what writes to it, or exclude it"
    return TransferFailed("", f"{path} changed while it was read", hint, path=path)
