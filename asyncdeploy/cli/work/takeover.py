"""Who watches over a launch with restarts: the process that began it, or one that takes that over when it has gone.

Two who did would start it twice: the file that remembers the run is locked by the one who does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.work.runs import Kept, folder
from asyncdeploy.launch.gang.restart import Recovery


def to_kept(launch: ad.Launch) -> dict[str, Any] | None:
    """Return what the next attempt of a launch would need, as plain data; of secrets only the names."""
    recovery = launch.attempts
    if not isinstance(recovery, Recovery):
        return None
    launcher = recovery.launcher
    assert isinstance(launcher, ad.Torchrun | ad.Ranks)
    return {
        "times": recovery.policy.times,
        "kind": type(launcher).__name__,
        "launcher": launcher.to_dict(),
        "secrets": [name for name, _ in _secrets_of(launcher)],
        "ready": [each.to_dict() for each in (*recovery.deployments, *recovery.spares)],
    }


@contextmanager
def only_watcher(run: str) -> Iterator[bool]:
    """Give whether nobody else of this home watches over a run with its restarts; while the block lasts, we do."""
    try:
        fd = os.open(folder() / f"{run}.json", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield True  # nothing is remembered: nobody can take it over either
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        yield False
        return
    try:
        yield True
    finally:
        os.close(fd)


def with_restarts(launch: ad.Launch, kept: Kept | None) -> tuple[ad.Launch, str]:
    """Return a launch that is started again while it is watched, and why not where it is not.

    Args:
        launch: as its nodes know it.
        kept: as this home remembers it.
    """
    if kept is None or kept.recovery is None:
        return launch, ""
    said = kept.recovery
    times = int(said["times"])
    if len(launch.before) >= times:
        return launch, "its restarts are used up"
    if lacking := [name for name in said["secrets"] if name not in os.environ]:
        return launch, f"it is not started again from here: {', '.join(lacking)} must be set, as it was for the launch"
    ready = {each.node.name: each for each in map(ad.Deployment.from_dict, said["ready"])}
    if any(node.name not in ready for node in launch.nodes):
        return launch, "it is not started again from here: it runs on nodes that this home does not remember"
    cls: Any = {"Torchrun": ad.Torchrun, "Ranks": ad.Ranks}[said["kind"]]
    launcher = _with_secrets(cls.from_dict(said["launcher"]), {name: os.environ[name] for name in said["secrets"]})
    deployments = [ready.pop(node.name) for node in launch.nodes]
    first = {node.name for node in kept.nodes}
    spares = [each for each in ready.values() if each.node.name not in first]  # the others failed, or were replaced
    recovery = Recovery(ad.Restart(times), deployments, spares, launcher, launch.grace_s)
    recovery.attempt = len(launch.before)
    return recovery.begin(launch), ""


def _secrets_of(launcher: ad.Torchrun | ad.Ranks) -> Any:
    if isinstance(launcher, ad.Torchrun):
        return launcher.secrets
    return launcher.command.secrets if isinstance(launcher.command, ad.Command) else ()


def _with_secrets(launcher: Any, secrets: dict[str, str]) -> ad.Launcher:
    changed: ad.Launcher
    if isinstance(launcher, ad.Ranks):
        assert isinstance(launcher.command, ad.Command)
        changed = attrs.evolve(launcher, command=attrs.evolve(launcher.command, secrets=secrets))
    else:
        changed = _evolved_torchrun(launcher, secrets)
    return changed


def _evolved_torchrun(launcher: ad.Torchrun, secrets: dict[str, str]) -> ad.Torchrun:
    """Return a Torchrun with other secrets; its constructor takes other words than its fields."""
    fields = {field.name: getattr(launcher, field.name) for field in attrs.fields(ad.Torchrun)}
    script, args = fields.pop("script"), fields.pop("args")
    return ad.Torchrun(script, *args, **{**fields, "secrets": secrets})
