"""LocalCluster: what its nodes do and refuse, and that nothing of them is left."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.local.command import LocalProcess, Start
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.errors import HostKeyError
from tests.support.waiting import eventually, is_alive


@asynccontextmanager
async def connect(cluster: LocalCluster, node: Node, **options: object) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A bare asyncssh connection to one of the cluster's nodes."""
    terms: dict[str, object] = {
        "username": node.user,
        "client_keys": [str(node.key_path)],
        "known_hosts": str(cluster.known_hosts),
        "config": None,
        "encoding": None,
    }
    connection = await asyncssh.connect(node.host, node.port, **{**terms, **options})
    try:
        yield connection
    finally:
        connection.abort()
        await connection.wait_closed()


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(2) as cluster:
        yield cluster


async def test_nodes_have_their_own_port_key_and_home(cluster: LocalCluster) -> None:
    first, second = cluster.nodes
    assert [node.name for node in cluster.nodes] == ["local-0", "local-1"]
    assert first.port != second.port
    for node in cluster.nodes:
        async with connect(cluster, node) as connection:
            said = await connection.run("pwd; echo $HOME; echo $USER; echo $SSH_CONNECTION", stdin=asyncssh.DEVNULL)
            home, home_again, user, line = said.stdout.decode().splitlines()
            assert home == home_again == str(cluster.home(node))
            assert user == node.user
            assert line.split()[2:] == ["127.0.0.1", str(node.port)]
    assert len(set(cluster.known_hosts.read_text().split()[2::3])) == 2


async def test_nothing_of_our_environment_gets_in(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "sings")
    async with connect(cluster, cluster.nodes[0]) as connection:
        said = (await connection.run("env", env={"ASKED": "for"}, stdin=asyncssh.DEVNULL)).stdout.decode()
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert "HOME" in names
    assert not names & {"CANARY", "ASKED", "PYTEST_CURRENT_TEST", "VIRTUAL_ENV"}


@pytest.mark.parametrize("status", [0, 1, 3, 127, 254, 255])
async def test_the_exit_status_is_exact(cluster: LocalCluster, status: int) -> None:
    async with connect(cluster, cluster.nodes[0]) as connection:
        result = await connection.run(f"exit {status}", stdin=asyncssh.DEVNULL)
    assert (result.exit_status, result.exit_signal) == (status, None)


async def test_the_signal_is_exact(cluster: LocalCluster) -> None:
    async with connect(cluster, cluster.nodes[0]) as connection:
        result = await connection.run("kill -KILL $$", stdin=asyncssh.DEVNULL)
        assert result.exit_signal is not None
        assert (result.exit_status, result.exit_signal[0]) == (-1, "KILL")
        # A number that has no name still is a death by signal.
        result = await connection.run("kill -s 40 $$ || kill -40 $$", stdin=asyncssh.DEVNULL)
        assert result.exit_signal is not None
        assert result.exit_signal[0] == "40"


async def test_no_status_and_no_byte_is_lost_in_short_commands(cluster: LocalCluster) -> None:
    async with connect(cluster, cluster.nodes[0]) as connection:

        async def one(number: int) -> tuple[int | None, bytes, bytes]:
            line = f"echo out {number}; echo err {number} >&2; exit {number % 256}"
            result = await connection.run(line, stdin=asyncssh.DEVNULL)
            return result.exit_status, result.stdout, result.stderr

        for start in range(0, 200, 10):
            numbers = range(start, start + 10)
            for number, answer in zip(numbers, await asyncio.gather(*map(one, numbers)), strict=True):
                assert answer == (number % 256, b"out %d\n" % number, b"err %d\n" % number)


async def test_both_streams_and_input_pass_unchanged(cluster: LocalCluster) -> None:
    data = os.urandom(3_000_000)
    async with connect(cluster, cluster.nodes[0]) as connection:
        result = await connection.run("tee /dev/stderr", input=data)
    assert result.exit_status == 0
    assert result.stdout == data
    assert result.stderr == data


async def test_input_sent_with_the_request_arrives_and_ends(cluster: LocalCluster) -> None:
    async with connect(cluster, cluster.nodes[0]) as connection:
        assert (await connection.run("cat", input=b"early")).stdout == b"early"
        assert (await connection.run("cat", stdin=asyncssh.DEVNULL)).stdout == b""
        # A command that does not want its input does not stop anybody.
        assert (await connection.run("exec <&-; sleep 0.1; echo done", input=bytes(5_000_000))).stdout == b"done\n"


async def test_a_slow_reader_stops_the_command(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    count = cluster.home(node) / "count"
    program = (
        "import os, sys\n"
        "total = 0\n"
        "while True:\n"
        f"    total += os.write(1, bytes(65536)); open({str(count)!r}, 'w').write(str(total))\n"
    )
    async with connect(cluster, node) as connection:
        process = await connection.create_process(f'exec {sys.executable} -c "{program}"', window=65536, bufsize=65536)
        looks: deque[int] = deque(maxlen=30)

        def stands_still() -> bool:
            looks.append(int(count.read_text() or 0) if count.exists() else 0)
            return looks[-1] > 0 and len(looks) == 30 and len(set(looks)) == 1

        await eventually(stands_still, "the command waits for its reader")
        last = looks[-1]
        assert last < 4_000_000
        await process.stdout.readexactly(last)
        await eventually(lambda: int(count.read_text() or 0) > last, "it goes on")
        process.close()


async def test_a_command_outlives_its_channel_and_its_connection(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    async with connect(cluster, node) as connection:
        process = await connection.create_process("echo $$; exec sleep 1000")
        pid = int(await process.stdout.readline())
        process.close()
        await process.wait_closed()
        assert is_alive(pid)
        await eventually(lambda: cluster.processes(node) == {pid: "sleep 1000"}, "the shell has become sleep")
        assert cluster.processes(cluster.nodes[1]) == {}
    assert is_alive(pid)


async def test_a_closed_channel_closes_the_streams(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    async with connect(cluster, node) as connection:
        process = await connection.create_process("cat > got; echo $? > ended; echo x; sleep 0.1; echo y; touch never")
        process.stdin.write(b"half a wor")
        await eventually(lambda: (cluster.home(node) / "got").exists())
        process.close()
        await eventually(lambda: (cluster.home(node) / "ended").exists(), "cat saw the end of its input")
        await eventually(lambda: not cluster.processes(node), "it was ended by SIGPIPE")
    assert not (cluster.home(node) / "never").exists()


async def test_env_signals_pty_sftp_and_forwarding_are_refused(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    async with connect(cluster, node) as connection:
        process = await connection.create_process("echo $$; exec sleep 1000")
        pid = int(await process.stdout.readline())
        process.terminate()
        assert (await connection.run("echo still here", stdin=asyncssh.DEVNULL)).exit_status == 0
        assert is_alive(pid)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("true", term_type="xterm", request_pty="force")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", node.port)


async def test_sessions_are_limited_and_their_slots_come_back(cluster: LocalCluster) -> None:
    async with connect(cluster, cluster.nodes[0]) as connection:
        held = [await connection.create_process("cat") for _ in range(10)]
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            await connection.create_process("cat")
        assert refused.value.code == asyncssh.OPEN_CONNECT_FAILED
        held[0].stdin.write_eof()
        await held[0].wait_closed()
        assert (await connection.run("echo again", stdin=asyncssh.DEVNULL)).stdout == b"again\n"


async def test_only_our_key_gets_in(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(asyncssh.PermissionDenied):
        async with connect(cluster, node, client_keys=[stranger]):
            pass
    with pytest.raises(asyncssh.PermissionDenied):
        async with connect(cluster, node, username="somebody-else"):
            pass


async def test_a_jump_host_can_be_had() -> None:
    async with LocalCluster(2, forwarding=True) as cluster:
        first, second = cluster.nodes
        async with connect(cluster, first) as jump, connect(cluster, second, tunnel=jump) as connection:
            assert (await connection.run("pwd", stdin=asyncssh.DEVNULL)).stdout.decode().strip() == str(
                cluster.home(second)
            )


async def test_drop_cuts_but_the_command_lives(cluster: LocalCluster) -> None:
    node, other = cluster.nodes
    async with connect(cluster, node) as connection, connect(cluster, other) as bystander:
        process = await connection.create_process("echo $$; exec sleep 1000")
        pid = int(await process.stdout.readline())
        cluster.drop(node)
        await connection.wait_closed()
        result = await process.wait()
        assert (result.exit_status, result.exit_signal) == (None, None)
        assert is_alive(pid)
        assert (await bystander.run("true", stdin=asyncssh.DEVNULL)).exit_status == 0
    async with connect(cluster, node) as connection:
        assert (await connection.run("true", stdin=asyncssh.DEVNULL)).exit_status == 0


async def test_freeze_is_silence_and_thaw_goes_on(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    async with connect(cluster, node) as connection:
        process = await connection.create_process("cat")
        cluster.freeze(node)
        process.stdin.write(b"a line\n")
        answer = asyncio.create_task(process.stdout.readline())
        newcomer = asyncio.create_task(asyncio.open_connection(node.host, node.port))
        reader, writer = await newcomer  # the kernel lets it in, nobody greets it
        greeting = asyncio.create_task(reader.readline())
        assert not (await asyncio.wait([answer, greeting], timeout=0.3))[0]
        cluster.thaw(node)
        assert await answer == b"a line\n"
        assert (await greeting).startswith(b"SSH-2.0-")
        writer.close()
        process.stdin.write_eof()
        assert (await process.wait()).exit_status == 0


async def test_a_frozen_line_holds_little(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    async with connect(cluster, node) as connection:
        process = await connection.create_process("cat | wc -c")
        cluster.freeze(node)
        process.stdin.write(bytes(20_000_000))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.stdin.drain(), 0.5)
        cluster.thaw(node)
        process.stdin.write_eof()
        assert int(await process.stdout.read()) == 20_000_000


async def test_delay_keeps_the_order_and_ends(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    loop = asyncio.get_running_loop()
    async with connect(cluster, node) as connection:
        process = await connection.create_process("cat")
        cluster.delay(node, 0.1)
        before = loop.time()
        process.stdin.write(b"1\n")
        assert await process.stdout.readline() == b"1\n"
        assert loop.time() - before >= 0.2
        process.stdin.write(b"2\n")
        cluster.delay(node, 0)
        process.stdin.write(b"3\n")
        process.stdin.write_eof()
        assert await process.stdout.read() == b"2\n3\n"


async def test_another_login_shell() -> None:
    async with LocalCluster(1, shell="/bin/bash") as cluster:
        async with connect(cluster, cluster.nodes[0]) as connection:
            assert (await connection.run("echo $BASH", stdin=asyncssh.DEVNULL)).stdout == b"/bin/bash\n"


async def test_a_shell_that_is_missing_is_a_status() -> None:
    async with LocalCluster(1, shell="/no/such/shell") as cluster:
        async with connect(cluster, cluster.nodes[0]) as connection:
            result = await connection.run("true", stdin=asyncssh.DEVNULL)
    assert result.exit_status == 127
    assert b"No such file" in result.stderr


HIDING = {
    "a child": "sleep 1000 & echo $!; wait",
    "an orphan": "(sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)",
    "in a session of its own": "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!",
    "without its environment": "(env -i sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)",
    "deaf to TERM and HUP": "(trap '' TERM HUP; sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)",
}


@pytest.mark.parametrize("line", HIDING.values(), ids=HIDING.keys())
async def test_nothing_outlives_the_cluster(line: str) -> None:
    async with LocalCluster(1) as cluster:
        folder = cluster.folder
        async with connect(cluster, cluster.nodes[0]) as connection:
            process = await connection.create_process(line)
            pid = int(await process.stdout.readline())
            assert is_alive(pid)
    assert not is_alive(pid)
    assert not folder.exists()


async def test_cancelled_it_still_leaves_nothing() -> None:
    started = asyncio.Event()
    seen: list[int] = []
    folder = Path()

    async def hold() -> None:
        nonlocal folder
        async with LocalCluster(1) as cluster:
            folder = cluster.folder
            async with connect(cluster, cluster.nodes[0]) as connection:
                process = await connection.create_process("echo $$; trap '' TERM; sleep 1000")
                seen.append(int(await process.stdout.readline()))
                started.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(seen[0])
    assert not folder.exists()


async def test_cancelled_anywhere_in_its_start_nothing_listens() -> None:
    """As it begins to listen, too: asyncio's create_server gives nobody what it has made then."""
    turns, entered = 0, False
    while not entered:
        turns += 1
        cluster = LocalCluster(2)
        task = asyncio.create_task(cluster.__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        entered = not task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await cluster.__aexit__(None, None, None)
        assert not cluster.folder.exists()
    assert turns > 4


async def test_processes_of_others_are_not_touched() -> None:
    other = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
    async with LocalCluster(1) as cluster:
        assert cluster.processes(cluster.nodes[0]) == {}
    assert is_alive(other.pid)
    other.send_signal(signal.SIGKILL)
    await other.wait()


async def test_a_pool_reaches_all_nodes() -> None:
    async with LocalCluster(4) as cluster, cluster.pool() as pool:
        report = await map_nodes(cluster.nodes, lambda node: run_command(pool.at(node), "pwd"))
        said = [completed.stdout.decode().strip() for completed in report.unwrap()]
        assert said == [str(cluster.home(node)) for node in cluster.nodes]


async def test_a_pool_trusts_no_stranger() -> None:
    async with LocalCluster(1) as cluster, LocalCluster(1) as stranger, cluster.pool() as pool:
        with pytest.raises(HostKeyError):
            await run_command(pool.at(stranger.nodes[0]), "true")


async def test_bad_values_are_refused(cluster: LocalCluster) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LocalCluster(0)
    with pytest.raises(ValueError, match="at least 1"):
        LocalCluster(1, max_sessions=0)
    with pytest.raises(ValueError, match=r"one of local-0.* was expected, got elsewhere"):
        cluster.home(Node("elsewhere"))
    with pytest.raises(ValueError, match="0 or more"):
        cluster.delay(cluster.nodes[0], -1)


class _Nobody:
    """Who takes a command's output, and wants none."""

    def output(self, fd: int, data: bytes) -> None: ...

    def pause_input(self) -> None: ...

    def resume_input(self) -> None: ...

    def ended(self, status: int) -> None: ...


async def test_a_hang_up_at_any_moment_of_a_commands_start_is_no_error_in_debug_mode(tmp_path: Path) -> None:
    """asyncio then looks at a pipe once more when it is connected; one that was closed meanwhile raised ValueError."""
    asyncio.get_running_loop().set_debug(True)
    for turns in range(12):
        process = LocalProcess(Start(("/bin/true",), {}, tmp_path), _Nobody(), {})
        task = asyncio.ensure_future(process.run())
        while not process._leaders:  # it is started
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        process.hang_up()
        await task
