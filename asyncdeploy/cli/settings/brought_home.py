"""What collect has brought home, wherever it was put: remembered, so that it is not sent out again."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from asyncdeploy.values.regex import regex

KEPT = 200
"""Places that are remembered, the newest ones."""
MAX_BYTES = 1 << 20
"""Of one: the folders of 10,000 nodes stay below it."""
_SPECIAL = regex(r"[\\\[*?!# ]")
"""What means something in a pattern of gitignore."""
_OF_A_NODE = regex(r"[0-9]+-.+")
EVERY = "[0-9]*-*"


def state_folder() -> Path:
    """Return where this home remembers what can go at any time."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "asyncdeploy"


def remember_home(target: Path, folders: Iterable[str]) -> None:
    """Write down which folders of a target are a collect's; where that cannot be, the settings' own target is known.

    Args:
        target: the local folder.
        folders: the names in it, one a node.
    """
    target = target.expanduser().resolve()
    place = state_folder() / "collected"
    file = place / f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:32]}.json"
    names = sorted({*folders, *_read(file)[1]})
    partial = place / f".{secrets.token_hex(8)}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump({"v": 1, "target": str(target), "folders": names}, stream)
        partial.replace(file)
        for old in sorted(place.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, ValueError):
        partial.unlink(missing_ok=True)


def brought_home(top: Path, target: Path) -> tuple[str, ...]:
    """Return, as patterns of gitignore, what collect has brought into a project, or will: sent out again, it would come
    home one folder deeper each time.

    Args:
        top: the project's folder.
        target: where the settings have it brought; there all folders that are called as a node's are meant.
    """
    top, target = (path.expanduser().resolve() for path in (top, target))
    found = dict.fromkeys(_pattern(top, target, EVERY))
    for file in (state_folder() / "collected").glob("*.json"):
        place, names = _read(file)
        if place != target and place.is_relative_to(top):
            found |= dict.fromkeys(each for name in _folded(place, names) for each in _pattern(top, place, name))
    return tuple(found)


def _pattern(top: Path, place: Path, name: str) -> Iterator[str]:
    if place.is_relative_to(top):
        yield "/".join(["", *(_escaped(part) for part in place.relative_to(top).parts), f"{name}/"])


def _folded(place: Path, names: Iterable[str]) -> Iterable[str]:
    """Return the patterns of some names: one for all where nothing else is called so there."""
    try:
        alike = {entry.name for entry in os.scandir(place) if _OF_A_NODE.fullmatch(entry.name)}
    except OSError:
        return ()  # it is gone
    known = set(names)
    return (EVERY,) if alike <= known else sorted(map(_escaped, alike & known))


def _escaped(name: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", name)


def _read(file: Path) -> tuple[Path, tuple[str, ...]]:
    try:
        with file.open("rb") as stream:
            data = json.loads(stream.read(MAX_BYTES))
        return Path(data["target"]), tuple(map(str, data["folders"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Path("/nowhere"), ()
