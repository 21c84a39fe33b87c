"""A job's folder on a simulated node and what holds it: what node_side/run has in four files."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import attrs

from tests.simulator.machine.shell import Leader
from tests.simulator.machine.world import Record

if TYPE_CHECKING:
    from tests.simulator.machine.node import Node, Process

TIMEOUT_GRACE_S = 5.0
START_S = 30.0


@attrs.define(eq=False)
class Folder:
    """One job's folder; what stands here outlives all processes and boots.

    Attributes:
        boot: of the node when the job started, 0 before.
        end: how it ended, as it is written down.
        stop: what a stop has asked for.
        lock: who starts it; was_locked: somebody began to.
    """

    node: Node
    job_id: str
    made_at: float
    spec: dict[str, Any] = attrs.field(factory=dict)
    boot: int = 0
    end: dict[str, Any] | None = None
    ended_at: float | None = None
    stop: dict[str, Any] | None = None
    log: bytearray = attrs.field(factory=bytearray)
    lock: Process | None = None
    was_locked: bool = False
    holder: Holder | None = None
    leader: Leader | None = None

    def status(self) -> dict[str, Any]:
        """Return the job's state as its folder and the processes tell it."""
        said: dict[str, Any] = {"id": self.job_id, "spec": self.spec, "state": self._state()}
        if "started_at" in self.spec:
            said["started_at"] = self.spec["started_at"]
        if self.end is not None:
            said.update(self.end)
        return said

    def _state(self) -> str:
        if self.end is not None:
            return "signalled" if self.end.get("signal") else "exited"
        if self.boot and self.boot != self.node.boot:
            return "lost"
        if self.boot:
            if self.holder is not None and not self.holder.process.is_dead:
                return "running"
            return "orphaned" if self.leader is not None and not self.leader.is_ended else "lost"
        if self.was_locked:
            return "starting" if self.lock is not None and not self.lock.is_dead else "lost"
        return "starting" if self.node.time() - self.made_at < START_S else "lost"


class Holder:
    """Supervisor and keeper of a job in one: it starts the job, ends it when asked, and writes down how it ended."""

    def __init__(self, folder: Folder, env: list[bytes], stdin: bytes) -> None:
        self.folder, self.node = folder, folder.node
        self._env, self._stdin = env, stdin
        self.said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._timed_out = False
        self._stopped_at: float | None = None
        self.process: Process = self.node.spawn("supervisor", self._hold)
        folder.holder = self

    async def _hold(self, process: Process) -> None:
        folder, node = self.folder, self.node
        try:
            await node.write("spec.json")
            folder.spec = {**folder.spec, "started_at": node.time()}
        except OSError as error:
            self._say(f"its folder cannot be written: {error.strerror}")
            return
        leader = self._start()
        if node.disk_s:  # the room for it was taken before, so that a full disk is no reason not to
            await asyncio.sleep(node.disk_s)
        folder.boot = node.boot
        self._say("")
        if folder.stop is not None:
            self.obey()
        if folder.spec.get("timeout_s"):
            node.loop.call_later(folder.spec["timeout_s"], self._late)
        await self._ended.wait()
        await asyncio.sleep(node.disk_s)
        self._write(leader)

    def _start(self) -> Leader:
        folder, node = self.folder, self.node
        record = Record(node.name, folder.job_id, folder.spec["line"], node.loop.now, tuple(self._env), self._stdin)
        folder.leader = Leader(node, record, folder.log.extend, self._ended.set)
        return folder.leader

    def _say(self, reason: str) -> None:
        if not self.said.done():
            self.said.set_result(reason)

    def obey(self) -> None:
        """Obey a stop that was written down; one that comes behind the end changes nothing."""
        leader = self.folder.leader
        if leader is not None and not leader.is_ended and self.folder.stop is not None:
            if self._stopped_at is None:
                self._stopped_at = self.node.time()
            leader.stop(float(self.folder.stop["grace_s"]))

    def _late(self) -> None:
        leader = self.folder.leader
        if leader is not None and not leader.is_ended and not leader.stopped:
            self._timed_out = True
            leader.stop(TIMEOUT_GRACE_S)

    def _write(self, leader: Leader) -> None:
        record, node = leader.record, self.node
        record.status, record.signal = leader.status, leader.signal
        end = {"status": leader.status, "signal": leader.signal, "ended_at": node.time(), "survivors": []}
        self.folder.end = {**end, "stopped": leader.stopped, "timed_out": self._timed_out}
        self.folder.ended_at = node.loop.now
        if self._stopped_at is not None:
            self.folder.end["stopped_at"] = self._stopped_at


def make(node: Node, job_id: str) -> Folder:
    """Make a job's folder where there is none."""
    if job_id not in node.jobs:
        if node.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device", f"/home/sim/.asyncdeploy/jobs/{job_id}")
        node.jobs[job_id] = Folder(node, job_id, node.time())
    return node.jobs[job_id]
