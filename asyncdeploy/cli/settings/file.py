"""asyncdeploy.toml, or [tool.asyncdeploy] in pyproject.toml: found upwards, read whole, nothing unknown in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from asyncdeploy.cli.settings.usage import UsageError, unknown

NAME = "asyncdeploy.toml"
MAX_BYTES = 1 << 20
"""A file that people write by hand is far below it."""

_TEXT, _TEXTS, _BOOL, _TABLE = "a text", "a text or a list of texts", "true or false", "a table"
KEYS = {
    "nodes": _TEXTS,
    "hostfile": _TEXT,
    "limit": _TEXTS,
    "exclude": _TEXTS,
    "key": _TEXT,
    "jump": _TEXT,
    "accept_new": _BOOL,
    "groups": _TABLE,
    "workspace": _TABLE,
    "env": _TABLE,
    "launch": _TABLE,
    "collect": _TABLE,
}
COLLECT = {"source": _TEXT, "target": _TEXT, "include": _TEXTS, "exclude": _TEXTS}


@attrs.frozen
class File:
    """What the settings file says; what it does not say is None or empty.

    Attributes:
        path: the file, None where there is none.
        hostfile / key: absolute, or "~/..." as it was written.
        groups: name -> nodes as they are written.
        workspace / env / launch / collect: the tables; what may stand in the first three the library's classes say.
    """

    path: Path | None = None
    nodes: tuple[str, ...] = ()
    hostfile: str | None = None
    limit: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    key: str | None = None
    jump: str | None = None
    accept_new: bool | None = None
    groups: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    workspace: Mapping[str, Any] = attrs.field(factory=dict)
    env: Mapping[str, Any] = attrs.field(factory=dict)
    launch: Mapping[str, Any] = attrs.field(factory=dict)
    collect: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def folder(self) -> Path:
        """What its paths are relative to; without a file the folder that we are in."""
        return self.path.parent if self.path is not None else Path.cwd()

    @property
    def project(self) -> Path:
        """What is sent and where results come, where nobody says: the file's folder, if it is this one or one above.

        A file that ``--config`` names lies anywhere: beside the keys, in the home folder, in /dev.
        """
        here = Path.cwd()
        return self.folder if here.is_relative_to(self.folder.resolve()) else here

    def place(self, path: str) -> str:
        """Return a local path that it names, made independent of the folder that we are in."""
        return path if path.startswith("~") else str(self.folder / path)

    def error(self, text: str) -> UsageError:
        """Return an error that names the file."""
        return UsageError(f"{self.path}: {text}")


def find_file(named: Path | None = None) -> File:
    """Return what the settings file says: the named one, else the next one at or above the folder that we are in.

    Raises:
        UsageError: it cannot be read, or says what makes no sense.
    """
    if named is not None:
        return read_file(named.absolute())
    here = Path.cwd()
    for folder in (here, *here.parents):
        for path in (folder / NAME, folder / "pyproject.toml"):
            if path.is_file() and (path.name == NAME or _of_pyproject(_load(path))):
                return read_file(path)
    return File()


def read_file(path: Path) -> File:
    """Return what a settings file says.

    Raises:
        UsageError: as ``find_file``.
    """
    said = _load(path)
    table = _of_pyproject(said) if path.name == "pyproject.toml" else said
    file = File(path)
    check_table(file, table, KEYS, "")
    check_table(file, table.get("collect", {}), COLLECT, "collect")
    groups = table.get("groups", {})
    check_table(file, groups, dict.fromkeys(groups, _TEXTS), "groups")
    values = {key: texts(value) if KEYS[key] == _TEXTS else value for key, value in table.items()}
    values |= {key: file.place(table[key]) for key in ("hostfile", "key") if key in table}
    return attrs.evolve(file, **values | {"groups": {name: texts(nodes) for name, nodes in groups.items()}})


def _of_pyproject(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a pyproject.toml. The project's name, by which a push knows it, is none of them."""
    table = said.get("tool", {}).get("asyncdeploy", {})
    return {key: value for key, value in table.items() if key != "name"}


def check_table(file: File, table: Mapping[str, Any], kinds: Mapping[str, str], name: str) -> None:
    """Raise UsageError for a key that is not known, or a value that is not of its kind."""
    where = f" in [{name}]" if name else ""
    for key, value in table.items():
        if key not in kinds:
            raise file.error(str(unknown(f"key{where}", key, kinds)))
        if not _is(value, kinds[key]):
            raise file.error(f"{key}{where}: {kinds[key]} was expected, got {value!r}")


def texts(value: str | Iterable[str]) -> tuple[str, ...]:
    """Return one text or several as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def _is(value: object, kind: str) -> bool:
    if kind == _TEXTS and isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, {_BOOL: bool, _TABLE: dict}.get(kind, str))


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UsageError(f"{path}: at most {MAX_BYTES} bytes were expected")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, no UTF-8
        raise UsageError(f"{path}: {error}") from error
