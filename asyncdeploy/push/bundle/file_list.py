"""Which files of a local folder are sent: git's own list, or a walk by its ignore files. Blocking code."""

from __future__ import annotations

import codecs
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from asyncdeploy.push.bundle.generated import Generated
from asyncdeploy.push.bundle.manifest import shown
from asyncdeploy.tasks.programs import Ended, run_blocking
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.patterns import Patterns

NEVER = frozenset({".git", ".hg", ".svn", ".jj", ".asyncdeploy"})
"""Never sent: a version control's own store (its remotes may hold tokens), and what a receiver keeps in a site."""
GIT_S = 60.0
"""How long git may take: 1 s for 10^6 files with a cold cache, a minute on a network home."""
SKIPPED = b"S "
"""How git marks what a sparse checkout leaves out."""
MAX_PATTERNS = 1 << 20
"""Bytes of a file of patterns: 20,000 of them, each of which is held against every name."""
MAX_NESTED = 16
"""Repositories inside repositories."""
MAX_NOTES = 20
SHOWN = 3
"""Names in a note."""
"""Notes of one kind: enough to see what is meant."""


class ScanState:
    """What listing and scanning a workspace share.

    Attributes:
        include: what is sent though it is ignored.
        generated: what is never sent unless include names it.
        absent: what belongs to the workspace and is not checked out here; sparse: how many of them by sparse checkout.
        notes: what a person should know.
        stop: set by another thread to end it early.
    """

    def __init__(self, root: Path, include: Iterable[str], stop: threading.Event) -> None:
        self.root = os.fspath(root)
        self.include = Patterns(tuple(include))
        self.generated = Generated(self.root, self.include, tuple(include))
        self.absent: set[str] = set()
        self.sparse = 0
        self.notes: list[str] = []
        self.stop = stop

    def note(self, text: str) -> None:
        """Tell a person, unless enough was told already."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def note_all(self, names: list[str], is_one: str, are_many: str) -> None:
        """Tell what is so of one name, or of several in one note."""
        if names:
            self.note(f"{names[0]} {is_one}" if len(names) == 1 else f"{len(names)} {are_many}: {few(sorted(names))}")

    def check_stop(self) -> None:
        """Raise TransferFailed if another thread has ended the scan."""
        if self.stop.is_set():
            raise TransferFailed("", "the scan was stopped", path=self.root)


def few(names: Sequence[str]) -> str:
    """Return some names for people, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def file_names(root: Path, scan: ScanState) -> Iterator[str]:
    """Yield the paths that git or the walk would send, and those that include brings back."""
    sent = set(_git_names(root, scan) if in_git(root) else _walk(root, scan))
    if scan.include:
        every = set(_walk(root, scan, everything=True))
        sent |= {path for path in every if scan.include.match(path)}
    yield from (path for path in sent if not scan.generated.leaves_out(path))


def in_git(root: Path) -> bool:
    """Whether git says what belongs to the folder (one that its repository ignores as a whole stands alone)."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return False
    if shutil.which("git") is None:
        hint = "install git, or remove the .git folder: without git its ignore rules cannot be trusted"
        raise ToolMissing("", f"git is needed to list {root}, which is in a repository", hint, tool="git")
    if (root / ".git").exists():
        return True
    ignored = git(root, "check-ignore", "-q", ".", statuses=(0, 1))
    return ignored.status == 1


def git(root: Path, *args: str, statuses: tuple[int, ...] = (0,), stdin: bytes = b"") -> Ended:
    # GIT_DIR and the like are set where we are called from a hook; they would name another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A repository that somebody else packed may name programs of his: one that watches its files, or the one by which
    # what is not here would be fetched. Nothing that we ask needs either.
    env["GIT_ALLOW_PROTOCOL"] = ""
    line = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *args]
    try:
        done = run_blocking(line, env=env, within_s=GIT_S, stdin=stdin)
    except TimeoutError:
        raise TransferFailed("", f"git {args[0]} took over {GIT_S:.0f} s in {root}", path=str(root)) from None
    if done.status not in statuses:
        text = done.stderr.decode("utf-8", "replace").strip()
        hint = "run `git status` there" if "dubious" not in text else f"git config --global --add safe.directory {root}"
        raise TransferFailed("", f"git {args[0]} failed in {root}", hint, text[-2000:], path=str(root))
    return done


def _git_names(root: Path, scan: ScanState, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield what git tracks or would track; repositories inside are listed by their own rules."""
    listed = git(root, "ls-files", "-t", "-co", "--exclude-standard", "-z").stdout
    for raw in set(listed.split(b"\0")) - {b""}:
        path = os.fsdecode(raw[2:])
        if raw.startswith(SKIPPED) and not os.path.lexists(root / path):
            scan.absent.add(prefix + path)
            scan.sparse += 1
        elif path.endswith("/") or ((root / path).is_dir() and not (root / path).is_symlink()):
            path = path.rstrip("/")
            if not (root / path / ".git").exists():
                scan.note(f"{prefix}{path} is a submodule that is not checked out; what a node has of it stays")
                scan.absent.add(prefix + path)
            elif depth == MAX_NESTED:
                scan.note(f"{prefix}{path} lies in too many nested repositories; it is not sent")
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
            if is_folder and scan.generated.leaves_out_folder(path):
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
    """Return a file's patterns, none where it is not there; as git reads it: only LF ends a line, a BOM is none of it.

    Raises:
        TransferFailed: it cannot be read, or has more than MAX_PATTERNS bytes.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_PATTERNS + 1)
    except FileNotFoundError:
        return Patterns(())
    except OSError as error:
        raise unreadable(path, error) from None
    if len(raw) > MAX_PATTERNS:
        what = f"{shown(str(path))}: patterns of at most {MAX_PATTERNS} bytes were expected, it has more"
        raise TransferFailed("", what, "is it a file of patterns?", path=str(path))
    return Patterns(raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").split("\n"))


def unreadable(path: Path | str, error: OSError) -> TransferFailed:
    what = error.strerror or str(error)
    return TransferFailed(
        "", f"cannot read {shown(str(path))}: {what}", "make it readable, or exclude it", path=str(path)
    )
