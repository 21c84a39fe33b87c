"""Send one file that an environment needs: content-addressed, verified by the node, renamed into place."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio

from asyncdeploy.envs.base import Asset
from asyncdeploy.remote.interpreter import has_python, open_script
from asyncdeploy.remote.sh import script
from asyncdeploy.remote.stage import Stage, stage
from asyncdeploy.remote.transport import Channel, Remote
from asyncdeploy.remote.worker import Call, call_program
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.errors import ConnectionLost, NodeFull, ProtocolError, TransferFailed
from asyncdeploy.values.events import BytesMoved
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines

BLOCK = 512 * 1024
SEND_S = 3600.0
"""How long one file may take: uv's 40 MB over a link of 100 kbit/s."""
MAX_ANSWER = 64 * 1024
_ROOM = regex(rb"[0-9]{1,18}\0[0-9]{1,18}")


async def send_asset(remote: Remote, asset: Asset) -> None:
    """Put an asset on a node, unless an equal file lies there.

    Args:
        remote: the node.
        asset: what goes where.

    Raises:
        NodeFull: no room for it.
        TransferFailed: it cannot be read here, or written or verified there.
        ConnectionLost: the connection broke; under the final name is the whole file or none.

    On cancellation the half-sent file is removed by the node.
    """
    with stage(remote, f"env: send {asset.name}") as ours:
        with anyio.move_on_after(SEND_S) as limit:
            await (_send_to_program if await has_python(remote) else _send_to_script)(remote, asset, ours)
        if limit.cancelled_caught:
            what = f"{asset.name} was not sent within {SEND_S:.0f} s"
            raise TransferFailed(remote.node.name, what, path=asset.target)


async def _blocks(remote: Remote, asset: Asset, stage_name: str) -> AsyncGenerator[bytes, None]:
    done = 0
    try:
        with asset.source.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            while block := await run_in_thread(file.read, BLOCK):
                yield block
                done += len(block)
                if remote.observed:
                    remote.emit(BytesMoved(node=remote.node.name, stage=stage_name, done=done, total=total))
    except OSError as error:
        what = f"{asset.source} on this machine: {error.strerror}"
        raise TransferFailed(remote.node.name, what, path=str(asset.source)) from error


async def _send_to_program(remote: Remote, asset: Asset, ours: Stage) -> None:
    try:
        size = asset.source.stat().st_size
    except OSError as error:
        what = f"{asset.source} on this machine: {error.strerror}"
        raise TransferFailed(remote.node.name, what, path=str(asset.source)) from error
    mode = "755" if asset.executable else "644"
    args = "\0".join([asset.target, asset.sha256, str(size), mode]).encode("utf-8", "surrogateescape")
    async with call_program(remote, "envs.asset", args) as call:
        kind, payload = await call.receive()
        if kind == b"W":
            await _send_blocks(call, asset)
            payload = await call.answer()
        elif kind != b"Z":
            raise ProtocolError(remote.node.name, f"a wish for {asset.name}, or an answer, was expected, got {kind!r}")
    word, _, rest = payload.partition(b"\0")
    if word == b"full":
        if not _ROOM.fullmatch(rest):
            what = f"{asset.name}: two numbers, bytes free and bytes needed, were expected, got {rest[:80]!r}"
            raise ProtocolError(remote.node.name, what)
        raise _full(remote, asset, *map(int, rest.split(b"\0")))
    ours.detail = _detail(remote, asset, word, rest)


async def _send_blocks(call: Call, asset: Asset) -> None:
    async with aclosing(_blocks(call.remote, asset, f"env: send {asset.name}")) as blocks:
        async for block in blocks:
            call.send(b"D", block)
            await call.drain()
    call.send(b"E")


async def _send_to_script(remote: Remote, asset: Asset, ours: Stage) -> None:
    words = (asset.target, asset.sha256, "755" if asset.executable else "644")
    channel = await open_script(remote, script(("envs/asset",), *words))
    try:
        answer = await _first_line(channel)
        if answer == b"want":
            answer = await _feed_script(channel, remote, asset)
        errors = answer if answer in (b"have", b"done") else answer + b"\n" + await channel.read_stderr()
    finally:
        await channel.close()
    if b"No space left" in errors:
        raise _full(remote, asset, 0, 0)
    ours.detail = _detail(remote, asset, answer, errors)


async def _feed_script(channel: Channel, remote: Remote, asset: Asset) -> bytes:
    """Send the content to a script that waits for it, and return what it says then."""
    lost: ConnectionLost | None = None
    try:
        async with aclosing(_blocks(remote, asset, f"env: send {asset.name}")) as blocks:
            async for block in blocks:
                channel.send(block)
                await channel.drain()
        channel.send_eof()
    except ConnectionLost as error:
        lost = error  # a script that has had enough (the disk is full) ends, and its channel: its word says why
    answer = await _first_line(channel)
    if lost is not None and not answer:
        raise lost
    return answer


async def _first_line(channel: Channel) -> bytes:
    """Return what the script says next, without the line's end; at its end what is left."""
    text = b""
    while b"\n" not in text and len(text) < MAX_ANSWER and (data := await channel.read()):
        text += data
    return text.partition(b"\n")[0]


def _full(remote: Remote, asset: Asset, free: int, needed: int) -> NodeFull:
    figures = f": {free >> 20} MiB free, {needed >> 20} MiB needed" if free else ""
    hint = "free some space in the home folder there, or install uv on the node"
    where = asset.target.rpartition("/")[0]
    return NodeFull(remote.node.name, f"no room for {asset.name} in {where}{figures}", hint, "", where, free, needed)


def _detail(remote: Remote, asset: Asset, word: bytes, rest: bytes) -> str:
    """Return the stage's last word, or raise what the node's answer means."""
    node = remote.node.name
    if word in (b"have", b"done"):
        return "= there already" if word == b"have" else f"{asset.source.stat().st_size / 1e6:.1f} MB"
    if word == b"bad":
        what = f"{asset.name}: what arrived is not what its hash says ({asset.sha256[:12]}...)"
        hint = f"{asset.source} here may have been changed since it was installed: install it again"
        raise TransferFailed(node, what, hint, path=asset.target)
    if not word:
        raise ConnectionLost(node, f"the node did not say whether it took {asset.name}", evidence=last_lines(rest))
    evidence = last_lines(rest or word)
    raise TransferFailed(node, f"{asset.name} could not be put at {asset.target}", evidence=evidence, path=asset.target)
