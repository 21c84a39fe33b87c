"""Which files of a local folder are sent: git's own list, or a walk by its ignore files. Blocking code."""

from __future__ import annotations

import os
import platform
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from asyncdeploy.tasks.programs import Ended, run_blocking
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.patterns import Patterns

NEVER = frozenset({".git", ".asyncdeploy"})
"""Never sent: git's own store (its remotes may hold tokens), and what a receiver keeps in a site."""
GIT_S = 60.0
"""How long git may take: 1 s for 10^6 files with a cold cache, a minute on a network home."""
MAX_NESTED = 16
"""Repositories inside repositories."""
MAX_NOTES = 20
"""Notes of one kind: enough to see what is meant."""


class ScanState:
    """What listing and scanning a workspace share.

    Attributes:
        include: what is sent though it is ignored.
        notes: what a person should know.
        stop: set by another thread to end it early.
    """

    def __init__(self, root: Path, include: Iterable[str], stop: threading.Event) -> None:
        self.root = os.fspath(root)
        self.include = Patterns(tuple(include))
        self.notes: list[str] = []
        self.stop = stop

    def note(self, text: str) -> None:
        """Tell a person, unless enough was told already."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def check_stop(self) -> None:
        """Raise TransferFailed if another thread has ended the scan."""
        if self.stop.is_set():
            raise TransferFailed("", "the scan was stopped", path=self.root)


def file_names(root: Path, scan: ScanState) -> Iterator[str]:
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
    return ignored.status == 1


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


def _git(root: Path, *args: str, statuses: tuple[int, ...] = (0,)) -> Ended:
    # GIT_DIR and the like are set where we are called from a hook; they would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    line = ["git", "-C", str(root), *args]
    try:
        done = run_blocking(line, env=env, within_s=GIT_S)
    except TimeoutError:
        raise TransferFailed("", f"git {args[0]} took over {GIT_S:.0f} s in {root}", path=str(root)) from None
    if done.status not in statuses:
        text = done.stderr.decode("utf-8", "replace").strip()
        hint = "run `git status` there" if "dubious" not in text else f"git config --global --add safe.directory {root}"
        raise TransferFailed("", f"git {args[0]} failed in {root}", hint, text[-2000:], path=str(root))
    return done


def _git_names(root: Path, scan: ScanState, prefix: str = "", depth: int = 0) -> Iterator[str]:
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


def _walk(root: Path, scan: ScanState, *, everything: bool = False) -> Iterator[str]:
    """Yield files, links and empty folders, as .gitignore files there say; all of them with ``everything``."""
    pending: list[tuple[str, tuple[tuple[str, Patterns], ...]]] = [("", ())]
    while pending:
        scan.check_stop()
        folder, rules = pending.pop()
        try:
            with os.scandir(root / folder if folder else root) as found:
                entries = list(found)
        except OSError as error:
            raise unreadable(root / folder, error) from None
        if not everything and any(entry.name == ".gitignore" and entry.is_file() for entry in entries):
            rules = (*rules, (folder, read_patterns(root / folder / ".gitignore")))
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


def read_patterns(path: Path) -> Patterns:
    try:
        return Patterns(path.read_text("utf-8", "surrogateescape").splitlines())
    except FileNotFoundError:
        return Patterns(())
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path | str, error: OSError) -> TransferFailed:
    what = error.strerror or str(error)
    return TransferFailed("", f"cannot read {path}: {what}", "make it readable, or exclude it", path=str(path))
