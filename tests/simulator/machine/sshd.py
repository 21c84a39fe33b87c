"""The node's end of a connection: sshd, its sessions, and a session's streams as a process there sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulator.machine.link import STDERR

if TYPE_CHECKING:
    from tests.simulator.machine.link import Link, Wire
    from tests.simulator.machine.node import Node, Process

MAX_SESSIONS = 10
PIECE = 1 << 15


class Login:
    """One connection as sshd has it.

    Attributes:
        ends: the sessions that are open, by number.
    """

    def __init__(self, node: Node, link: Link) -> None:
        self.node, self.link = node, link
        self.ends: dict[int, End] = {}
        self.is_over = False

    def open_session(self, wire: Wire, line: str) -> None:
        """Grant a session and run a line in it, or refuse."""
        if self.is_over or wire.number in self.ends:
            return
        if len(self.ends) >= min(MAX_SESSIONS, self.node.max_sessions):
            self.link.carry("back", wire.refuse)
            return
        end = self.ends[wire.number] = End(self, wire)
        self.link.carry("back", wire.grant)
        self.node.run_line(line, end)

    def close_session(self, number: int) -> None:
        """The client closed a channel: its process loses its streams, and the client is told."""
        end = self.ends.pop(number, None)
        if end is not None:
            end.hang_up()
            self.link.carry("back", end.wire.end)

    def end(self) -> None:
        """The connection is gone."""
        if not self.is_over:
            self.is_over = True
            for end in tuple(self.ends.values()):
                end.hang_up()
            self.ends.clear()


class End:
    """A session's streams, as the process in it reads and writes them."""

    def __init__(self, login: Login, wire: Wire) -> None:
        self.login, self.wire = login, wire
        self.inbox = bytearray()
        self.is_over = False  # nothing more can come: the client closed it, or the connection is gone
        self.is_eof = False
        self.heard_at = login.node.loop.now
        self._woken = asyncio.Event()
        self.process: Process | None = None

    def feed(self, data: bytes) -> None:
        if not self.is_over:
            self.inbox += data
            self.heard_at = self.login.node.loop.now
            self._woken.set()

    def feed_eof(self) -> None:
        self.is_eof = True
        self._woken.set()

    def hang_up(self) -> None:
        self.is_over = self.is_eof = True
        self._woken.set()

    def wake(self) -> None:
        """Let who waits for more look again."""
        self._woken.set()

    async def more(self, within_s: float) -> bool:
        """Wait for more bytes, or the end of them; whether anything came."""
        if self.is_eof:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    async def write(self, data: bytes, fd: int = 1) -> None:
        """Send to the client, waiting while that has no room; an OSError where nobody reads any more."""
        while not self.wire.has_room and not self.is_over:
            await asyncio.sleep(0.05)
        if self.is_over:
            raise BrokenPipeError
        node, wire = self.login.node, self.wire
        node.world.overheard(node, data)
        while data:
            cut = node.world.chance.randrange(1, len(data) + 1) if node.world.chance.random() < 0.1 else PIECE
            piece, data = data[:cut], data[cut:]
            self._carry(lambda piece=piece: wire.bring(piece, STDERR if fd == 2 else None))  # type: ignore[misc]

    def exit(self, status: int | None, signal: str = "") -> None:
        """Say how the line ended, and close the session."""
        if self.is_over:
            return
        wire, number = self.wire, self.wire.number
        self._carry(lambda: wire.tell(wire.session.eof_received))
        if status is not None:
            self._carry(lambda: wire.tell(lambda: wire.session.exit_status_received(status)))
        else:
            self._carry(lambda: wire.tell(lambda: wire.session.exit_signal_received(signal, False, "", "")))
        self._carry(wire.end)
        self.hang_up()
        self.login.ends.pop(number, None)

    def _carry(self, work: Callable[[], object]) -> None:
        self.login.link.carry("back", work)
