"""What a run prints reaches the client whole and in order, whatever its channel is and whichever way it takes."""

import asyncio
import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.node_side import proc
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

# Two pipes are fed by two programs, as fast as they are read; what was taken of each is told at the end.
RUN = """
import os, select, subprocess, sys, time
from asyncdeploy.node_side.run.outflow import Outflow
if sys.argv[1] == "without splice" and hasattr(os, "splice"):
    del os.splice
if sys.argv[1] in ("refused", "forbidden"):
    def refuse(*args, **named):
        raise OSError(22 if sys.argv[1] == "refused" else 1, "no splice")
    os.splice = refuse
out, pipes = Outflow(), {}
for kind in (b"O", b"E"):
    program = f"import os\\nfor n in range(300): os.write(1, (b'%d{kind.decode()} ' % n) * 9999)"
    feeder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    pipes[feeder.stdout.fileno()] = kind, feeder
    os.set_blocking(feeder.stdout.fileno(), False)
os.set_blocking(1, False)
while pipes or not out.is_idle():
    poll = select.poll()
    if not out.is_idle():
        poll.register(1, select.POLLOUT)
    for fd in pipes if not out.is_full() else ():
        poll.register(fd, select.POLLIN)
    for fd, _ in poll.poll():
        if fd in pipes and out.take(fd, pipes[fd][0]):
            pipes.pop(fd)[1].wait()
        out.flush()
    out.add(b"H" + bytes(4))
    out.flush()
sys.stderr.write("spliced" if out.held else "copied")
"""
WANTED = {kind: b"".join((b"%d%s " % (n, kind)) * 9999 for n in range(300)) for kind in (b"O", b"E")}


def frames(data: bytes) -> dict[bytes, bytes]:
    """Take a channel's frames apart: what came of each kind."""
    found: dict[bytes, bytearray] = {}
    at = 0
    while at < len(data):
        kind, size = data[at : at + 1], int.from_bytes(data[at + 1 : at + 5], "big")
        found.setdefault(kind, bytearray()).extend(data[at + 5 : at + 5 + size])
        at += 5 + size
    return {kind: bytes(each) for kind, each in found.items()}


async def through(channel: str, way: str, path: Path) -> tuple[bytes, bytes]:
    """Run the program with a pipe, a socket or a file as its channel; return what came and which way it took."""
    with path.open("ab") as file:
        ours, theirs = socket.socketpair()
        stdout = {"pipe": subprocess.PIPE, "socket": theirs, "file": file}[channel]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", RUN, way, stdout=stdout, stderr=subprocess.PIPE
        )
        theirs.close()
        if channel == "socket":
            reader, writer = await asyncio.open_connection(sock=ours)
            data = await reader.read()
            writer.close()
            said = (await process.communicate())[1]
        else:
            ours.close()
            data, said = await process.communicate()
    return (path.read_bytes() if channel == "file" else data), said


@pytest.mark.parametrize(
    "channel, way, told",
    [
        ("pipe", "splice", b"spliced"),
        ("socket", "splice", b"spliced"),
        ("file", "refused", b"copied"),  # as of what is neither a pipe nor a socket
        ("pipe", "forbidden", b"copied"),  # as by the seccomp rules of a sandbox
        ("pipe", "without splice", b"copied"),
    ],
)
async def test_two_floods_arrive_whole(channel: str, way: str, told: bytes, tmp_path: Path) -> None:
    data, said = await through(channel, way, tmp_path / "file")
    found = frames(data)
    assert said == told
    assert {kind: hashlib.sha256(found[kind]).hexdigest() for kind in WANTED} == {
        kind: hashlib.sha256(each).hexdigest() for kind, each in WANTED.items()
    }
    assert found[b"H"] == b""


async def test_what_a_node_prints_into_both_streams(start_sshd: Callable[..., SshdNode], tmp_path: Path) -> None:
    """The last words of a pipe that was made wide come as well, though nothing else is left of the command."""
    sshd = start_sshd("floods")
    line = "seq 1 2000000 & seq 1 1500000 >&2; wait; printf end; printf end >&2"
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd.known_hosts)) as pool:
        command = ad.Command(line, stdout_to=tmp_path / "out", stderr_to=tmp_path / "err")
        (await ad.run_command(pool.at(sshd.node), command)).check()
    for name, last in ("out", 2000000), ("err", 1500000):
        wanted = b"".join(b"%d\n" % n for n in range(1, last + 1)) + b"end"
        assert hashlib.sha256((tmp_path / name).read_bytes()).digest() == hashlib.sha256(wanted).digest(), name


async def test_a_command_that_reads_its_own_output_stays_on_the_leash(start_sshd: Callable[..., SshdNode]) -> None:
    """What the client was promised may be gone: no more frames can follow, and nothing is left running."""
    sshd = start_sshd("thief")
    line = "echo $$ >~/leader; exec 4</proc/self/fd/1; yes & yes >&2 & cat <&4 >/dev/null"
    async with at(sshd) as remote:
        with pytest.raises(ad.ConnectionLost):
            await ad.run_command(remote, ad.Command(line, stdout_to="/dev/null", stderr_to="/dev/null"))
    leader = int((sshd.home / "leader").read_text())
    await eventually(lambda: proc.process(leader) is None)
