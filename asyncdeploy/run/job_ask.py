"""How a node is asked about its jobs: with python3 or without, and again after a connection broke."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_program
from asyncdeploy.run import jobs_sh
from asyncdeploy.run.job import Job
from asyncdeploy.values.errors import ConnectError, ConnectionLost, DeployError, ProtocolError

ASK_S = 50.0
"""How long the node holds a question open until it answers "still running"."""
QUESTION_S = 60.0
"""How long a question may take, all its tries together, beside the time for which the node is to hold it open."""
ANSWER_S = 25.0
"""How long one try may take beside that: a worker that hangs on a node that does not is left for a new one."""
HELD = ("timeout_s", "wait_s")
"""For how long the node may hold a question open, by the names that questions have for it."""
TRIES = 6
"""How often a question that changes nothing is asked after a connection broke: about half a minute of a node away."""


async def ask_job(remote: Remote, request: dict[str, Any], *, within_s: float = QUESTION_S) -> Answer:
    """Ask a node something about its jobs that may be asked twice; asked again after a connection broke.

    Args:
        remote: the node.
        request: what is asked.
        within_s: for all tries together.

    Raises:
        ConnectionLost, ConnectError, ...: it could not be asked, also after some tries, or has not answered.
    """
    _, answer = await ask_job_bytes(remote, request, within_s=within_s)
    return answer


async def ask_job_bytes(
    remote: Remote, request: dict[str, Any], *, within_s: float = QUESTION_S
) -> tuple[bytes, Answer]:
    """Ask as ``ask_job`` does, and return the bytes of a log that came before the answer too."""
    last: DeployError | None = None
    hold_s = max(float(request.get(name, 0)) for name in (*HELD, "grace_s"))
    asked = _Asked(request)
    try:
        async with asyncio.timeout(within_s) as limit:
            for attempt in range(1, TRIES + 1):
                try:
                    return await _ask_for(remote, asked, hold_s + ANSWER_S)
                except (ConnectionLost, ConnectError) as error:
                    last = error
                    if attempt == TRIES:
                        raise
                await asyncio.sleep(random.uniform(0, min(10, 0.5 * 2**attempt)))
    except TimeoutError:
        if not limit.expired():
            raise
        why = f"; the last try: {last.message}" if last is not None else ""
        what = f"{_question(request)} was not answered within {within_s:g} s{why}"
        raise ConnectionLost(remote.node.name, what) from last
    raise AssertionError("unreachable")


def _question(request: dict[str, Any]) -> str:
    return f"a question about job {request['id']}" if "id" in request else "a question about its jobs"


class _Asked:
    """A question, and since when it is asked: a node holds it for what is left of its time, however late it comes.

    It may have waited for a slot behind others who wait, or be asked again since a connection broke.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._began = time.monotonic()

    def now(self) -> dict[str, Any]:
        """Return it as it is to be sent now."""
        gone_s = time.monotonic() - self._began
        left = {name: max(0.0, float(self._request[name]) - gone_s) for name in HELD if name in self._request}
        return self._request | left


async def _ask_for(remote: Remote, asked: _Asked, seconds: float) -> tuple[bytes, Answer]:
    """Ask once, for so long."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await _ask_once(remote, asked)
    except TimeoutError:
        if not limit.expired():
            raise
        what = f"{_question(asked.now())}: what runs our programs there has not answered within {seconds:g} s"
        raise ConnectionLost(remote.node.name, what) from None


async def _ask_once(remote: Remote, asked: _Asked) -> tuple[bytes, Answer]:
    what = _question(asked.now())
    if not await has_python(remote):
        data, said = await jobs_sh.ask_by_sh(remote, asked.now())
        return data, Answer(remote.node.name, what, said)
    log = bytearray()
    async with call_program(remote, "run.jobs", lambda: json.dumps(asked.now()).encode()) as call:
        while True:
            kind, payload = await call.receive()
            if kind == b"Z":
                return bytes(log), Answer.read(remote.node.name, what, payload)
            if kind != b"D" or len(log) > 1 << 20:
                text = f"{what}: its answer was expected, a frame {kind!r} came behind {len(log)} bytes"
                raise ProtocolError(remote.node.name, text)
            log += payload


async def read_job_bytes(
    remote: Remote, job: Job, offset: int, wait_s: float, *, within_s: float = QUESTION_S
) -> tuple[bytes, Answer]:
    """Return what stands in a job's log behind ``offset``; one below 0 counts from its end."""
    request = {"op": "read", "id": job.id, "offset": offset, "wait_s": wait_s}
    return await ask_job_bytes(remote, request, within_s=wait_s + within_s)
