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
from asyncdeploy.cli.work.on_nodes import id_on_nodes, jobs_called, no_run
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
        id: of the launch; of a start one of its own, which begins with its name.
        nodes: those that it began on; of a start those too where nobody knows whether it did.
        created_at: seconds since 1970; before the first job of a start.
        deployments: of its nodes, in their order; none where nobody said.
        recovery: what the next attempt of a launch would need; None where it is not to be started again.
        env: the environment of its project, as plain data; None where nobody said.
        jobs: of a start, those that are known to have begun; None of a launch.
    """

    id: str
    nodes: tuple[ad.Node, ...]
    created_at: float
    deployments: tuple[ad.Deployment, ...] = ()
    recovery: dict[str, Any] | None = None
    env: dict[str, Any] | None = None
    jobs: tuple[ad.Job, ...] | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.id.rpartition("-")[0]

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
        "jobs": [job.to_dict() for job in kept.jobs] if kept.jobs is not None else None,
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
    """Return the runs that a text may mean, the newest first: one of that id, else those of that name, else those that
    begin so; "last" is the newest one.
    """
    files = _files()
    if text == LAST:
        files = files[:1]
    exact = [path for path in files if path.stem == text]
    called = [path for path in files if path.stem.rpartition("-")[0] == text]
    chosen = exact or called or [path for path in files if text == LAST or path.stem.startswith(text)]
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
        jobs = tuple(map(ad.Job.from_dict, data["jobs"])) if data.get("jobs") is not None else None
        kept = Kept(path.stem, nodes, float(data["created_at"]), deployments, data["recovery"], data["env"], jobs)
        return kept if kept.reach else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@attrs.frozen
class Found:
    """A run that was meant: a launch, or the jobs of a start; and what this home remembers of it.

    Attributes:
        id: of a launch, or of a start; or what its jobs are called.
        launch: the launch.
        jobs: of a start, one a node.
        silent: nodes that did not say whether a job of it is there: nothing that is said of the run is true of them.
        kept: what this home remembers.
    """

    id: str
    launch: ad.Launch | None = None
    jobs: tuple[ad.Job, ...] = ()
    silent: tuple[ad.Outcome[ad.Job], ...] = ()
    kept: Kept | None = None

    @property
    def nodes(self) -> tuple[ad.Node, ...]:
        """Its nodes, in node rank order."""
        return self.launch.nodes if self.launch is not None else tuple(job.node for job in self.jobs)

    @property
    def set(self) -> ad.JobSet:
        """The jobs of a start as one thing, and those who did not answer."""
        return ad.JobSet((*ad.JobSet.of(self.jobs), *self.silent))


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
    named = desk.nodes() if desk.reach.nodes or desk.reach.hostfile else ()
    kept = _the_one(text, named)
    if kept is not None and kept.jobs is not None:
        return await _start_of(desk, kept, named)
    if kept is None and not named and (later := await _later_attempt(desk, text)) is not None:
        return later
    if text == LAST and kept is None:
        raise UsageError("last: this home remembers no run; asyncdeploy ps shows those of the nodes")
    if kept is None and not desk.has_nodes():
        names = (each.name for each in remembered())
        near = nearest(text, dict.fromkeys(names))
        raise UsageError(f"this home remembers no run {text!r}: {near}; -n root@gpu[01-08] asks its nodes")
    nodes = named or (kept.reach if kept is not None else desk.nodes())
    run_id = kept.id if kept is not None else text
    if kept is None and not _ID.match(text):
        run_id = await id_on_nodes(desk, nodes, text)
    failed: ad.LaunchFailed | None = None
    if _ID.match(run_id):
        try:
            return Found(run_id, await ad.find_launch(nodes, run_id, pool=desk.pool), kept=kept)
        except ad.LaunchFailed as error:
            failed = error
    jobs, silent = await jobs_called(desk, nodes, run_id)
    if len(silent) == len(nodes):
        raise ad.FleetError.of(ad.JobSet(silent))
    if not jobs:
        raise failed or no_run(run_id, nodes, silent)
    return Found(run_id, jobs=jobs, silent=silent, kept=kept)


def _the_one(text: str, named: Sequence[ad.Node]) -> Kept | None:
    """Return what this home remembers of the run that is meant, None if it remembers none.

    Raises:
        UsageError: there are several.
    """
    names = {node.name for node in named}
    known = [
        kept
        for kept in remembered(text)
        if kept.jobs is None or not names or not names.isdisjoint(node.name for node in kept.nodes)
    ]
    known = [kept for place, kept in enumerate(known) if not any(_replaced(kept, newer) for newer in known[:place])]
    if not known and _ID.match(text):
        alike = remembered(text.rpartition("-")[0])
        return next((one for kept in alike if (one := _alone(kept, text)) is not None), None)
    if len(known) > 1:
        ids = ", ".join(kept.id for kept in known[:5])
        raise UsageError(f"{text} may be {ids}{' or others' if len(known) > 5 else ''}; write more of it")
    return known[0] if known else None


def _replaced(kept: Kept, newer: Kept) -> bool:
    """Return whether a start is over because a newer one of its name runs or ran: no two may run in one folder."""
    if kept.jobs is None or newer.jobs is None or kept.name != newer.name:
        return False
    places = {(each.node, each.site.path) for each in kept.deployments}
    return places <= {(job.node, job.site) for job in newer.jobs}


def _alone(kept: Kept, job_id: str) -> Kept | None:
    """Return one job of a start as if nothing else had been started; None where it has no job of that id."""
    for job in kept.jobs or ():
        if job.id == job_id:
            ready = tuple(each for each in kept.deployments if each.node == job.node)
            return attrs.evolve(kept, id=job_id, nodes=(job.node,), jobs=(job,), deployments=ready)
    return None


async def _start_of(desk: Desk, kept: Kept, named: Sequence[ad.Node]) -> Found:
    """Return the jobs of a start that is remembered; those nodes are asked where nobody knows whether it began."""
    nodes = {node.name: node for node in named or kept.nodes}
    jobs = tuple(attrs.evolve(job, node=nodes[job.node.name]) for job in kept.jobs or () if job.node.name in nodes)
    unsure = [nodes[node.name] for node in kept.nodes if node.name in nodes]
    unsure = [node for node in unsure if node not in [job.node for job in jobs]]
    more: tuple[ad.Job, ...] = ()
    silent: tuple[ad.Outcome[ad.Job], ...] = ()
    if unsure:
        more, silent = await jobs_called(desk, unsure, kept.name, since=kept.created_at)
    if not jobs and not more and not silent:
        raise no_run(kept.id, tuple(nodes.values()), ())
    return Found(kept.id, jobs=(*jobs, *more), silent=silent, kept=kept)


async def _later_attempt(desk: Desk, text: str) -> Found | None:
    """Return the run of which an id is a later attempt: this home remembers the first one, the nodes all of them."""
    name = text.rpartition("-")[0]
    alike = (each for each in remembered(f"{name}-") if each.recovery is not None and each.name == name)
    for kept in islice(alike, ASKED) if _ID.match(text) else ():
        try:
            return Found(text, await ad.find_launch(kept.reach, text, pool=desk.pool), kept=kept)
        except ad.LaunchFailed:
            continue  # another launch of that name
    return None
