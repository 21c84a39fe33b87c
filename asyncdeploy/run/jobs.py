"""Detached: jobs that outlive us. The folder on the node is the truth; whoever can reach the node can ask it."""

from __future__ import annotations

import asyncio
import time

import attrs

from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job, JobStatus, check_job_id, check_job_name, new_job_id
from asyncdeploy.run.job_answers import job_of, status_of
from asyncdeploy.run.job_ask import ASK_S, QUESTION_S, ask_job, read_job_bytes
from asyncdeploy.run.job_start import start_once
from asyncdeploy.run.tmux import find_tmux, with_window
from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.urgency import urgently
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, as_command
from asyncdeploy.values.errors import ConnectError, ConnectionLost, DeployError, JobLost, ProtocolError
from asyncdeploy.values.events import Noted
from asyncdeploy.values.words import last_lines
from asyncdeploy.values.workspace import Site

UNDO_S = 4.5
"""How long a cancelled start may take to end what it may have started: a cancelled call is back within 5 s."""
LEAST_S = 0.5
"""For the last lines of one that ended, where a wait's time is over: a round trip."""
LATE_S = 3.0
"""For the answer to a wait that is over: a round trip, and a node that is busy."""
STOP_S = 40.0
"""For a stop, beside its grace: KILL and the line at the job's end (15 s), and the same again by its keeper where its
supervisor does not act, or another try where the connection broke."""
MAX_JOBS = 100_000
"""Of one node: who names more of them lies."""
LOG_TAIL = 16 * 1024
LOGOUT = "ends with our connection: this node's logind kills what a user runs at logout (KillUserProcesses=yes)"
SHARED_MEMORY = (
    "may lose its shared memory with our connection: this node's logind removes a user's at logout (RemoveIPC=yes); "
    "`loginctl enable-linger` there keeps it"
)


@checked
async def start_job(
    remote: Remote,
    command: Command | str,
    *,
    name: str,
    site: Site | str | None = None,
    job_id: str | None = None,
    tmux: bool = False,
) -> Job:
    """Start a detached job; it is running, or has run, when this returns.

    Args:
        remote: the node.
        command: a Command, or a shell line; stdout and stderr go into the job's log on the node. The node itself ends
            a job that runs longer than the command's timeout_s (TERM, after 5 s KILL), also when we are away.
        name: what people call it.
        site: the site it works in; a push there is refused while it runs.
        job_id: made before, to make a repeated start harmless; None makes one.
        tmux: open a tmux session on the node that shows the log, for people to attach to; ``Job.window`` is its name.
            It is a window and no more: it ends after the job, and the job does not end with it.

    Raises:
        ToolMissing: a window was asked for, and the node has no tmux or no python3; nothing was started.
        JobExists: a job of that name runs on that site.
        JobFailed: it could not be started; nothing of it stays.
        ConnectionLost: the connection broke; the folder's name is the key, so the same job_id may be started again.
        ConnectError, AuthError, HostKeyError, NoShell: it was never started.
        ValueError: the command has stdout_to or stderr_to, which only a run that we attend to can fill.

    On cancellation nothing of it stays running.
    """
    command, check_name = as_command(command), check_job_name(name)
    if command.stdout_to or command.stderr_to:
        raise ValueError(f"start_job {name}: no stdout_to or stderr_to was expected: a job's output goes into its log")
    job_id = check_job_id(job_id) if job_id else new_job_id(check_name)
    program = await find_tmux(remote) if tmux else ""
    folder = site.path if isinstance(site, Site) else site or ""
    job = Job(remote.node, job_id, name, folder, command.line, time.time())
    with stage(remote, "start", job_id) as ours:
        try:
            job = await start_once(remote, job, command)
            ours.detail = job_id
            for text in after_logout(job):
                remote.emit(Noted(node=remote.node.name, text=f"job {job_id} {text}"))
            return await with_window(remote, job, program) if program else job
        except asyncio.CancelledError:
            await finish(_undo(remote, job), UNDO_S)
            raise


def after_logout(job: Job) -> list[str]:
    """Return what is to be said of a job's life behind our connection."""
    return [LOGOUT] * (not job.survives_logout) + [SHARED_MEMORY] * (not job.keeps_shared_memory)


async def _undo(remote: Remote, job: Job) -> None:
    try:
        await take_back(remote, job, forbid=True)
    except DeployError:
        return  # the node is away: what could be done was done; the caller's cancellation goes on


async def take_back(remote: Remote, job: Job, *, forbid: bool = False) -> JobStatus:
    """End a job whose start was given up, in a second, and what watches over it.

    Args:
        remote: the node.
        job: the job.
        forbid: a start that is still on its way shall find its end there.

    Raises:
        ConnectionLost, ConnectError: the node could not be asked.
    """
    with urgently():
        answer = await ask_job(remote, {"op": "stop", "id": job.id, "grace_s": 1, "undo": True, "forbid": forbid})
        return status_of(job, answer)


@checked
async def job_status(remote: Remote, job: Job) -> JobStatus:
    """Return what the node says of a job, with the last lines of its log if it failed.

    Args:
        remote: the node.
        job: the job.

    Raises:
        ConnectionLost, ConnectError, ...: the node could not be asked, also after some tries.
    """
    with urgently():
        return await _with_log(remote, status_of(job, await ask_job(remote, {"op": "status", "id": job.id})))


@checked
async def wait_job(remote: Remote, job: Job, *, timeout_s: float | None = None, orphans: bool = True) -> JobStatus:
    """Wait until a job ended and return its state; a connection that breaks in between is made again.

    Args:
        remote: the node.
        job: the job.
        timeout_s: after so many seconds the state as it is then is returned; the node has a moment more to tell it.
        orphans: wait also for a job whose supervisor is gone; nobody will know how it ended.

    Raises:
        ConnectionLost, ConnectError: the node stayed away for longer than the tries last, or does not answer; the job
            is untouched.

    On cancellation the job is untouched.
    """
    deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    while True:
        left = max(0.0, min(ASK_S, deadline - time.monotonic()))
        request = {"op": "wait", "id": job.id, "timeout_s": left, "orphans": orphans}
        within_s = left + (QUESTION_S if left == ASK_S else LATE_S)
        status = status_of(job, await ask_job(remote, request, within_s=within_s))
        alone = status.state == "orphaned" and not orphans
        if alone or status.state not in ("starting", "running", "orphaned") or time.monotonic() >= deadline:
            # The answer may have taken its moment already: its last lines have what is left of that, and a little.
            return await _with_log(remote, status, min(QUESTION_S, max(LEAST_S, deadline + LATE_S - time.monotonic())))


@checked
async def stop_job(remote: Remote, job: Job, *, grace_s: float = 5) -> JobStatus:
    """End a job and everything that it started: TERM, after the grace KILL; return how it ended.

    Args:
        remote: the node.
        job: the job; one that ended already keeps its recorded end.
        grace_s: seconds between TERM and KILL.

    Raises:
        ConnectionLost, ConnectError: the node could not be asked.
    """
    if not grace_s >= 0:
        raise ValueError(f"stop_job grace_s: 0 or more seconds were expected, got {grace_s!r}")
    return await stop_because(remote, job, grace_s, None)


async def stop_because(remote: Remote, job: Job, grace_s: float, because: str | None) -> JobStatus:
    """Do the same for another job's failure, which its end then tells to whoever asks; None is a person's own will."""
    with urgently():
        request = {"op": "stop", "id": job.id, "grace_s": grace_s, "because": because}
        return status_of(job, await ask_job(remote, request, within_s=grace_s + STOP_S))


@checked
async def list_jobs(remote: Remote) -> tuple[Job, ...]:
    """Return the jobs that a node knows, ended ones included, the oldest first; of a long line its beginning.

    Args:
        remote: the node.
    """
    jobs: list[Job] = []
    after = ""
    while len(jobs) < MAX_JOBS:
        answer = await ask_job(remote, {"op": "list", "after": after})
        jobs.extend(job_of(remote, item) for item in answer["jobs"].items())
        if not answer["next"].is_there:
            return tuple(sorted(jobs, key=lambda job: job.created_at))
        last, after = after, answer["next"].exact()
        if after <= last:
            raise answer["next"].refused(f"an id behind {last!r} was expected")
    raise ProtocolError(remote.node.name, f"a list of its jobs: at most {MAX_JOBS} were expected")


@checked
async def find_job(remote: Remote, job_id: str) -> Job:
    """Return the handle of a job by its id, from any machine.

    Args:
        remote: the node.
        job_id: the id, as ``Job.id`` has it.

    Raises:
        JobLost: the node knows no such job.
    """
    return job_of(remote, await _known(remote, check_job_id(job_id)))


@checked
async def read_log(remote: Remote, job: Job, last_bytes: int = LOG_TAIL) -> str:
    """Return the end of a job's log as text; bytes that are no UTF-8 are replaced.

    Args:
        remote: the node.
        job: the job.
        last_bytes: so many bytes at most.
    """
    data, _ = await read_job_bytes(remote, job, -last_bytes, 0)
    return data.decode("utf-8", "replace")


async def _known(remote: Remote, job_id: str) -> Answer:
    answer = await ask_job(remote, {"op": "status", "id": job_id})
    if answer["error"].is_there:
        raise JobLost(remote.node.name, f"no job {job_id} is known here", "list_jobs shows what is", job_id=job_id)
    return answer


async def _with_log(remote: Remote, status: JobStatus, within_s: float = QUESTION_S) -> JobStatus:
    if status.ok or status.state in ("starting", "running", "elsewhere"):
        return status
    try:
        data, _ = await read_job_bytes(remote, status.job, -LOG_TAIL, 0, within_s=within_s)
    except (ConnectionLost, ConnectError):
        return status  # how it ended is known, and must not be lost for what it printed
    return attrs.evolve(status, last_lines=last_lines(data.decode("utf-8", "replace")))
