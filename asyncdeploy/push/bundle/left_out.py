"""What a workspace holds and a push does not send, and why: every name on this disk is sent, or stands here.

Blocking code.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator

from asyncdeploy.push.bundle.file_list import NEVER, git, in_git, read_patterns
from asyncdeploy.push.bundle.generated import Generated
from asyncdeploy.push.bundle.manifest import Manifest, upwards
from asyncdeploy.push.bundle.scan import IGNORE_FILE
from asyncdeploy.values.patterns import Patterns
from asyncdeploy.values.words import one_line
from asyncdeploy.values.workspace import Workspace

NEVER_SENT = "never sent"
"""Why the store of a version control, and what we keep of a site, stay away."""
MOST = 1000
"""Names that are told, and git is asked of: more than anybody reads."""
MAX_RULE = 200
"""Characters of a rule: a long path with a pattern behind it."""
FIELDS = 4
"""Of git's answer for a path: file, line, pattern, the path itself."""
ANY_STATUS = tuple(range(256))


def left_out(workspace: Workspace, manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """Return what is not sent, as (path, why) in the order of paths; of a folder of which nothing is sent only its own
    name, with a slash at its end.

    Args:
        workspace: the folder.
        manifest: what of it is sent.
    """
    found = _LeftOut(workspace, manifest)
    told: list[tuple[str, str]] = []
    asked = found.below("")
    while asked and len(told) < MOST:
        asked, rest = asked[:MOST], asked[MOST:]
        why = found.reasons(asked)
        told += [(path, why[path]) for path in asked if why[path]]
        # A folder that nothing names holds only what something names.
        asked = [below for path in asked if not why[path] for below in found.below(path, everything=True)] + rest
    return tuple(sorted(told[:MOST]))


class _LeftOut:
    def __init__(self, workspace: Workspace, manifest: Manifest) -> None:
        self._root = os.fspath(workspace.path)
        self._path = workspace.path
        self._in_git = in_git(workspace.path)
        self._generated = Generated(self._root, Patterns(workspace.include), workspace.include)
        self._exclude = Patterns(workspace.exclude)
        self._ignore = read_patterns(workspace.path / IGNORE_FILE)
        self._sent = {entry.path for entry in manifest.entries if entry.kind != "absent"}
        self._absent = {entry.path for entry in manifest.entries if entry.kind == "absent"}
        self._folders = {above for path in self._sent for above in upwards(path.rpartition("/")[0])}

    def below(self, folder: str, *, everything: bool = False) -> list[str]:
        """Return the topmost names below a folder of which nothing is sent; with ``everything`` all names in it."""
        return sorted(self._names(folder.rstrip("/"), everything=everything))

    def _names(self, folder: str, *, everything: bool) -> Iterator[str]:
        pending = [folder]
        while pending:
            here = pending.pop()
            with os.scandir(f"{self._root}/{here}") as entries:
                for entry in entries:
                    path = f"{here}/{entry.name}".lstrip("/")
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder and path in self._folders and not everything:
                        pending.append(path)
                    elif path not in self._sent:
                        yield f"{path}/" if is_folder else path

    def reasons(self, paths: Iterable[str]) -> dict[str, str]:
        """Return why each path is not sent, "" of a folder that nothing names."""
        why = {path: self._own(path) for path in paths}
        unsure = [path for path, reason in why.items() if not reason]
        why.update(self._by_git(unsure) if self._in_git else {path: self._by_walk(path) for path in unsure})
        return {path: reason or self._last(path) for path, reason in why.items()}

    def _own(self, path: str) -> str:
        """Return a reason of ours."""
        name, is_folder = path.rstrip("/"), path.endswith("/")
        if not NEVER.isdisjoint(name.split("/")):
            return NEVER_SENT
        if self._exclude.match(name, folder=is_folder):
            return "exclude"
        if self._ignore.match(name, folder=is_folder):
            return IGNORE_FILE
        if kind := self._generated.kind(name):
            return kind
        if name in self._absent:
            return (
                "a submodule that is not checked out" if is_folder else "a Git LFS pointer, whose content is not here"
            )
        return "" if is_folder or self._is_plain(name) else "a socket, FIFO or device"

    def _is_plain(self, path: str) -> bool:
        mode = os.lstat(f"{self._root}/{path}").st_mode
        return stat.S_ISREG(mode) or stat.S_ISLNK(mode)

    def _by_git(self, paths: Iterable[str]) -> dict[str, str]:
        """Return which line of which file ignores each path, as git itself says it."""
        inside: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            inside[self._repository(path)].append(path)
        why = {}
        for folder, names in inside.items():
            # Without the slash at a folder's end, which git would take for a name of its own.
            below = b"".join(os.fsencode(name[len(folder) :].strip("/")) + b"\0" for name in names)
            words = ("check-ignore", "-v", "-n", "-z", "--stdin")
            done = git(self._path / folder, *words, statuses=ANY_STATUS, stdin=below)
            fields = done.stdout.split(b"\0")
            if len(fields) == FIELDS * len(names) + 1:  # else it could not be asked, and no reason is none
                for at, name in enumerate(names):
                    why[name] = _rule(*fields[FIELDS * at : FIELDS * at + 3])
        return {path: why.get(path, "") for path in paths}

    def _repository(self, path: str) -> str:
        """Return the repository inside the workspace that a path lies in, "" for the workspace's own."""
        for above in upwards(path.rstrip("/").rpartition("/")[0]):
            if os.path.lexists(f"{self._root}/{above}/.git"):
                return above
        return ""

    def _by_walk(self, path: str) -> str:
        """Return which .gitignore says so, where there is no git."""
        name, is_folder = path.rstrip("/"), path.endswith("/")
        for folder in (*upwards(name.rpartition("/")[0]), ""):
            file = f"{folder}/.gitignore".lstrip("/")
            below = name[len(folder) :].lstrip("/")
            if read_patterns(self._path / file).decide(below, folder=is_folder):
                return file
        return ""

    def _last(self, path: str) -> str:
        if not path.endswith("/"):
            return "not listed by git" if self._in_git else "gone when it was looked for"
        return "" if any((self._path / path).iterdir()) else "an empty folder"


def _rule(source: bytes, line: bytes, pattern: bytes) -> str:
    ignores = source and not pattern.startswith(b"!")  # else it brings back, and something below is ignored
    return one_line(b"%s:%s: %s" % (source, line, pattern), MAX_RULE) if ignores else ""
