"""One node of a LocalCluster without its sshd: its home, what runs there, what is wrong with its connections."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import attrs

from asyncdeploy.local.command import LocalProcess
from asyncdeploy.local.faults import Faults, Gate
from asyncdeploy.local.processes import MARKER, end_processes

# All of leaving takes at most five seconds. KILL takes effect at once; what outlives this hangs in the kernel.
_KILL_S = 3.0
# What is only cleared away once nothing runs any more: our tasks, then (server.py) our sockets.
CLEAR_S = 1.0


@attrs.frozen
class Terms:
    """What is the same for all nodes of a cluster."""

    shell: str
    path: str
    max_sessions: int
    forwarding: bool
    user: str


@attrs.define(eq=False)
class Host:
    """One node: its connections' gates and what runs on it."""

    name: str
    home: Path
    terms: Terms
    mark: str = attrs.field(factory=lambda: secrets.token_hex(8))
    faults: Faults = attrs.field(factory=Faults)
    gates: set[Gate] = attrs.field(factory=set)
    leaders: dict[int, int | None] = attrs.field(factory=dict)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)

    def change(self, *, frozen: bool | None = None, delay_s: float | None = None) -> None:
        """Change what is wrong with the node's connections."""
        self.faults.frozen = self.faults.frozen if frozen is None else frozen
        self.faults.delay_s = self.faults.delay_s if delay_s is None else delay_s
        for gate in tuple(self.gates):
            gate.turn()

    def start(self, process: LocalProcess) -> None:
        """Run a command; the task lives as long as it does."""
        task = asyncio.get_running_loop().create_task(process.run(), name=f"a command on {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def environ(self, client: tuple[str, int], server: tuple[str, int]) -> dict[str, str]:
        """Return what sshd would give a command, and the mark by which we find it again.

        Args:
            client / server: address and port of both ends of the connection.
        """
        return {
            "HOME": str(self.home),
            "USER": self.terms.user,
            "LOGNAME": self.terms.user,
            "SHELL": self.terms.shell,
            "PATH": self.terms.path,
            "SSH_CLIENT": f"{client[0]} {client[1]} {server[1]}",
            "SSH_CONNECTION": f"{client[0]} {client[1]} {server[0]} {server[1]}",
            MARKER: self.mark,
        }

    async def end(self) -> dict[int, str]:
        """Cut all connections and end all that runs; return what could not be ended."""
        for gate in tuple(self.gates):
            gate.abort()
        left = await end_processes(self.mark, self.leaders, within_s=_KILL_S)
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks), timeout=CLEAR_S)
            for task in late:
                task.cancel()
        return left
