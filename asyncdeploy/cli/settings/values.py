"""From tables of the settings file to the library's values: Workspace, Env, launcher. Their own classes say what may
stand there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.settings.brought_home import brought_home
from asyncdeploy.cli.settings.file import File, texts
from asyncdeploy.cli.settings.usage import UsageError, unknown

ENVS = {"uv": "UvEnv", "system": "SystemEnv", "docker": "DockerEnv", "nix": "NixEnv"}
LAUNCHERS = ("torchrun", "ranks", "node")
BESIDE = ("launcher", "grace_s", "restarts", "spares")
"""Keys of [launch] that are no words of a launcher."""


def workspace_of(file: File, path: Path | None) -> ad.Workspace:
    """Return the project: the folder that a flag names, else what the file says, else the file's folder."""
    table = dict(file.workspace)
    _check_keys(file, table, _fields(ad.Workspace), "workspace")
    if path is not None:
        table["path"] = path.absolute()
    else:
        table["path"] = file.place(table["path"]) if "path" in table else _unnamed_project(file)
    workspace: ad.Workspace = _built(file, ad.Workspace, table, "workspace")
    home = brought_home(workspace.path, Path(target_of(file)))
    return attrs.evolve(workspace, exclude=(*workspace.exclude, *home))


def _unnamed_project(file: File) -> Path:
    """Return the project where nobody has named it; never all that a person has."""
    project, home = file.project, Path.home()
    if not home.resolve().is_relative_to(project.resolve()):
        return project
    why = f", where {file.path.name} lies" if file.path is not None and project == file.folder else ""
    what = "your home folder" + ("" if home.samefile(project) else " is in it")
    raise UsageError(
        f"the project would be {project}{why}: {what}. Go to the project's folder, or name it: --path DIR"
        " (--path . is this folder), or path under [workspace] in asyncdeploy.toml"
    )


def target_of(file: File) -> str:
    """Return where results come home to, where no flag says it."""
    return file.place(file.collect["target"]) if "target" in file.collect else str(file.project / "results")


def env_of(file: File, kind: str | None, extra: tuple[str, ...], image: str | None) -> ad.Env:
    """Return the environment that flags and the file describe; without any word of it the library's default.

    Args:
        file: the settings file.
        kind: uv, system, docker or nix; another kind than the file's leaves out what the file says.
        extra: extras of a uv project.
        image: of a DockerEnv; alone it says docker.
    """
    kind = kind or ("docker" if image else None)
    table: dict[str, Any] = dict(file.env)
    if kind is not None and kind != table.get("type", "uv"):
        table = {"type": kind}
    if image is not None:
        table = {key: value for key, value in table.items() if key not in ("archive", "dockerfile")} | {"image": image}
    if extra:
        table["extra"] = extra
    return _env(file, table, "env")


def _env(file: File, table: dict[str, Any], name: str) -> ad.Env:
    kind = table.pop("type", "uv")
    if kind not in ENVS:
        raise UsageError(str(unknown("environment", str(kind), ENVS)))
    cls = getattr(ad, ENVS[kind])
    _check_keys(file, table, ["type", *_fields(cls)], name)
    if isinstance(table.get("env"), dict):
        table["env"] = _env(file, dict(table["env"]), f"{name}.env")
    if "archive" in table:
        table["archive"] = Path(file.place(table["archive"])).expanduser()
    env: ad.Env = _built(file, cls, table, name)
    return env


def launcher_of(file: File, script: str | None, args: tuple[str, ...], flags: Mapping[str, Any]) -> ad.Launcher:
    """Return what a launch runs.

    Args:
        file: the settings file.
        script: the program; None is the file's, with its arguments.
        args: its arguments.
        flags: what was said beside it, by the names of the file's keys; None is what was not said.
    """
    table = dict(file.launch) | {key: value for key, value in flags.items() if value not in (None, (), {})}
    kind = table.get("launcher", "torchrun")
    if kind not in LAUNCHERS:
        raise UsageError(str(unknown("launcher", str(kind), LAUNCHERS)))
    own = _fields(ad.Torchrun if kind == "torchrun" else ad.Ranks)
    known = [*BESIDE, "script", "args", *(name for name in own if name not in ("command", "each"))]
    if kind != "torchrun":
        known += ["env", "secrets"]
    _check_keys(file, table, known, "launch")
    table = {key: value for key, value in table.items() if key not in BESIDE}
    said_script, said_args = table.pop("script", None), tuple(table.pop("args", ()))
    if script is None:
        script, args = said_script, args or said_args
    if script is None:
        raise UsageError("a script was expected: asyncdeploy launch train.py, or script under [launch] in a file")
    launcher: ad.Launcher
    if kind == "torchrun":
        launcher = _built(file, lambda **words: ad.Torchrun(script, *args, **words), table, "launch")
        return launcher
    variables: dict[str, Any] = {key: table.pop(key) for key in ("env", "secrets") if key in table}
    line = script if not args else ad.Command.of(script, *args).line
    command = _built(file, lambda **words: ad.Command(line, **words), variables, "launch")
    each: Any = "rank" if kind == "ranks" else "node"
    name = {"name": _name_of(script)} if "name" not in table else {}
    launcher = _built(file, lambda **words: ad.Ranks(command, each=each, **words), {**name, **table}, "launch")
    return launcher


def _name_of(script: str) -> str:
    stem = Path(script.split()[0]).stem
    return (
        "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in stem).strip("-")[:32] or "ranks"
    )


def _fields(cls: Any) -> list[str]:
    return [field.name for field in attrs.fields(cls) if field.init and field.name != "folder"]


def _check_keys(file: File, table: Mapping[str, Any], known: list[str], name: str) -> None:
    for key in table:
        if key not in known:
            raise file.error(str(unknown(f"key in [{name}]", key, known)))


def _built(file: File, build: Any, table: Mapping[str, Any], name: str) -> Any:
    """Return what a class of the library makes of a table; what it refuses is said with the table's name."""
    words = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    if "secrets" in words:
        words["secrets"] = _from_variables(file, words["secrets"], name)
    try:
        return build(**words)
    except (ValueError, TypeError) as error:
        where = f"{file.path} " if file.path is not None else ""
        raise UsageError(f"{where}[{name}]: {error}") from error


def _from_variables(file: File, names: Any, table: str) -> dict[str, str]:
    """Return secrets by the variables here whose names the file holds: no value ever stands in it."""
    if isinstance(names, dict):
        raise file.error(f"secrets in [{table}]: names of variables were expected, no values: they belong in no file")
    found = {}
    for name in texts(names):
        if name not in os.environ:
            raise file.error(f"secrets in [{table}]: the variable {name} is not set here")
        found[name] = os.environ[name]
    return found
