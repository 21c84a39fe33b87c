"""How a node is told to start a job, with python3 or without, and what it answers."""

from __future__ import annotations

import json

import attrs

from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_program
from asyncdeploy.run import jobs_sh
from asyncdeploy.run.job import Job
from asyncdeploy.run.streams import Input
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import JobExists, JobFailed


async def start_once(remote: Remote, job: Job, command: Command) -> Job:
    """Start a job, once however often it is asked for: its id is the key; return it with what the node says of it.

    Args:
        remote: the node.
        job: what is to be.
        command: what it runs.

    Raises:
        JobExists: a job of that name runs on that site.
        JobFailed: it could not be started; nothing of it stays.
        TransferFailed: its stdin cannot be read; it was not started.
        ConnectionLost: the connection broke; it may have been started.
        ConnectError, AuthError, HostKeyError, NoShell: it was never started.
    """
    with Input(remote.node.name, command.stdin) as stdin:
        answer = await _ask_to_start(remote, job, command, stdin)
    if answer["error"].is_there:
        raise _not_started(remote, job, answer)
    return attrs.evolve(
        job,
        survives_logout=answer["survives_logout"].value is not False,
        keeps_shared_memory=answer["keeps_shared_memory"].value is not False,
    )


async def _ask_to_start(remote: Remote, job: Job, command: Command, stdin: Input) -> Answer:
    what = f"the start of job {job.id}"
    if not await has_python(remote):
        return Answer(remote.node.name, what, await jobs_sh.start_by_sh(remote, job, command, stdin))
    env = {**dict(command.env), **command.secret_values()}
    spec = {
        "id": job.id,
        "name": job.name,
        "site": job.site,
        "line": command.line,
        "cwd": command.cwd,
        "env": sorted(env),
        "on_end": command.on_end,
        "timeout_s": command.timeout_s,
        "created_at": job.created_at,
    }
    request = json.dumps({"op": "start", "spec": spec}).encode()
    async with call_program(remote, "run.jobs", request) as call:
        call.send(b"V", "\0".join(f"{key}={value}" for key, value in env.items()).encode("utf-8", "surrogateescape"))
        while block := await stdin.next_block():
            call.send(b"I", block)
            await call.drain()
        call.send(b"E")
        return Answer.read(remote.node.name, what, await call.answer())


def _not_started(remote: Remote, job: Job, answer: Answer) -> JobExists | JobFailed:
    node = remote.node.name
    if answer["error"].word("exists", "failed") == "failed":
        reason = answer["reason"].text("the node does not say why")
        return JobFailed(node, f"job {job.id} could not be started: {reason}", job_id=job.id)
    other = answer["id"].text(limit=100)
    hint = "stop_job ends it; another name starts a second one"
    return JobExists(node, f"a job named {job.name!r} runs on {job.site or 'this node'}: {other}", hint, "", other)
