"""TCP proxies that deliver every byte later by a fixed time: links with delay, where the kernel has no netem."""

import asyncio
import contextlib

CHUNK = 1 << 18


async def serve(listen, target, one_way_s):
    """Carry what connects to ``listen``, (host, port), to ``target``; returns the server."""

    async def carry(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(*target)
        with contextlib.suppress(asyncio.CancelledError):  # the run is over, and a connection was not closed by both
            await asyncio.gather(_pump(reader, far_writer, one_way_s), _pump(far_reader, writer, one_way_s))
        for end in (writer, far_writer):
            end.close()

    return await asyncio.start_server(carry, *listen)


async def _pump(reader, writer, one_way_s):
    loop, under_way = asyncio.get_running_loop(), asyncio.Queue()

    async def deliver():
        while True:
            due, data = await under_way.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    try:
        while data := await reader.read(CHUNK):
            under_way.put_nowait((loop.time() + one_way_s, data))
    except ConnectionError:
        pass
    under_way.put_nowait((loop.time() + one_way_s, b""))
    await asyncio.gather(delivering, return_exceptions=True)
