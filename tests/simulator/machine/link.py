"""One SSH connection between the client and a node: what is sent arrives in order, late, or never.

The client's side is the library's own `SshConnection` and `SshChannel`; what stands below them, asyncssh's connection
and its channels, is ours. The node's side is in sshd.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import asyncssh

from asyncdeploy.connect.ssh.channel import OPEN_S, UNSENT_BYTES, WINDOW, SshChannel
from asyncdeploy.connect.ssh.connection import SshConnection
from asyncdeploy.remote.transport import ChannelRefused
from asyncdeploy.values.errors import ConnectError, ConnectionLost

if TYPE_CHECKING:
    from tests.simulator.machine.node import Node
    from tests.simulator.machine.world import World

KEEPALIVE_S = 60.0
"""Four times 15 s without a word: then the client's asyncssh takes the connection for dead."""
STDERR = asyncssh.EXTENDED_DATA_STDERR


class Link:
    """One connection; as `ssh` of an SshConnection it is also what that asks of asyncssh.

    Attributes:
        farewell, heard_at: asyncssh's side, as the library keeps it there.
        is_silent: half-open; what is sent from now on never arrives, and nobody is told.
        still_until: what is under way arrives then, and not before.
    """

    def __init__(self, world: World, node: Node) -> None:
        self.world, self.node = world, node
        self.farewell = ""
        self.heard_at = world.clock.monotonic()
        self.is_silent = self.is_cut = False
        self.still_until = 0.0
        self.wires: dict[int, Wire] = {}
        self.opened = 0
        self._latency = world.latency
        self._gone = False  # as the client sees it
        self._closed = asyncio.Event()
        self._ways: dict[str, deque[tuple[float, Callable[[], object]]]] = {"there": deque(), "back": deque()}
        self._last = {"there": 0.0, "back": 0.0}
        self.login = node.sshd(self)

    # -- the network -----------------------------------------------------------------------------------------------

    def carry(self, way: str, work: Callable[[], object]) -> None:
        """Have something arrive at one end, in order: "there" is the node, "back" is the client."""
        if self.is_silent or self.is_cut:
            return
        chance, loop = self.world.chance, self.world.loop
        at = max(self._last[way], loop.now + self._latency * (0.5 + chance.random()))
        self._last[way] = at
        self._ways[way].append((at, work))
        loop.call_at(at, self._arrive, way, context=self.world.context())

    def _arrive(self, way: str) -> None:
        loop = self.world.loop
        if self.is_silent or self.is_cut or not self._ways[way]:
            return
        if self.still_until > loop.now:
            loop.call_at(self.still_until, self._arrive, way, context=self.world.context())
            return
        _, work = self._ways[way].popleft()
        if way == "back":
            self.heard_at = self.world.clock.monotonic()
        work()

    def fall_silent(self) -> None:
        """Be half-open from now on."""
        self.is_silent = True
        self._doubt(self.world.loop.now)

    def stand_still(self, seconds: float) -> None:
        """Carry nothing for a while; then all of it arrives, if anybody is still there."""
        self.still_until = max(self.still_until, self.world.loop.now + seconds)
        self._doubt(self.world.loop.now)

    def _doubt(self, since: float) -> None:
        self.world.loop.call_later(KEEPALIVE_S, self._look, since, context=self.world.context())

    def _look(self, since: float) -> None:
        silent = self.is_silent or self.still_until > self.world.loop.now
        if silent and not self._gone:
            self.lose(asyncssh.ConnectionLost("Server not responding to keepalive messages"))

    def cut(self) -> None:
        """Break it: both ends are told."""
        if not self.is_cut:
            self.is_cut = True
            self.login.end()
            self.lose(asyncssh.ConnectionLost("Connection lost"))

    def lose(self, why: Exception | None) -> None:
        """The client's end is gone."""
        if self._gone:
            return
        self._gone = True
        self._closed.set()
        for wire in tuple(self.wires.values()):
            wire.cut_off = True
            wire.end(why)
        if not self.is_silent and not self.is_cut:
            self.carry("there", self.login.end)

    # -- asyncssh, as SshConnection sees it ---------------------------------------------------------------------------

    def is_closed(self) -> bool:
        return self._gone

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        self.lose(None)

    async def wait_closed(self) -> None:
        await self._closed.wait()


class Wire:
    """The client's end of one channel: what SshChannel asks of asyncssh's SSHClientChannel."""

    def __init__(self, link: Link, session: SshChannel) -> None:
        self.link, self.session = link, session
        link.opened += 1
        self.number = link.opened
        link.wires[self.number] = self
        self.cut_off = False
        self.abandoned = False
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.granted.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._is_open = self._closing = False
        self._closed = asyncio.Event()
        self._held: deque[tuple[bytes, int | None]] | None = None
        self.held_bytes = 0
        self._unsent = 0
        self._is_full = False

    # -- what the node's end says ------------------------------------------------------------------------------------

    def grant(self) -> None:
        self._is_open = True
        if not self.granted.done():
            self.granted.set_result(None)
        if self.abandoned:
            self._say_close()

    def refuse(self) -> None:
        self.link.wires.pop(self.number, None)
        self._closed.set()
        if not self.granted.done():
            self.granted.set_exception(ChannelRefused("open failed"))

    def bring(self, data: bytes, kind: int | None) -> None:
        if self._closing:
            return
        if self._held is not None:
            self._held.append((data, kind))
            self.held_bytes += len(data)
        else:
            self.session.data_received(data, kind)

    def tell(self, work: Callable[[], object]) -> None:
        """Say what comes behind the data: not before that was taken."""
        if not self._closing:
            self._release()
            work()

    def end(self, why: Exception | None = None) -> None:
        """The channel is over, or its connection is."""
        if self.link.wires.pop(self.number, None) is None:
            return
        if not self.granted.done():
            self.granted.set_exception(why or asyncssh.ConnectionLost("Connection closed"))
        if self._is_open:
            self._release()
            self.session.connection_lost(why)
        self._closing = True
        self._closed.set()

    # -- asyncssh, as SshChannel sees it -----------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._held = self._held if self._held is not None else deque()

    def resume_reading(self) -> None:
        self._release()

    def _release(self) -> None:
        held, self._held = self._held or (), None
        for place, (data, kind) in enumerate(held):
            self.held_bytes -= len(data)
            self.session.data_received(data, kind)
            if self._held is not None and place + 1 < len(held):  # it was enough again
                self._held.extend(list(held)[place + 1 :])
                return

    @property
    def has_room(self) -> bool:
        return self.held_bytes < WINDOW

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        self.link.world.overhear(self.link.node, self.number, data)
        self._unsent += len(data)
        if self._unsent > UNSENT_BYTES and not self._is_full:
            self._is_full = True
            self.session.pause_writing()
        end = self.link.login.ends.get(self.number)
        self.link.carry("there", lambda: (self._sent(len(data)), end is not None and end.feed(data)))

    def _sent(self, count: int) -> None:
        self._unsent -= count
        if self._is_full and self._unsent < UNSENT_BYTES // 4:
            self._is_full = False
            self.session.resume_writing()

    def write_eof(self) -> None:
        end = self.link.login.ends.get(self.number)
        if end is not None:
            self.link.carry("there", end.feed_eof)

    def rate(self) -> float:
        return 0.0

    def abandon(self) -> None:
        self.abandoned = True
        self.abort()

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            if self._is_open:
                self._say_close()

    def _say_close(self) -> None:
        number, login = self.number, self.link.login
        self._closing = True
        self.link.carry("there", lambda: login.close_session(number))

    async def wait_closed(self) -> None:
        await self._closed.wait()


class SimConnection(SshConnection):
    """The library's connection, whose channels lead to simulated processes."""

    ssh: Any

    async def open(self, line: str) -> SshChannel:
        """Run a line and return its channel; as `open_channel` does it, over a wire of ours."""
        link: Link = self.ssh
        if link.heard_at >= self._asked_at:
            self._asked_at = link.world.clock.monotonic()
        if link.is_closed():
            raise ConnectionLost(self.node, "the connection is dead")
        session = SshChannel(self.node, self.ssh)
        wire = Wire(link, session)
        session._wire = wire  # type: ignore[assignment]
        link.carry("there", lambda: link.login.open_session(wire, line))
        try:
            with anyio.fail_after(OPEN_S):
                await wire.granted
        except ChannelRefused:
            raise
        except TimeoutError:
            wire.abandon()
            raise ConnectionLost(self.node, f"sshd did not open a channel within {OPEN_S:.0f} s") from None
        except asyncssh.Error as error:
            raise ConnectionLost(self.node, f"the connection broke while a channel was opened: {error}") from error
        except BaseException:
            wire.abandon()
            raise
        return session


async def connect(world: World, node: Node) -> SimConnection:
    """Make a connection, as a login takes its round trips; refused, or without any answer, where a node is down."""
    with anyio.move_on_after(15.0):
        await asyncio.sleep(world.latency * (6 + 2 * world.chance.random()))
        while node.is_dark:
            await asyncio.sleep(1.0)
        if node.is_down:
            raise ConnectError(node.name, "connection refused", reason="refused", passing=True)
        return SimConnection(node.name, Link(world, node))  # type: ignore[arg-type]
    raise ConnectError(node.name, "no answer", reason="timeout")
