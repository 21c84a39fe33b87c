"""The seams: what a verb may ask of a node. Pool stands behind them, and in tests a local shell or a script.

One primitive carries everything: open a line on the node, feed it bytes, read its bytes, get its end.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.events import Event


@attrs.frozen
class Exit:
    """How a line ended on the node; both None means that nobody knows."""

    status: int | None = None
    signal: str | None = None


class Channel(Protocol):
    """One line running on a node: its input, its output, its end.

    Attributes:
        reused: True if it was given back once and borrowed again.
        notes: what the verbs remember of this channel (which programs its worker knows).
    """

    reused: bool
    notes: dict[str, object]

    @property
    def ended(self) -> bool:
        """True once the line can say nothing new: at its end, or broken; such a channel is not lent again."""
        ...

    def send(self, data: bytes) -> None:
        """Queue bytes for the line's stdin; never waits, so call ``drain`` after more than a few."""
        ...

    async def drain(self) -> None:
        """Wait until the queue towards the node is short.

        Raises:
            ConnectionLost: the connection broke.
        """
        ...

    def send_eof(self) -> None:
        """End the line's stdin."""
        ...

    def rate(self) -> float:
        """Return the bytes a second that the network has been seen to carry here, 0 if unknown."""
        ...

    async def read(self, limit: int = 262144) -> bytes:
        """Return up to ``limit`` bytes of stdout, b"" at its end. Reading is what makes room: unread bytes are bounded.

        Raises:
            ConnectionLost: the connection broke.
        """
        ...

    async def read_stderr(self, limit: int = 262144) -> bytes:
        """Return up to ``limit`` bytes of stderr, b"" at its end.

        Raises:
            ConnectionLost: the connection broke.
        """
        ...

    def quiet_s(self) -> float:
        """Return for how long nothing has come from the node, in seconds; 0 while it is we who hold it back."""
        ...

    def break_off(self, why: str) -> None:
        """Give the line up as lost: whoever waits for it gets ConnectionLost with this reason."""
        ...

    async def wait(self) -> Exit:
        """Return how the line ended; ``Exit()`` if the node never said.

        Raises:
            ConnectionLost: the connection broke.
        """
        ...

    async def close(self) -> None:
        """Close the line and free its slot; bounded, shielded, never raises, may be called again."""
        ...


class Tunnel(Protocol):
    """A TCP connection that a node makes for us; each direction ends by itself."""

    @property
    def ended(self) -> bool:
        """True once the other end has said its last word."""
        ...

    async def read(self) -> bytes:
        """Return what has come, b"" at its end.

        Raises:
            ConnectionLost: the connection to the node broke.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait until the queue towards the node is short; what nobody takes any more is dropped."""
        ...

    def write_eof(self) -> None:
        """Say that no more comes from us."""
        ...

    async def wait_closed(self) -> None:
        """Wait until neither direction carries anything any more."""
        ...

    def abort(self) -> None:
        """End it at once; may be called again."""
        ...


class Connection(Protocol):
    """One SSH connection to one node."""

    async def open(self, line: str) -> Channel:
        """Run ``line`` by the login shell and return its channel.

        Raises:
            ConnectionLost: the connection is dead.
            ChannelRefused: the node has no session free (MaxSessions).
        """
        ...

    async def tunnel(self, host: str, port: int) -> Tunnel:
        """Let the node make a TCP connection to a host as it knows it, and return that.

        Raises:
            ConnectError: nobody listens there, or the node's sshd does not forward.
            ConnectionLost: the connection is dead.
        """
        ...

    @property
    def alive(self) -> bool:
        """False once the connection is known to be dead."""
        ...

    def owes_s(self) -> float:
        """Return for how long the node has owed an answer while nothing at all came from it, in seconds."""
        ...

    async def close(self, farewell: str = "") -> None:
        """Close it; bounded, never raises.

        Args:
            farewell: why, for the lines that run over it ("the pool was closed"); "" where none can.
        """
        ...


@attrs.frozen
class Route:
    """Where a node's sshd is, and the node through which it is reached."""

    host: str
    port: int
    jump: Node | None = None


class Connector(Protocol):
    """Makes connections; ``through`` is the live connection to the node's jump host, if it has one."""

    async def resolve(self, node: Node) -> Route:
        """Return where the node's sshd is; cheap when asked again.

        Raises:
            ConnectError: the user's ssh_config cannot be followed.
        """
        ...

    async def connect(self, node: Node, through: Connection | None = None) -> Connection:
        """Connect once, without a retry.

        Raises:
            ConnectError, AuthError, HostKeyError: why not.
        """
        ...


class ChannelRefused(Exception):
    """The node has no session free at the moment; the pool waits or opens another connection."""


class Remote(Protocol):
    """A node as the verbs see it; connects when it is first used.

    Attributes:
        node: whose it is.
        memory: what was learned over the present connection (emptied when a new one is made): "python", "facts", ...
        observed: False if nobody looks at events, so that none needs to be made.
    """

    node: Node
    memory: dict[str, object]

    @property
    def observed(self) -> bool:
        """Whether anybody looks."""
        ...

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        """Run ``line`` on the node and return its channel, waiting for a free slot.

        Args:
            line: a short fixed line without user data.
            kind: an idle channel given back under this kind is returned instead, if there is one.

        Raises:
            ConnectError, AuthError, HostKeyError: no connection.
            ConnectionLost: it broke while opening.
        """
        ...

    async def open_spare(self, line: str) -> Channel | None:
        """Run ``line`` by a slot that nobody wants at the moment, if there is one; connects for nobody.

        Raises:
            ConnectionLost: it broke while opening.
        """
        ...

    def give_back(self, channel: Channel, kind: str) -> None:
        """Keep a channel that is at rest for the next ``open`` of its kind; its slot stays taken until it is borrowed
        or closed.
        """
        ...

    def emit(self, event: Event) -> None:
        """Show an event to the observer."""
        ...
