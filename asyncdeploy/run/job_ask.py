"""How a node is asked about its jobs: with python3 or without, and again after a connection broke."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio

from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_program, has_python
from asyncdeploy.run import jobs_sh
from asyncdeploy.run.job import Job
from asyncdeploy.values.errors import ConnectError, ConnectionLost, ProtocolError

ASK_S = 50.0
"""How long the node holds a question open until it answers "still running"."""
TRIES = 6
"""How often a question that changes nothing is asked after a connection broke: about half a minute of a node away."""


async def ask_job(remote: Remote, request: dict[str, Any]) -> Answer:
    """Ask a node something about its jobs that may be asked twice; asked again after a connection broke.

    Raises:
        ConnectionLost, ConnectError, ...: it could not be asked, also after some tries.
    """
    _, answer = await ask_job_bytes(remote, request)
    return answer


async def ask_job_bytes(remote: Remote, request: dict[str, Any]) -> tuple[bytes, Answer]:
    """Ask as ``ask_job`` does, and return the bytes of a log that came before the answer too."""
    for attempt in range(1, TRIES + 1):
        try:
            return await _ask_once(remote, request)
        except (ConnectionLost, ConnectError):
            if attempt == TRIES:
                raise
            await anyio.sleep(random.uniform(0, min(10, 0.5 * 2**attempt)))
    raise AssertionError("unreachable")


async def _ask_once(remote: Remote, request: dict[str, Any]) -> tuple[bytes, Answer]:
    what = f"a question about job {request['id']}" if "id" in request else "a question about its jobs"
    if not await has_python(remote):
        data, said = await jobs_sh.ask_by_sh(remote, request)
        return data, Answer(remote.node.name, what, said)
    log = bytearray()
    async with call_program(remote, "run.jobs", json.dumps(request).encode()) as call:
        while True:
            kind, payload = await call.receive()
            if kind == b"Z":
                return bytes(log), Answer.read(remote.node.name, what, payload)
            if kind != b"D" or len(log) > 1 << 20:
                text = f"{what}: its answer was expected, a frame {kind!r} came behind {len(log)} bytes"
                raise ProtocolError(remote.node.name, text)
            log += payload


async def read_job_bytes(remote: Remote, job: Job, offset: int, wait_s: float) -> tuple[bytes, Answer]:
    """Return what stands in a job's log behind ``offset``; one below 0 counts from its end."""
    return await ask_job_bytes(remote, {"op": "read", "id": job.id, "offset": offset, "wait_s": wait_s})
