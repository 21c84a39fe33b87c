"""What runs over one channel of a real sshd: exact bytes, bounded buffers, ends that are true."""

from collections.abc import Callable

import anyio
import pytest

from asyncdeploy.remote.transport import Exit
from asyncdeploy.values.errors import ConnectionLost
from tests.support.beds.pools import pool_for, run_line
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]


async def test_a_line_gives_its_bytes_and_its_exit(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("cat; echo wrong >&2; exit 3")
        channel.send(b"in\xff\x00")
        channel.send_eof()
        assert await channel.read() == b"in\xff\x00"
        assert await channel.read() == b""
        assert await channel.read_stderr() == b"wrong\n"
        assert await channel.wait() == Exit(3)
        await channel.close()
        await channel.close()
        assert await run_line(pool, sshd_nodes[0].node, "kill -KILL $$") == (b"", Exit(None, "KILL"))


async def test_b5_a_killed_session_is_a_lost_connection_never_an_exit(sshd_nodes: tuple[SshdNode, ...]) -> None:
    sshd = sshd_nodes[0]
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        channel = await remote.open("echo there; exec sleep 60")
        assert await channel.read() == b"there\n"
        remote.memory["python"] = True
        sshd.end_sessions()
        with pytest.raises(ConnectionLost):
            await channel.wait()
        with pytest.raises(ConnectionLost):
            await channel.read()
        with pytest.raises(ConnectionLost):
            await channel.drain()
        await channel.close()
        assert (await run_line(pool, sshd.node, "echo again"))[0] == b"again\n"
        assert remote.memory == {}
        sshd.sweep()


async def test_c6_a_slow_reader_holds_the_node_back(sshd_nodes: tuple[SshdNode, ...]) -> None:
    total = 30 << 20
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open(f"head -c {total} /dev/zero; echo $? >&2")
        inner = channel._channel
        await eventually(lambda: inner._paused, "reading is paused")
        assert len(inner._stdout) < 2 << 20
        size = most = 0
        while data := await channel.read():
            size += len(data)
            if size % (1 << 20) < len(data):  # the node gets the time to send all that it may
                await anyio.sleep(0.01)
            most = max(most, len(inner._stdout) + sum(len(waiting) for waiting, _ in inner._wire._recv_buf))
        assert size == total
        assert most < 4 << 20
        assert await channel.read_stderr() == b"0\n"
        await channel.close()


async def test_c5_unread_stderr_keeps_its_end_and_does_not_stop_stdout(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("head -c 8000000 /dev/zero >&2; echo END >&2; echo done")
        assert await channel.read() == b"done\n"
        await channel.wait()
        assert await channel.read() == b""
        kept = b""
        while data := await channel.read_stderr():
            kept += data
        assert kept.endswith(b"END\n")
        assert kept.startswith(b"[")
        assert len(kept) < (1 << 20) + 100
        await channel.close()


async def test_much_input_waits_in_drain(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("read go; wc -c")
        channel.send(b"go\n")
        for _ in range(16):
            channel.send(bytes(1 << 20))
            await channel.drain()
            assert channel._channel._wire.get_write_buffer_size() <= 2 << 20
        channel.send_eof()
        assert (await channel.read()).strip() == b"%d" % (16 << 20)
        await channel.close()


async def test_what_a_line_that_ended_does_not_take_is_dropped(sshd_nodes: tuple[SshdNode, ...]) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        channel = await pool.at(sshd_nodes[0].node).open("exit 0")
        assert await channel.wait() == Exit(0)
        await eventually(lambda: channel._channel._over)
        channel.send(b"late")
        await channel.drain()
        channel.send_eof()
        await channel.close()
