"""Who runs our programs on a node: the first python3 that is new enough and starts, or its sh.

On the wire stands one fixed line. Nothing is sent before the node has printed this channel's nonce: a login shell
that execs another one, or a .bashrc that reads, would take our bytes for its own.

The line tries the usual places and trusts what it finds, which costs an ordinary node nothing. Where that python3 is
too old, hangs, floods us or is none, all places are searched by a script that tries each for real; what it found is
remembered, and said once.
"""

from __future__ import annotations

import secrets

import anyio

from asyncdeploy.remote.frames import Session
from asyncdeploy.remote.programs import BYTECODE, program_code, program_source
from asyncdeploy.remote.sh import script
from asyncdeploy.remote.transport import Channel, Remote
from asyncdeploy.values.events import Noted
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import one_line

KIND = "worker"
OLDEST_PYTHON = 0x03080000
PYTHON_S = 10.0
"""A python3 that has not spoken by then is looked at by the search; on a cold network disk a start took 6 s."""
TRY_S = 10
"""What the search gives each; what it tries first was read from the disk just before."""
SEARCH_S = 120.0
MAX_FOUND = 64 * 1024
"""Bytes of the search's answer: a line of at most 300 for each place."""
MAX_TOLD = 5
"""Of the pythons that do not do, those that are named."""

# The system's own interpreter comes first: the first python3 of PATH may be a shim that only prints an error.
_PYTHONS = "/usr/bin/python3 /usr/local/bin/python3 python3 /opt/conda/bin/python3"
_LOADER = (
    "import os,sys,_frozen_importlib_external as e;a=sys.argv;m=int.from_bytes(e.MAGIC_NUMBER[:2],a[3]);"
    "t=str(sys.implementation.cache_tag)+chr(45)+str(m);"
    "os.write(1,(a[1]+str(sys.hexversion)+chr(32)+t+chr(10)).encode());"
    "f=os.fdopen(0,a[2]);exec(f.read(int(f.readline())))"
)
# Single quotes only, no backslash, no "!": sh, bash, zsh, fish and csh all pass this on unchanged.
_WORKER_LINE = (
    "exec /bin/sh -c 'echo {nonce}.at$$;for p in {pythons}"
    '; do q=$(command -v "$p" 2>/dev/null) && [ -x "$q" ] && exec "$q" -X utf8 -I -S -c "'
    + _LOADER
    + '" {nonce}. rb little; done;echo {nonce}.sh'
    + "'"
)
# What a login environment exports under these names would take the script, secrets included, to all its children.
_SCRIPT_LINE = (
    "exec /bin/sh -c 'echo {nonce}.at$$;unset n s;IFS= read -r n;"
    's=$(dd bs="$n" count=1 iflag=fullblock 2>/dev/null);eval "$s"' + "'"
)
_PATH = regex(r"~?/[A-Za-z0-9/._+@%=-]+")  # what stands in our line as it is


async def has_python(remote: Remote) -> bool:
    """Return whether the node has a python3 >= 3.8 that starts; asked once.

    Raises:
        NoShell: the login shell does not run our line.
        ConnectError, AuthError, HostKeyError, ConnectionLost: as Remote.open.
    """
    if remote.memory.get("python") is None and (session := await open_worker(remote)) is not None:
        remote.give_back(session.channel, KIND)
    return remote.memory.get("python") is not False


async def open_worker(remote: Remote) -> Session | None:
    """Return a worker at rest, warm or new; None on a node without a usable python3."""
    if remote.memory.get("python") is False:
        return None
    session, hung = await _start_worker(remote)
    if session is None:
        remote.memory["python"] = await _find_python(remote, hung)
        session, _ = (None, 0) if remote.memory["python"] is False else await _start_worker(remote)
        if session is None:  # that one, which has just started, does not start
            remote.memory["python"] = False
    return session


async def open_spare_worker(remote: Remote) -> None:
    """Leave one more worker at rest on a node whose python3 is known, if a slot for it is free.

    Raises:
        NoShell, ConnectionLost: as Remote.open.
    """
    if remote.memory.get("python") in (None, False):
        return
    nonce, known = _nonce(), remote.memory.get("python")
    channel = await remote.open_spare(_worker_line(nonce, known))
    session = (await _greeted(remote, channel, nonce, known))[0] if channel is not None else None
    if session is not None:
        remote.give_back(session.channel, KIND)


async def _start_worker(remote: Remote) -> tuple[Session | None, int]:
    """Return a worker by the python3 that is known or that the line finds; else None, and what hung: its pid, or 0."""
    nonce, known = _nonce(), remote.memory.get("python")
    channel = await remote.open(_worker_line(nonce, known), kind=KIND)
    warm = channel.notes.get(KIND)
    if isinstance(warm, Session):
        warm.remote, warm.channel = remote, channel  # a pool may lend the same channel under another handle
        return warm, 0
    return await _greeted(remote, channel, nonce, known)


def _worker(*, compiled: bool) -> bytes:
    """Return the worker as the line that started a python3 reads it: its size, and what is executed."""
    if not compiled:
        source = program_source("worker")
        return b"%d\n%s" % (len(source), source)
    code = program_code("worker")[1:]
    start = b"import marshal;exec(marshal.loads(f.read(%d)))" % len(code)
    return b"%d\n%s%s" % (len(start), start, code)


def _worker_line(nonce: str, known: object) -> str:
    return _WORKER_LINE.format(nonce=nonce, pythons=known or _PYTHONS)


async def _greeted(remote: Remote, channel: Channel, nonce: str, known: object) -> tuple[Session | None, int]:
    """Return the worker that is just starting at a channel; else None, and what hung.

    Args:
        remote, channel: where.
        nonce: of the line that runs there.
        known: the python3 that it starts, as it was remembered when the line was made: a new connection forgets it.
    """
    session = Session(remote, channel)
    try:
        pid = await session.greet(nonce)
        word = await session.hear_python(nonce, PYTHON_S)
        version, _, bytecode = word.partition(" ")
        if version not in ("", "sh") and int(version) >= OLDEST_PYTHON:
            remote.memory["python"] = known or ""
            session.takes_code = bytecode == BYTECODE
            channel.send(_worker(compiled=session.takes_code))
            channel.notes[KIND] = session
            return session, 0
    except BaseException:
        await channel.close()
        raise
    await channel.close()
    return None, 0 if word else pid


async def _find_python(remote: Remote, hung: int) -> str | bool:
    """Search the node for a python3; its path as our line may hold it, False if there is none. Said once."""
    mark = _nonce()
    words = [mark, str(OLDEST_PYTHON), str(TRY_S), str(hung)]
    channel = await open_script(remote, script(("find_python",), *words))
    try:
        heard = bytearray()
        with anyio.move_on_after(SEARCH_S):
            while len(heard) < MAX_FOUND and (data := await channel.read()):
                heard += data
    finally:
        await channel.close()
    found: str | bool = False
    refused = []
    for line in heard.decode("utf-8", "replace").splitlines():
        said, _, rest = line.partition(" ")
        verdict, _, rest = rest.partition(" ")
        version, _, rest = rest.partition(" ")
        if said == mark and verdict == "use" and _PATH.fullmatch(rest):
            found = rest
        elif said == mark and verdict == "not":
            refused.append(one_line(rest + _version(version)))
    _tell(remote, found, refused)
    return found


def _tell(remote: Remote, found: str | bool, refused: list[str]) -> None:
    """Say once what a node's programs run by, where it is not what one would expect."""
    if remote.memory.get("pythons") is not None:
        return
    more = f" and {len(refused) - MAX_TOLD} more" if len(refused) > MAX_TOLD else ""
    seen = "; ".join(refused[:MAX_TOLD]) + more
    remote.memory["pythons"] = seen
    if found:
        text = f"its programs run by {found}" + (f" ({seen})" if seen else "")
    else:
        text = "no python3 from 3.8 on starts there, so plain sh does what it can" + (f" ({seen})" if seen else "")
    remote.emit(Noted(node=remote.node.name, text=text))


def _version(text: str) -> str:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return f" (it is {number >> 24}.{number >> 16 & 255})" if number else ""


async def open_script(remote: Remote, text: bytes) -> Channel:
    """Run a script by sh and return its channel: for nodes without python3.

    Args:
        text: POSIX shell without a NUL; stdin, stdout, stderr and the exit status are its own once it runs.

    Raises:
        NoShell, ConnectError, AuthError, HostKeyError, ConnectionLost: as Remote.open.
    """
    nonce = _nonce()
    channel = await remote.open(_SCRIPT_LINE.format(nonce=nonce))
    try:
        await Session(remote, channel).greet(nonce)
        channel.send(b"%d\n%s" % (len(text), text))
        await channel.drain()
    except BaseException:
        await channel.close()
        raise
    return channel


def _nonce() -> str:
    return "asyncdeploy-" + secrets.token_hex(8)
