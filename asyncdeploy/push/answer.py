"""What a receiver answers, as a value or an error: the node's words are checked, bounded and turned into ours."""

from __future__ import annotations

import attrs

from asyncdeploy.values.errors import (
    DeployError,
    NodeFull,
    ProtocolError,
    TransferFailed,
    WorkspaceBusy,
    WorkspaceConflict,
)
from asyncdeploy.values.words import one_line

MAX_SHOWN = 400
"""Characters of one word of a node's: a path to look at, not a flood."""
MAX_NAMES = 10
BLOCK = 4096
"""Bytes: a file system on which less is free has no room for any file."""
MAX_FIELDS = 32
MAX_DIGITS = 30
"""Of a count: more than any file system says of itself, and a float holds it."""

_OVERWRITE = "look at them on the node; Workspace(on_conflict='overwrite') takes yours instead"
_HINTS = {
    "EROFS": "its file system is mounted read-only; give a remote_path on another one",
    "EACCES": "that user may not write there; give another remote_path or user",
    "EPERM": "the disk refuses it, or the file is protected (chattr +i); look there, or give another remote_path",
    "ENOTDIR": "a part of the path is a file; give another remote_path",
    "EEXIST": "a part of the path is a file; give another remote_path",
    "ENOTEMPTY": "move away what was put in that folder, then push again: the swap that was begun is finished then",
    "ENAMETOOLONG": "the node's file system takes shorter names only; rename or exclude it",
    "EILSEQ": "the node's file system does not take that name; rename or exclude it",
}

_LACKS = {"modes": "permission bits", "links": "symbolic links", "case": "names that differ by case alone"}


@attrs.frozen
class Answer:
    """What a push did.

    Attributes:
        path: the site, absolute on the node.
        placed / removed: names put in place and taken away.
        restored / overwritten: names that had been removed or edited on the node.
        names: up to ten of each, as "restored PATH" and "overwritten PATH".
    """

    path: str
    placed: int = 0
    removed: int = 0
    restored: int = 0
    overwritten: int = 0
    names: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """True if anything on the node was changed."""
        return bool(self.placed or self.removed)

    def summary(self, sent: int) -> str:
        """Return what a stage's end says of it, where we sent so many bytes."""
        if not self.changed:
            return "= unchanged"
        text = f"{self.placed} files, {amount(sent)}"
        return f"{text}, {self.removed} removed" if self.removed else text

    def notes(self) -> tuple[str, ...]:
        """What a person should know: what was lost or brought back on the node."""
        texts = []
        for word, count, what in (
            ("overwritten", self.overwritten, "edited on the node and overwritten"),
            ("restored", self.restored, "removed on the node and brought back"),
        ):
            names = [name.removeprefix(f"{word} ") for name in self.names if name.startswith(f"{word} ")]
            if count:
                texts.append(f"{what}: {_listed(names, count)}")
        return tuple(texts)


def read_answer(node: str, payload: bytes) -> Answer:
    """Return a receiver's answer: of one frame, at most MAX_FIELDS fields of MAX_SHOWN characters.

    Raises:
        WorkspaceConflict, WorkspaceBusy, NodeFull, TransferFailed: what it refused or failed at.
        ProtocolError: it is not what a receiver of ours answers.
    """
    fields = [one_line(field, MAX_SHOWN) for field in payload.split(b"\0")]
    try:
        # The path is used as it is: a site whose name is not printable is still that site.
        path = payload.split(b"\0")[1].decode("utf-8", "surrogateescape")
        return _read(node, path, fields)
    except (ValueError, IndexError) as error:
        text = f"the answer to a push is not what its program sends: {error}"
        raise ProtocolError(node, text, "", one_line(payload)) from None


def _read(node: str, path: str, fields: list[str]) -> Answer:
    word, rest = fields[0], fields[2:]
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"at most {MAX_FIELDS} fields were expected, got {len(fields)}")
    if not path.startswith("/"):
        raise ValueError(f"an absolute path was expected, got {path[:MAX_SHOWN]!r}")
    if word == "same":
        return Answer(path)
    if word == "done":
        placed, removed, restored, overwritten = map(_count, rest[:4])
        return Answer(path, placed, removed, restored, overwritten, tuple(rest[4:]))
    raise _error(node, word, path, rest)


def _error(node: str, word: str, path: str, rest: list[str]) -> DeployError:
    if word == "conflict":
        return _conflict(node, path, rest)
    if word == "busy":
        who = rest[0] or "another deployer"
        return WorkspaceBusy(node, f"{path} is held by {who}", "try again when that push is done", path=path)
    if word == "jobs":
        hint = "wait for it or stop it; Workspace(under_jobs='overwrite') pushes under it"
        return WorkspaceBusy(node, f"a job runs in {path}: {_listed(rest, len(rest))}", hint, path=path)
    if word == "full":
        free, needed, inodes = _count(rest[0]), _count(rest[1]), _count(rest[2]) if rest[2] != "-1" else -1
        what = f"{amount(needed)} needed, {amount(free)} free" if needed else f"{amount(free)} free"
        if inodes >= 0 and free >= max(needed, BLOCK):  # it is not bytes that are short
            what = f"{inodes} inodes free, of which each file and folder takes one; {what}"
        message = f"no room at {path}: {what}"
        hint = (
            "free space there (clean(nodes) takes away what nobody has used for long), or give a remote_path elsewhere"
        )
        return NodeFull(node, message, hint, "", path, free, needed)
    if word == "lacks" and rest[0] in _LACKS:
        what, hint = f"the disk at {path} has no {_LACKS[rest[0]]}: {rest[1]}", "give a remote_path on another disk"
        return TransferFailed(
            node, f"{what}; nothing was changed", f"{hint}, one that is not exFAT, FAT or a share", path=path
        )
    if word == "changed":
        what = f"{rest[0]} changed while it was sent; nothing was changed on the node"
        return TransferFailed(node, what, "stop what writes to it, or exclude it", path=rest[0])
    if word == "error":
        name, text, where = rest[:3]
        hint = _HINTS.get(name, "push again: a swap that was begun is finished then")
        place = path if where == path else f"{where} in {path}"
        return TransferFailed(node, f"cannot write {place}: {text}", hint, path=where)
    raise ValueError(f"same, done, conflict, busy, jobs, full, lacks, changed or error was expected, got {word!r}")


def _conflict(node: str, path: str, rest: list[str]) -> WorkspaceConflict:
    reason, words = rest[0], rest[1:]
    if reason == "edited":
        what, hint = f"edited on the node since our last push: {_listed(words[1:], _count(words[0]))}", _OVERWRITE
    elif reason == "foreign":
        what = f"{path} stands there already, is not empty and was not made by us"
        hint = "give another remote_path; Workspace(on_conflict='overwrite') moves in beside what is there"
    elif reason == "project":
        what = f"{path} belongs to another project: {words[0]}"
        hint = (
            "give another remote_path; if they are one, give both a name in pyproject.toml ([tool.asyncdeploy] name); "
            "Workspace(on_conflict='overwrite') takes it over"
        )
    elif reason == "owner":
        what = f"{path}/.asyncdeploy is not a folder of ours; somebody else made it"
        hint = "give another remote_path, or remove it if you know who made it"
    elif reason == "emptied":
        lost, names = _count(words[0]), _listed(words[2:], _count(words[0]))
        what = (
            f"{lost} of the {_count(words[1])} names that were pushed to {path} are no longer in the workspace: {names}"
        )
        hint = "is its disk mounted, is it the right branch? Workspace(on_emptied='remove') takes them away"
    elif reason == "place":
        what, hint = _place(path, *words)
    elif reason == "blocked":
        what = f"{path}/{words[0]} is a folder on the node and holds files that we did not bring"
        hint = "move them away: where that folder stands, a file is to be put"
    else:
        raise ValueError(f"edited, foreign, project, emptied, owner, place or blocked was expected, got {reason!r}")
    return WorkspaceConflict(node, what, hint, path=path)


def _place(path: str, why: str, where: str, user: str) -> tuple[str, str]:
    """Return why a site may not stand where it was to stand, and what to do."""
    if why == "owner":
        what = (
            f"{where} belongs to another user (uid {_count(user)}), who could put his own code in the place of {path}"
        )
        return what, "give a remote_path that only you and root can write to"
    if why == "open":
        mode = "o-w" if where == path else "o-w, or +t where all must write,"
        what = f"every user of the node may write to {where} and so put his own code in the place of {path}"
        way = f"chmod {mode} {where} there (a disk that takes no chmod is mounted with umask=022)"
        return what, f"{way}, or give a remote_path that only you and root can write to"
    if why == "home":
        return f"{path} is the home folder or holds it", "give a folder of its own"
    raise ValueError(f"owner, open or home was expected, got {why!r}")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ValueError(f"a count was expected, got {text[:MAX_DIGITS]!r}")
    return int(text)


def _listed(names: list[str], count: int) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return f"{shown} and {count - MAX_NAMES} more" if count > MAX_NAMES else shown


def amount(size: int) -> str:
    """Return a number of bytes for people."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
