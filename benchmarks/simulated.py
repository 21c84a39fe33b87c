"""Thousands of nodes on one machine: asyncssh behind a port a node, in a few processes, and what we run there.

What a channel starts is a fork of a small Python that waits for that: our programs run as they are, each node in a home
of its own, without the login shell and the interpreter's start that a real one pays. As a process it is given a folder,
its first node's number and how many it has; it prints their ports, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

PROCESSES = 6
NONCE = re.compile(r"echo (asyncdeploy-[0-9a-f]+)\.at")
HELLO = f"{sys.hexversion} {sys.implementation.cache_tag}-{int.from_bytes(MAGIC_NUMBER[:2], 'little')}\n"


@contextlib.contextmanager
def simulated_bed(folder: Path, count: int) -> Iterator[Path]:
    """Bring up so many nodes and end them afterwards; what is given is the nodes' file, the host keys lie above it."""
    bench = folder / "bench"
    bench.mkdir(parents=True)
    for name in ("client", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    share = -(-count // PROCESSES)
    firsts = range(0, count, share)
    servers = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulated", str(folder), str(first), str(min(share, count - first))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        for first in firsts
    ]
    try:
        ports = [port for server in servers for port in json.loads(server.stdout.readline())]  # type: ignore[union-attr]
        key = str(folder / "client")
        nodes = [
            {"host": "127.0.0.1", "port": port, "user": "root", "name": f"s{number}", "key_path": key}
            for number, port in enumerate(ports)
        ]
        (bench / "nodes.json").write_text(json.dumps(nodes))
        public = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text("".join(f"[127.0.0.1]:{port} {public}" for port in ports))
        yield bench / "nodes.json"
    finally:
        for server in servers:
            server.communicate()  # closes its stdin


def serve_forks(control: socket.socket) -> None:
    """Fork for each channel that is sent, with the nonce and the home that come with it; ends with the server."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what ends
    while True:
        words, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not words:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            run_worker(fds[0], *words.decode().split("\0"))
        os.close(fds[0])


def run_worker(fd: int, nonce: str, home: str) -> None:
    """Be what the line of a worker starts on a node, behind a socket instead of two pipes."""
    os.setsid()
    os.chdir(home)
    os.environ["HOME"] = home
    for number in (0, 1):
        os.dup2(fd, number)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.close(fd)
    os.write(1, f"{nonce}.at{os.getpid()}\n{nonce}.{HELLO}".encode())
    file = os.fdopen(0, "rb")
    try:
        exec(file.read(int(file.readline())), {"__name__": "__main__", "f": file})
    finally:
        os._exit(0)


async def serve(folder: Path, first: int, count: int, control: socket.socket) -> None:
    """Listen for nodes until our stdin ends."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # no word for each connection whose client has ended
    import asyncssh  # only here: the process that forks was forked before, and stays small

    client = asyncssh.read_public_key(folder / "client.pub")

    class Login(asyncssh.SSHServer):
        def __init__(self, home: Path) -> None:
            self._home = home

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return key == client

        def session_requested(self) -> Session:
            return Session(self._home)

    class Session(asyncssh.SSHServerSession[bytes]):
        def __init__(self, home: Path) -> None:
            self._home = home

        def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
            self._channel = chan

        def exec_requested(self, command: str) -> bool:
            found = NONCE.search(command)
            if found is None:
                return False
            ours, theirs = socket.socketpair()
            socket.send_fds(control, [f"{found[1]}\0{self._home}".encode()], [theirs.fileno()])
            theirs.close()
            ours.setblocking(False)
            self._socket, self._waiting = ours, bytearray()
            loop.add_reader(ours, self._output)
            return True

        def data_received(self, data: bytes, datatype: Any) -> None:
            if not self._waiting:
                loop.add_writer(self._socket, self._input)
            self._waiting += data

        def eof_received(self) -> bool:
            return True

        def connection_lost(self, exc: Exception | None) -> None:
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()

        def _input(self) -> None:
            with contextlib.suppress(BlockingIOError, OSError):
                del self._waiting[: self._socket.send(self._waiting)]
            if not self._waiting:
                loop.remove_writer(self._socket)

        def _output(self) -> None:
            try:
                data = self._socket.recv(1 << 18)
            except OSError:
                data = b""
            if data:
                self._channel.write(data)
            else:
                loop.remove_reader(self._socket)
                self._channel.exit(0)

    loop, ports = asyncio.get_running_loop(), []
    key = asyncssh.read_private_key(folder / "host")
    for number in range(first, first + count):
        home = folder / "homes" / str(number)
        home.mkdir(parents=True)
        listening = await asyncssh.listen(
            "127.0.0.1",
            0,
            config=None,
            server_factory=lambda home=home: Login(home),
            server_host_keys=[key],
            kex_algs=["curve25519-sha256"],
            encoding=None,
        )
        ports.append(listening.get_port())
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main(words: Sequence[str]) -> None:
    """Be one of the processes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        serve_forks(theirs)
    theirs.close()
    asyncio.run(serve(Path(words[0]), int(words[1]), int(words[2]), ours))
    os._exit(0)  # hundreds of connections say no goodbyes


if __name__ == "__main__":
    main(sys.argv[1:])
