"""Detached jobs on a simulated node, as node_side/run/jobs.py answers for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from tests.simulator.machine.shell import TERM
from tests.simulator.model import job_folder
from tests.simulator.model.job_folder import START_S, Folder, Holder
from tests.simulator.model.runs import take_input

if TYPE_CHECKING:
    from tests.simulator.machine.node import Process
    from tests.simulator.model.worker import Worker

ALIVE = ("starting", "running", "orphaned")
TICK_S = 0.05
END_S = 15.0
WAIT_SLICE_S = 60.0
READ_LIMIT = 512 * 1024


async def answer(worker: Worker, args: bytes) -> bytes:
    """Answer one question about jobs."""
    request = json.loads(args)
    said = await OPERATIONS[request["op"]](worker, request)
    return json.dumps(said).encode()


async def start(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Start a job once, however often it is asked for."""
    spec = request["spec"]
    kind, payload = await worker.receive()
    if kind != b"V":
        raise ValueError("the variables were expected")
    stdin = await take_input(worker)
    node = worker.node
    folder = job_folder.make(node, spec["id"])
    await _lock(worker, folder)
    try:
        if folder.boot or folder.end is not None:
            return folder.status()
        while node.names_lock is not None and not node.names_lock.is_dead:
            worker.poll()
            await asyncio.sleep(TICK_S)
        node.names_lock = worker.process
        try:
            return await _start(worker, folder, spec, payload.split(b"\0"), stdin)
        finally:
            if not worker.process.is_dead:
                node.names_lock = None
    finally:
        if not worker.process.is_dead:
            folder.lock = None


async def _start(
    worker: Worker, folder: Folder, spec: dict[str, Any], env: list[bytes], stdin: bytes
) -> dict[str, Any]:
    twin = _running_twin(worker, spec)
    if twin is not None:
        worker.node.jobs.pop(spec["id"], None)
        return {"error": "exists", "id": twin}
    worker.poll()  # a node that was frozen meanwhile: whoever asked for it may be gone
    folder.spec = dict(spec)
    holder = Holder(folder, env, stdin)
    process: Process = holder.process
    process.at_death.append(lambda: holder.said.done() or holder.said.cancel())
    done, _ = await asyncio.wait((holder.said,), timeout=START_S)
    if not done:
        process.die()
        reason = f"its supervisor died, or had not started it within {START_S:g} s"
    else:
        reason = "its supervisor died" if holder.said.cancelled() else holder.said.result()
    if reason:
        if folder.leader is not None:
            folder.leader.kill()
        worker.node.jobs.pop(spec["id"], None)
        return {"error": "failed", "reason": reason}
    return {**folder.status(), "survives_logout": True}


async def _lock(worker: Worker, folder: Folder) -> None:
    while folder.lock is not None and not folder.lock.is_dead:
        worker.poll()
        await asyncio.sleep(TICK_S)
    folder.lock, folder.was_locked = worker.process, True


def _running_twin(worker: Worker, spec: dict[str, Any]) -> str | None:
    for job_id, folder in sorted(worker.node.jobs.items()):
        alike = (folder.spec.get("name"), folder.spec.get("site")) == (spec["name"], spec["site"])
        if job_id != spec["id"] and alike and folder.status()["state"] in ALIVE:
            return job_id
    return None


async def status(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Say what is known of a job."""
    folder = worker.node.jobs.get(request["id"])
    return folder.status() if folder is not None else {"error": "unknown"}


async def wait(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Wait until a job ended, for a while."""
    now: dict[str, Any] = {}
    async for _ in _looks(worker, float(request["timeout_s"])):
        now = await status(worker, request)
        alone = now.get("state") == "orphaned" and not request.get("orphans", True)
        if alone or now.get("state") not in ALIVE:
            break
    return now


async def _looks(worker: Worker, wait_s: float) -> AsyncIterator[None]:
    loop = worker.node.loop
    deadline, pause = loop.now + min(wait_s, WAIT_SLICE_S), 0.02
    while True:
        yield
        if loop.now >= deadline:
            return
        worker.poll()
        await worker.sign_life()
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)


async def stop(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """End a job and everything of it."""
    grace = float(request["grace_s"])
    folder = worker.node.jobs.get(request["id"])
    if folder is None:
        return await _forbid(worker, request["id"]) if request.get("forbid") else {"error": "unknown"}
    before = folder.status()
    if before["state"] not in ALIVE:
        return before
    folder.stop = {"grace_s": grace, "because": request.get("because")}
    until = worker.node.loop.now + grace + 2 * END_S
    while folder.status()["state"] in ("starting", "running") and worker.node.loop.now < until:
        if folder.boot and folder.holder is not None and not folder.holder.process.is_dead:
            folder.holder.obey()
        worker.poll()
        await asyncio.sleep(TICK_S)
    if folder.leader is not None and folder.status()["state"] in ALIVE:
        folder.leader.kill()
    await asyncio.sleep(TICK_S)
    return folder.status()


async def _forbid(worker: Worker, job_id: str) -> dict[str, Any]:
    folder = job_folder.make(worker.node, job_id)
    await _lock(worker, folder)
    if not folder.boot and folder.end is None:
        end = {"status": None, "signal": TERM, "ended_at": worker.node.time(), "survivors": [], "stopped": True}
        folder.end, folder.ended_at = end, worker.node.loop.now
    folder.lock = None
    return folder.status()


async def list_all(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of the jobs there are; pages are short here, so that there are several."""
    ids = [job_id for job_id in sorted(worker.node.jobs) if job_id > request.get("after", "")]
    page = [worker.node.jobs[job_id].status() for job_id in ids[:3] if worker.node.jobs[job_id].spec]
    return {"jobs": page, **({"next": ids[2]} if len(ids) > 3 else {})}


async def read(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Return a piece of a job's log."""
    folder = worker.node.jobs.get(request["id"])
    offset, limit = int(request["offset"]), min(int(request.get("limit", READ_LIMIT)), READ_LIMIT)
    data, place, size, state = b"", 0, 0, "lost"
    async for _ in _looks(worker, float(request.get("wait_s", 0))):
        if folder is None:
            break
        state, size = folder.status()["state"], len(folder.log)
        place = min(offset, size) if offset >= 0 else max(0, size + offset)
        data = bytes(folder.log[place : place + limit])
        if data or state not in ALIVE:
            break
    for begin in range(0, len(data), 1 << 18):
        await worker.send(b"D", data[begin : begin + (1 << 18)])
    return {"offset": place, "size": size, "state": state, "times": []}


OPERATIONS = {"start": start, "status": status, "wait": wait, "stop": stop, "list": list_all, "read": read}
