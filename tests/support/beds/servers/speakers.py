"""Servers that are no sshd, or one that has gone mad: what they say is the test's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from asyncdeploy.nodes.parse import Node

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def speaker(speak: Speak, key_path: str | Path, *, name: str = "speaker") -> AsyncIterator[Node]:
    """A port at which each connection is spoken to so, as a node; all of them end with the block."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await speak(reader, writer)
        except ConnectionError:
            pass  # the client has heard enough
        finally:
            running.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield Node("127.0.0.1", user="root", port=port, name=name, key_path=str(key_path))
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


def saying(*words: bytes, stay: bool = False, after: bytes = b"") -> Speak:
    """Say this at once; stay until the client goes, or close; `after`: say it only when a line has come."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after:
            await reader.readline()
        for word in (*words, after):
            writer.write(word)
            await writer.drain()
        while stay and await reader.read(4096):
            pass

    return speak


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say again what was said."""
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Short lines without an end, slowly."""
    while True:
        writer.write(b"la la la\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes without an end and without a line."""
    while True:
        writer.write(b"\xff\x00" * 32768)
        await writer.drain()
