"""Folders that programs made and can make again: nobody's source, and so never sent unless the user names them.

An environment holds absolute paths and programs of this machine, a cache only what can be made anew. Those that say so
themselves are left out, in git or not: git lists what nobody ignored. Blocking code.
"""

from __future__ import annotations

import os
import stat

import attrs

from asyncdeploy.values.patterns import Patterns

PYCACHE = "__pycache__"
CACHE_TAG = "CACHEDIR.TAG"
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""How the file of that name begins, by the Cache Directory Tagging Specification."""
MARKERS = {"pyvenv.cfg": "a Python environment", "conda-meta": "a conda environment", CACHE_TAG: "a cache"}
MAX_COUNTED = 20_000
"""Names that are counted for a note: a tenth of a second."""


@attrs.define
class _Size:
    files: int = 0
    bytes: int = 0
    is_all: bool = True

    def __str__(self) -> str:
        over = "" if self.is_all else "over "
        return f"{over}{self.files} file{'' if self.files == 1 else 's'}, {over}{self.bytes / 1e6:.1f} MB"


class Generated:
    """Tells which paths of a workspace lie in such folders, and remembers what it left out.

    Args:
        root: the workspace, as scanned.
        include: patterns of what is sent all the same.
        texts: the same as the user wrote them.
    """

    def __init__(self, root: str, include: Patterns, texts: tuple[str, ...]) -> None:
        self._root = root
        self._include = include
        self._texts = tuple(text.lstrip("/") for text in texts)
        self._above: dict[str, str] = {"": ""}
        self._found: dict[str, str] = {}
        self._links: list[str] = []

    def leaves_out(self, path: str) -> bool:
        """Return whether a path lies in such a folder and is not asked for by name."""
        folder = self._folder_of(path.rpartition("/")[0])
        return bool(folder) and not self._is_asked_for(folder, path)

    def leaves_out_folder(self, path: str) -> bool:
        """Return whether a folder is, or lies in, one of which nothing is asked for."""
        folder = self._folder_of(path)
        return bool(folder) and not self._names_below(folder)

    def leaves_out_link(self, path: str) -> bool:
        """Return whether a link leads to such a folder and is not asked for by name."""
        if self.kind(path) and not self._include.decide(path):
            self._links.append(path)
            return True
        return False

    def notes(self) -> list[str]:
        """Return what was left out, with its size, for people."""
        caches = [folder for folder in self._found if folder.rpartition("/")[2] == PYCACHE]
        texts = []
        for folder in sorted(self._found.keys() - set(caches)):
            kind, size = self._found[folder], self._size([folder])
            texts.append(f"{folder} is {kind}: it is not sent ({size}); Workspace(include={folder!r}) sends it")
        if caches:
            where = PYCACHE if len(caches) == 1 else f"{len(caches)} folders {PYCACHE}"
            texts.append(f"{where} not sent ({self._size(caches)})")
        texts += [f"{path} is a link to an environment or a cache: it is not sent" for path in sorted(self._links)]
        return texts

    def _folder_of(self, folder: str) -> str:
        """Return the topmost such folder at or above a folder that is not asked for, "" if there is none."""
        unknown = []
        while folder not in self._above:
            unknown.append(folder)
            folder = folder.rpartition("/")[0]
        found = self._above[folder]
        for below in reversed(unknown):
            if not found and (kind := self.kind(below)) and not self._include.decide(below, folder=True):
                found = below
                self._found[found] = kind
            self._above[below] = found
        return found

    def kind(self, folder: str) -> str:
        """Return what made a folder, in words, "" where it is nothing of that kind."""
        if folder.rpartition("/")[2] == PYCACHE:
            return "a cache"
        for name, kind in MARKERS.items():
            path = f"{self._root}/{folder}/{name}"
            try:
                os.lstat(path)
            except (OSError, ValueError):  # not there, or no name that a disk could hold
                continue
            if name != CACHE_TAG or _is_tag(path):
                return kind
        return ""

    def _is_asked_for(self, folder: str, path: str) -> bool:
        return self._names_below(folder) and self._include.match(path)

    def _names_below(self, folder: str) -> bool:
        return any(text.startswith(f"{folder}/") for text in self._texts)

    def _size(self, folders: list[str]) -> _Size:
        size, pending, left = _Size(), [f"{self._root}/{folder}" for folder in folders], MAX_COUNTED
        while pending:
            try:
                with os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        if (left := left - 1) < 0:
                            size.is_all = False
                            return size
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                            continue
                        found = entry.stat(follow_symlinks=False)
                        size.files += 1
                        size.bytes += found.st_size if stat.S_ISREG(found.st_mode) else 0
            except OSError:
                continue  # gone meanwhile, or closed to us: it is not sent anyway
        return size


def _is_tag(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, len(CACHE_SIGNATURE)) == CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(fd)
