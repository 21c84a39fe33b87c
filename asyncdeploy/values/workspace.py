"""What is shipped and where it stands: Workspace, Site, Collected."""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath
from typing import Literal

import attrs

from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.patterns import may_match
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.shown.table import count

Conflict = Literal["refuse", "overwrite"]
Emptied = Literal["refuse", "remove"]

OWN_FOLDER = ".asyncdeploy"
"""What we keep of a site, and in the home what we keep of jobs: never a place for files of others."""

SHOWN = 10
"""Names in the error for what did not come home; the Collected in it has more."""

_UNSAFE = regex(r"[\x00-\x1f\x7f]")


def _to_local(value: str | Path) -> Path:
    if value == "":  # pathlib's "." for it would be a surprise: a variable that is not set
        raise ValueError("Workspace path: a folder was expected, got ''")
    try:
        path = Path(value).expanduser().absolute()
        return path.resolve() if ".." in path.parts else path  # "..": its real name says where it goes
    except RuntimeError:  # pathlib's word for a user that it does not know
        raise ValueError(f"Workspace path: a home folder that exists was expected, got {str(value)!r}") from None


def _to_names(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@checked_class
@attrs.frozen
class Workspace(PlainData):
    """A local folder to be pushed.

    Args:
        path: the folder.
        remote_path: where it goes: absolute or "~/..."; None is "~/<folder name>".
        project: sub-folder to work in (a monorepo's package), None for the top.
        include: gitignore-style patterns sent although git ignores them.
        exclude: patterns never sent (they win over include).
        on_conflict: "refuse" to overwrite files that were edited on the node since our last push and folders that are
            not ours, or "overwrite" (an event names what was lost).
        under_jobs: "refuse" to push while a detached job runs in the site, or "overwrite".
        on_emptied: "refuse" to take away most of what was pushed before (a disk that is not mounted, another branch),
            or "remove".

    Raises:
        ValueError: a bad path or word.
    """

    path: Path = attrs.field(converter=_to_local)
    remote_path: str | None = attrs.field(default=None, kw_only=True)
    project: str | None = attrs.field(default=None, kw_only=True)
    include: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_to_names, validator=may_match)
    exclude: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_to_names, validator=may_match)
    on_conflict: Conflict = attrs.field(default="refuse", kw_only=True)
    under_jobs: Conflict = attrs.field(default="refuse", kw_only=True)
    on_emptied: Emptied = attrs.field(default="refuse", kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.remote_path is not None:
            check_remote_path(self.remote_path, "Workspace remote_path")
            names = set(PurePosixPath(self.remote_path).parts) - {"/", "//", "~"}
            if not names or OWN_FOLDER in names:
                raise ValueError(f"Workspace remote_path: a folder of its own was expected, got {self.remote_path!r}")
        elif not self.path.name:
            raise ValueError(f"Workspace path: {str(self.path)!r} has no name; give remote_path")
        elif self.path.name == OWN_FOLDER or _UNSAFE.search(self.path.name):
            raise ValueError(f"Workspace path: {self.path.name!r} is no name for a folder on a node; give remote_path")
        if self.project is not None:
            check_inside(self.project, "Workspace project")
        for what, value in (("on_conflict", self.on_conflict), ("under_jobs", self.under_jobs)):
            if value not in ("refuse", "overwrite"):
                raise ValueError(f"Workspace {what}: 'refuse' or 'overwrite' was expected, got {value!r}")
        if self.on_emptied not in ("refuse", "remove"):
            raise ValueError(f"Workspace on_emptied: 'refuse' or 'remove' was expected, got {self.on_emptied!r}")

    @property
    def site_path(self) -> str:
        """Where the workspace goes on a node, still with "~/" where the home is meant."""
        path = self.remote_path if self.remote_path is not None else f"~/{self.path.name}"
        # One name for one place: POSIX lets two slashes at the beginning stand.
        return posixpath.normpath(path) if path.startswith("~") else "/" + posixpath.normpath(path).lstrip("/")


def as_workspace(value: Workspace | Path | str) -> Workspace:
    """Return a Workspace; a path is a folder with the defaults."""
    return value if isinstance(value, Workspace) else Workspace(value)


def check_remote_path(text: str, what: str) -> None:
    """Raise ValueError unless ``text`` is an absolute path on a node, or one below "~"."""
    if _UNSAFE.search(text) or not (text.startswith(("/", "~/")) or text == "~"):
        raise ValueError(f"{what}: an absolute path or ~/... was expected, got {text!r}")
    if ".." in PurePosixPath(text).parts:
        raise ValueError(f"{what}: '..' is not allowed, got {text!r}")


def check_inside(text: str, what: str) -> None:
    """Raise ValueError unless ``text`` is a relative path that stays inside its folder."""
    parts = PurePosixPath(text).parts
    if not parts or text.startswith("/") or ".." in parts or _UNSAFE.search(text):
        raise ValueError(f"{what}: a path inside the folder was expected, got {text!r}")


@checked_class
@attrs.frozen
class Site(PlainData):
    """A workspace as it stands on a node.

    Attributes:
        path: absolute folder on the node.
        digest: names the pushed tree ("" where nothing was pushed).
        project: sub-folder to work in, or None.
    """

    path: str
    digest: str = ""
    project: str | None = None

    def __attrs_post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"Site path: an absolute path was expected, got {self.path!r}")

    @property
    def workdir(self) -> str:
        """Absolute folder where commands start."""
        return f"{self.path.rstrip('/')}/{self.project}" if self.project else self.path


@attrs.frozen
class Collected(PlainData):
    """What came home from a node.

    Attributes:
        node: the node's name.
        source: absolute path on the node.
        target: local folder.
        files: regular files and links that stand in target now.
        received: how many of them came over the network this time (the rest was here already).
        bytes_received: bytes of content that came, holes of sparse files among them.
        skipped: (path, reason) of what was left behind: odd entries, refused names, budgets, files that changed while
            they were read; the first ``missing`` of them were asked for.
        missing: how many names were asked for and are not at home; what is larger than ``max_file_bytes`` was not
            asked for.
    """

    node: str
    source: str
    target: Path
    files: int = 0
    received: int = 0
    bytes_received: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    missing: int = attrs.field(default=attrs.Factory(lambda self: len(self.skipped), takes_self=True))

    @property
    def complete(self) -> bool:
        """True if all that was asked for is at home."""
        return not self.missing

    def gist(self) -> str:
        """Return how many files are at home, where, and how many of them came just now."""
        return f"{count(self.files, 'file')} in {self.target}, {self.received} new"

    def failure(self) -> CollectIncomplete | None:
        """Return None if all that was asked for is at home, else the error that says what is not."""
        if self.complete:
            return None
        lines = [f"{name}: {reason}" for name, reason in self.skipped[: min(self.missing, SHOWN)]]
        what = f"{self.source} is not all at home: {self.missing} left behind, first {lines[0] if lines else '?'}"
        hint = "collect again (what is at home does not travel), exclude it, or take what there is: allow_partial=True"
        return CollectIncomplete(self.node, what, hint, "\n".join(lines[1:]), self.source, self.missing, self)

    def check(self) -> Collected:
        """Return itself if all that was asked for is at home; raise CollectIncomplete otherwise."""
        if (error := self.failure()) is not None:
            raise error
        return self


@attrs.define(slots=False, eq=False, str=False, repr=False)
class CollectIncomplete(TransferFailed):
    """Some of what was asked for did not come home; what did is whole, and stays.

    Attributes:
        missing: how many names did not come.
        collected: what came, and (path, reason) of what did not.
    """

    missing: int = 0
    collected: Collected | None = None
