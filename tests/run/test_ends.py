"""How a run's end is told: a timeout with what was printed, what could not be ended, what was left running."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.run import run_all
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import start_job
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import CommandTimeout, ConnectionLost, TransferFailed
from asyncdeploy.values.events import Event, Noted
from tests.support.beds.sshd_node import SshdNode
from tests.support.leaks import open_descriptors
from tests.support.waiting import eventually, is_alive

StartSshd = Callable[..., SshdNode]


def pool_of(sshd: SshdNode, seen: list[Event] | None = None) -> Pool:
    return Pool(host_keys=HostKeys.strict(sshd.known_hosts), observer=None if seen is None else seen.append)


def notes(seen: list[Event]) -> str:
    return "\n".join(event.text for event in seen if isinstance(event, Noted))


@pytest.mark.parametrize("by", ["cancellation", "timeout_s"])
async def test_r4_half_an_input_starts_nothing(start_sshd: StartSshd, tmp_path: Path, by: str) -> None:
    """`cat > model.bin` once overwrote the file with 6 of 64 MiB."""
    sshd, chance = start_sshd("half"), random.Random(4)
    model, new = sshd.home / "model.bin", tmp_path / "new"
    new.write_bytes(bytes(48 << 20))
    async with pool_of(sshd) as pool:
        remote = pool.at(sshd.node)
        await run_command(remote, "true")
        for _ in range(12):
            model.write_bytes(b"old")
            within_s = 0.3 * chance.random() + 0.005
            command = Command("cat > model.bin", stdin=new, timeout_s=within_s if by == "timeout_s" else None)
            try:
                async with asyncio.timeout(within_s if by == "cancellation" else None):
                    await run_command(remote, command)
            except (TimeoutError, CommandTimeout) as error:
                if isinstance(error, CommandTimeout) and "was not started" in error.message:
                    assert model.read_bytes() == b"old"
            await run_command(remote, "true")  # the channel is closed, and its program gone, before this one answers
            # One that was started had all of its input; it may have been ended while it wrote.
            assert model.read_bytes() == b"old" or set(model.read_bytes()) <= {0}


@pytest.mark.parametrize("kind", ["run", "job"])
async def test_r4_an_input_that_changes_while_it_is_read_starts_nothing(tmp_path: Path, kind: str) -> None:
    """A checkpoint that its trainer writes anew is neither the old one nor the new one."""
    new = tmp_path / "new"
    new.write_bytes(bytes(16 << 20))
    async with LocalCluster(1) as cluster, cluster.pool() as pool:
        node, remote = cluster.nodes[0], pool.at(cluster.nodes[0])
        await run_command(remote, "true")
        cluster.freeze(node)  # what it does not take is not read on
        command = Command("cat > model.bin", stdin=new)
        call = run_command(remote, command) if kind == "run" else start_job(remote, command, name="writes")
        task = asyncio.ensure_future(call)
        await eventually(lambda: _position(new) > 0)
        os.truncate(new, 1 << 20)
        cluster.thaw(node)
        with pytest.raises(TransferFailed, match="it changed while it was read"):
            await task
        await run_command(remote, "true")
        assert not (cluster.home(node) / "model.bin").exists()


def _position(path: Path) -> int:
    """How far we have read a file; 0 before we have opened it."""
    for fd, target in open_descriptors().items():
        if target == str(path):
            return int(Path(f"/proc/self/fdinfo/{fd}").read_text().split()[1])
    return 0


async def test_r5_a_timeout_is_the_whole_calls(start_sshd: StartSshd) -> None:
    """Connecting, opening and starting included: a node that accepts and says nothing is not waited for."""
    sshd = start_sshd("mute")
    os.kill(sshd.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        async with pool_of(sshd) as pool:
            report = await run_all(sshd.node, Command("true", timeout_s=1), pool=pool)
        assert isinstance(report.outcomes[0].error, CommandTimeout)
        assert "was not started" in report.outcomes[0].error.message
        assert time.monotonic() - start < 10
    finally:
        os.kill(sshd.pid, signal.SIGCONT)


async def test_r8_a_timeout_keeps_what_was_printed(start_sshd: StartSshd) -> None:
    sshd = start_sshd("slow")
    async with pool_of(sshd) as pool:
        command = Command("seq 100; echo oops >&2; sleep 999", timeout_s=3)
        report = await run_all(sshd.node, command, pool=pool)
    (outcome,) = report
    assert outcome.state == "failed"
    assert isinstance(outcome.value, Completed)
    assert outcome.value.text.splitlines() == [str(number) for number in range(1, 101)]
    assert outcome.value.stderr == b"oops\n"
    assert outcome.value.signal == "TERM"
    assert isinstance(outcome.error, CommandTimeout)
    assert outcome.error.ended
    assert outcome.error.evidence == "oops"


async def test_r6_what_could_not_be_ended_is_named(start_sshd: StartSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be signalled (sudo): here by a node that says so of one."""
    sshd, seen = start_sshd("deaf"), list[Event]()
    source = "asyncdeploy.remote.worker.program_source"
    real = __import__("asyncdeploy.remote.programs", fromlist=["x"]).program_source

    def lying(module: str) -> bytes:
        text = real(module)
        return text.replace(b"survivors, leftovers = self.tree.survivors()", b"survivors, leftovers = [(7, b'sudo')]")

    monkeypatch.setattr(source, lying)
    monkeypatch.setattr("asyncdeploy.remote.interpreter.BYTECODE", "")
    async with pool_of(sshd, seen) as pool:
        with pytest.raises(CommandTimeout, match=r"could not be ended \(7 sudo\)") as caught:
            await run_command(pool.at(sshd.node), Command("sleep 999", timeout_s=1.5))
        assert not caught.value.ended
        assert "could not be ended: 7 sudo: sleep 999" in notes(seen)
        seen.clear()
        with anyio.move_on_after(1):
            await run_command(pool.at(sshd.node), "sleep 999")
        assert "could not be ended: 7 sudo: sleep 999" in notes(seen)


async def test_r7_what_is_ended_with_a_command_is_named(start_sshd: StartSshd) -> None:
    sshd, seen = start_sshd("left"), list[Event]()
    async with pool_of(sshd, seen) as pool:
        leaves = "setsid sleep 987 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; echo $!"
        done = await run_command(pool.at(sshd.node), leaves)
        assert done.ok
        assert not is_alive(int(done.text))
        assert done.leftovers == (f"{done.text} sleep",)
        assert "what the command left running was ended with it (start_job keeps it)" in notes(seen)
        seen.clear()
        assert (await run_command(pool.at(sshd.node), "true")).leftovers == ()
        assert notes(seen) == ""


@pytest.mark.parametrize("other", ["out", "link"])
async def test_r9_both_streams_may_go_into_one_file(
    sshd_nodes: tuple[SshdNode, ...], tmp_path: Path, other: str
) -> None:
    """Each wrote from the file's beginning: the first line of one stood where the other's had been."""
    (tmp_path / "link").symlink_to("out")
    line = "for i in 1 2 3; do echo out$i; echo err$i >&2; done"
    async with pool_of(sshd_nodes[0]) as pool:
        command = Command(line, stdout_to=tmp_path / "out", stderr_to=tmp_path / other)
        assert (await run_command(pool.at(sshd_nodes[0].node), command)).ok
    assert sorted((tmp_path / "out").read_text().split()) == ["err1", "err2", "err3", "out1", "out2", "out3"]


async def test_what_a_command_reads_is_not_emptied_for_what_it_prints(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("b\na\n")
    (tmp_path / "link").symlink_to("list")
    async with Pool() as pool:  # of a node that nobody could reach
        command = Command("sort", stdin=tmp_path / "list", stdout_to=tmp_path / "link")
        report = await run_all("root@192.0.2.1:9", command, pool=pool)
    assert "cannot be written: it is what the command reads" in str(report.outcomes[0].error)
    assert (tmp_path / "list").read_text() == "b\na\n"


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "denied"])
async def test_r13_an_input_that_cannot_be_read_is_said_before_anything_connects(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "input"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "denied":
        path = Path("/proc/self/mem/x")
    async with Pool() as pool:  # of a node that nobody could reach
        report = await run_all("root@192.0.2.1:9", Command("cat", stdin=path), pool=pool)
    error = report.outcomes[0].error
    assert isinstance(error, TransferFailed)
    assert error.path == str(path)
    assert error.message.startswith(f"stdin: {path} on this machine cannot be read: ")


async def test_a_node_that_is_lost_keeps_the_word_lost(start_sshd: StartSshd) -> None:
    sshd = start_sshd("lost")
    async with pool_of(sshd) as pool, asyncio.TaskGroup() as group:
        run = group.create_task(run_all(sshd.node, "echo begun; sleep 999", pool=pool))
        while not any("sleep 999" in line for line in sshd.processes().values()):
            await asyncio.sleep(0.05)
        sshd.end_sessions()
        report = await run
    assert report.outcomes[0].state == "unknown"
    assert isinstance(report.outcomes[0].error, ConnectionLost)
