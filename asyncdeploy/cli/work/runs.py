"""Which run is meant: by its id, its beginning or its name; the nodes from the command line, or as this home remembers.

What is remembered is small and can go at any time: the nodes know everything themselves.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.settings.brought_home import state_folder
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.run.job import check_job_name as check_job_name
from asyncdeploy.values.not_found import nearest
from asyncdeploy.values.regex import regex

KEPT = 200
"""Runs that are remembered, the newest ones."""
MAX_BYTES = 16 << 20
"""Of one: a run on 10,000 nodes stays below it."""
ASKED = 5
"""Remembered runs of one name whose nodes are asked for an id that this home does not know: dead ones take a while."""
LAST = "last"

_ID = regex(r"[A-Za-z0-9][A-Za-z0-9_.-]*-[a-z2-7]{8}\Z")


@attrs.frozen
class Kept:
    """What this home remembers of a run.

    Attributes:
        id: of the launch, or what the jobs of a start are called.
        nodes: those that it began on.
        created_at: seconds since 1970.
        deployments: of its nodes, in their order; none where nobody said.
        recovery: what the next attempt of a launch would need; None where it is not to be started again.
        env: the environment of its project, as plain data; None where nobody said.
    """

    id: str
    nodes: tuple[ad.Node, ...]
    created_at: float
    deployments: tuple[ad.Deployment, ...] = ()
    recovery: dict[str, Any] | None = None
    env: dict[str, Any] | None = None

    @property
    def reach(self) -> tuple[ad.Node, ...]:
        """All nodes that it may be on by now: a spare takes the place of one that was lost."""
        ready = self.recovery["ready"] if self.recovery is not None else ()
        spares = [ad.Node.from_dict(each["node"]) for each in ready]
        return tuple({node.name: node for node in (*self.nodes, *spares)}.values())


def folder() -> Path:
    """Return where runs are remembered."""
    return state_folder() / "runs"


def remember(kept: Kept) -> bool:
    """Write down a run, readable for us alone; False where that cannot be: all works without, with the nodes named."""
    data = {
        "v": 1,
        "id": kept.id,
        "created_at": kept.created_at,
        "nodes": [node.to_dict() for node in kept.nodes],
        "deployments": [deployment.to_dict() for deployment in kept.deployments],
        "recovery": kept.recovery,
        "env": kept.env,
    }
    place = folder()
    partial = place / f".{kept.id}.{secrets.token_hex(4)}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(data, file)
        partial.replace(place / f"{kept.id}.json")
        for old in _files()[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def remembered(text: str = "") -> list[Kept]:
    """Return the runs that a text may mean, the newest first: one of that id, else those that begin so; "last" is the
    newest one.
    """
    files = _files()
    if text == LAST:
        files = files[:1]
    exact = [path for path in files if path.stem == text]
    chosen = exact or [path for path in files if text == LAST or path.stem.startswith(text)]
    return [kept for path in chosen if (kept := _read(path)) is not None]


def _files() -> list[Path]:
    try:
        found = [(path.stat().st_mtime_ns, path) for path in folder().glob("*.json")]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def _read(path: Path) -> Kept | None:
    """Return what a file holds, None if that is not what we write."""
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(MAX_BYTES))
        nodes = tuple(ad.Node.from_dict(each) for each in data["nodes"])
        deployments = tuple(ad.Deployment.from_dict(each) for each in data["deployments"])
        kept = Kept(path.stem, nodes, float(data["created_at"]), deployments, data["recovery"], data["env"])
        return kept if kept.reach else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@attrs.frozen
class Found:
    """A run that was meant: a launch, or the jobs of a start; and what this home remembers of it."""

    id: str
    launch: ad.Launch | None = None
    jobs: tuple[ad.Job, ...] = ()
    kept: Kept | None = None

    @property
    def nodes(self) -> tuple[ad.Node, ...]:
        """Its nodes, in node rank order."""
        return self.launch.nodes if self.launch is not None else tuple(job.node for job in self.jobs)

    @property
    def set(self) -> ad.JobSet:
        """The jobs of a start as one thing."""
        return ad.JobSet.of(self.jobs)


async def find_run(desk: Desk, text: str) -> Found:
    """Return the run that a person means.

    Args:
        desk: where; nodes that flags name are looked at, else those that this home remembers, else the settings'.
        text: an id, its beginning, or "last".

    Raises:
        UsageError: none or several are meant.
        LaunchFailed, JobLost: its nodes do not know it.
    """
    if set(text) & set("@:,["):
        raise UsageError(f"a run was expected, got {text!r}: nodes are named by -n, as in asyncdeploy ps -n {text}")
    known = remembered(text)
    if len(known) > 1:
        ids = ", ".join(kept.id for kept in known[:5])
        raise UsageError(f"{text} may be {ids}{' or others' if len(known) > 5 else ''}; write more of it")
    kept = known[0] if known else None
    named = desk.reach.nodes or desk.reach.hostfile
    if kept is None and not named and (later := await _later_attempt(desk, text)) is not None:
        return later
    if text == LAST and kept is None:
        raise UsageError("last: this home remembers no run; asyncdeploy ps shows those of the nodes")
    if kept is None and not desk.has_nodes():
        names = (each.id.rpartition("-")[0] if _ID.match(each.id) else each.id for each in remembered())
        near = nearest(text, dict.fromkeys(names))
        raise UsageError(f"this home remembers no run {text!r}: {near}; -n root@gpu[01-08] asks its nodes")
    nodes = kept.reach if kept is not None and not named else desk.nodes()
    run_id = kept.id if kept is not None else text
    if kept is None and not _ID.match(text):
        run_id = await _id_on_nodes(desk, nodes, text)
    failed: ad.LaunchFailed | None = None
    if _ID.match(run_id):
        try:
            return Found(run_id, await ad.find_launch(nodes, run_id, pool=desk.pool), kept=kept)
        except ad.LaunchFailed as error:
            failed = error
    jobs = await _jobs(desk, nodes, run_id)
    if not jobs:
        raise failed or UsageError(f"{_none(run_id, nodes)}; asyncdeploy ps shows what there is")
    return Found(run_id, jobs=jobs, kept=kept)


async def _later_attempt(desk: Desk, text: str) -> Found | None:
    """Return the run of which an id is a later attempt: this home remembers the first one, the nodes all of them."""
    name = text.rpartition("-")[0]
    alike = (
        each for each in remembered(f"{name}-") if each.recovery is not None and each.id.rpartition("-")[0] == name
    )
    for kept in islice(alike, ASKED) if _ID.match(text) else ():
        try:
            return Found(text, await ad.find_launch(kept.reach, text, pool=desk.pool), kept=kept)
        except ad.LaunchFailed:
            continue  # another launch of that name
    return None


async def _id_on_nodes(desk: Desk, nodes: Sequence[ad.Node], text: str) -> str:
    """Return the id of the one run on the nodes whose id begins with a text; of jobs of one name the name."""
    report = await ad.map_nodes(nodes, lambda node: ad.list_jobs(desk.pool.at(node)))
    if not report.values:
        report.unwrap()
    jobs = [job for found in report.values for job in found]
    launches = {f"{name}-{job.id[-8:]}" for job in jobs if (name := rank_of(job)) is not None}
    names = {job.name for job in jobs if rank_of(job) is None}
    found = {each for each in launches if each.startswith(text)} | {name for name in names if name == text}
    if len(found) == 1:
        return found.pop()
    shown = ", ".join(sorted(found)[:5])
    said = f"{text} may be {shown}; write more of it" if found else _none(text, nodes)
    raise UsageError(f"{said}; asyncdeploy ps shows what there is")


def _none(text: str, nodes: Sequence[ad.Node]) -> str:
    return f"no run {text!r} on {len(nodes)} node{'s' * (len(nodes) != 1)}"


def rank_of(job: ad.Job) -> str | None:
    """Return the name of the launch of which a job is a rank, None where it is a job of its own."""
    name, dot, rank = job.name.rpartition(".")
    return name if dot and rank.isdigit() else None


async def _jobs(desk: Desk, nodes: Sequence[ad.Node], text: str) -> tuple[ad.Job, ...]:
    """Return the jobs of an id or a name, the newest of a name on each node."""
    report = await ad.map_nodes(nodes, lambda node: ad.list_jobs(desk.pool.at(node)))
    if not report.values:
        report.unwrap()
    found = []
    for jobs in report.values:
        alike = [job for job in jobs if text in (job.id, job.name)]
        found += alike[-1:]
    return tuple(found)
