"""A worker's session: what is on its wire, frame by frame, and the greeting before the first."""

from __future__ import annotations

import re
from collections import deque

import anyio

from asyncdeploy.remote.transport import Channel, Remote
from asyncdeploy.values.errors import ConnectionLost, NoShell, ProtocolError
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines

GREETING_S = 30.0
"""How long a login shell may take to come up: .bashrc files on network homes take seconds."""
MAX_NOISE = 64 * 1024
"""What a .bashrc may print before our line answers."""
MAX_FRAME = 1 << 20
PART = b"+"
"""The kind of a frame that holds the beginning of a call which does not fit into one."""
HEAD = 5
"""A frame's kind and length."""
TRY = "try `ssh HOST true`: a .bashrc that exits or execs, a forced command, nologin, a restricted shell do this"
PROXY = (
    "that is a provider's proxy, which shows terminals and runs no commands (ssh.runpod.io): take the machine's own "
    "address and port (direct TCP)"
)
# Behind a nonce: one expression a nonce would cost each new worker half a millisecond to compile.
_AT = regex(rb"\.at([0-9]{1,10})\n")
_PYTHON = regex(rb"\.(sh|[0-9]{1,12} [!-~]{1,60})\n")
_NO_PTY = regex(r"SSH client does(n't| not) support PTY|[Pp]seudo-terminal|requires? a (tty|terminal|PTY)")


class Inbox:
    """Bytes that came and were not taken yet, in the pieces in which they came: a large frame is copied once."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: deque[bytes] = deque()
        self._at = 0  # where the first one goes on

    def put(self, data: bytes) -> None:
        """Add what came."""
        if data:
            self._parts.append(data)
            self.size += len(data)

    def take(self, size: int) -> bytes:
        """Return the next bytes; there must be so many."""
        self.size -= size
        parts = []
        while size:
            part, start = self._parts[0], self._at
            found = part if start == 0 and len(part) <= size else part[start : start + size]
            size -= len(found)
            self._at += len(found)
            if self._at == len(part):
                self._parts.popleft()
                self._at = 0
            parts.append(found)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Session:
    """A channel with our side of the conversation on it: what came but was not taken, which modules it knows."""

    def __init__(self, remote: Remote, channel: Channel) -> None:
        self.remote = remote
        self.channel = channel
        self._inbox = Inbox()
        self._head = b""  # of the frame that is coming
        self.modules: set[str] = set()
        self.takes_code = False

    async def greet(self, nonce: str) -> int:
        """Wait until the login shell runs our line, and return the pid that it runs as."""
        found, heard, late = await self._hear(nonce, _AT, GREETING_S)
        if found is None:
            raise await self._no_shell(heard, late=late)
        return int(found[1])

    async def hear_python(self, nonce: str, within_s: float) -> str:
        """Return what python says, its hexversion and its bytecode's name; "sh" without one, "" if none speaks."""
        found, _, _ = await self._hear(nonce, _PYTHON, within_s)
        return "" if found is None else found[1].decode()

    async def _hear(
        self, nonce: str, pattern: re.Pattern[bytes], within_s: float
    ) -> tuple[re.Match[bytes] | None, bytes, bool]:
        """Read until the nonce came with the pattern behind it; return that, what was heard, whether time was up."""
        heard = bytearray(self._inbox.take(self._inbox.size))
        with anyio.move_on_after(within_s) as scope:
            while (found := _behind(heard, nonce.encode(), pattern)) is None:
                data = await self.channel.read() if len(heard) <= MAX_NOISE else b""
                if not data:
                    break
                heard += data
            else:
                self._inbox.put(bytes(heard[found.end() :]))
                return found, bytes(heard), False
        return None, bytes(heard), scope.cancelled_caught

    async def _no_shell(self, heard: bytes, *, late: bool) -> NoShell:
        errors = b""
        in_step = self.remote.node.slurm_job is not None  # srun may wait, and say for what
        if (in_step or not late) and len(heard) <= MAX_NOISE:
            with anyio.move_on_after(1):
                errors = await self.channel.read_stderr()
        if in_step:
            return self._no_step(last_lines(heard + errors))
        if late:
            what = f"its login shell did not answer within {GREETING_S:.0f} s"
        elif len(heard) > MAX_NOISE:
            what = f"its login shell printed over {MAX_NOISE} bytes instead of running our line"
        else:
            what = "its login shell ended without running our line"
        said = last_lines(heard + errors)
        return NoShell(self.remote.node.name, what, PROXY if _NO_PTY.search(said) else TRY, said)

    def _no_step(self, said: str) -> NoShell:
        job = self.remote.node.slurm_job
        hint = f"a job that is over has taken with it what ran in it: `squeue --jobs={job}` on the login node shows it"
        message = f"no step of Slurm job {job} was started there"
        return NoShell(self.remote.node.name, message, hint, said)

    async def receive(self) -> tuple[bytes, bytes]:
        """Return the next frame; what waits for it is at most MAX_FRAME bytes and what one read brings."""
        while True:
            if not self._head and self._inbox.size >= HEAD:
                self._head = self._inbox.take(HEAD)
            size = int.from_bytes(self._head[1:], "big")
            if size > MAX_FRAME:
                what = f"a frame of at most {MAX_FRAME} bytes was expected, one of {size} was announced"
                raise ProtocolError(self.remote.node.name, what)
            if self._head and self._inbox.size >= size:
                kind, self._head = self._head[:1], b""
                return kind, self._inbox.take(size)
            data = await self.channel.read()
            if not data:
                raise await self._lost()
            self._inbox.put(data)

    async def _lost(self) -> ConnectionLost:
        errors = b""
        with anyio.move_on_after(1):
            errors = await self.channel.read_stderr()
        hint = "it may have been killed for memory" if not errors else ""
        return ConnectionLost(
            self.remote.node.name, "our worker on the node ended without an answer", hint, last_lines(errors)
        )


def _behind(heard: bytearray, nonce: bytes, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """Return what matches right behind a nonce, which may come several times: where the line is echoed, say."""
    at = heard.find(nonce)
    while at >= 0:
        if found := pattern.match(heard, at + len(nonce)):
            return found
        at = heard.find(nonce, at + 1)
    return None
