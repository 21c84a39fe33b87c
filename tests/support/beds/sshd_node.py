"""One real OpenSSH server and all that runs below it."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import attrs

from asyncdeploy.nodes.parse import Node
from tests.support import secrecy
from tests.support.beds import keeper
from tests.support.waiting import eventually_sync, is_alive

SERVERS = ("sshd", "dropbear")


@attrs.frozen
class Account:
    """Who logs in: a line of the node's /etc/passwd. `shell` is an absolute path, `password` "" for none at all."""

    name: str = "root"
    uid: int = 0
    shell: str = "/bin/bash"
    password: str = "x"


@attrs.define(eq=False)
class SshdNode:
    """One node: a real sshd and all that runs below it.

    `node` is what the library gets, `home` the folder its account logs in to (the same path on the node), `known_hosts`
    a file with the keys of all nodes of its bed.
    """

    node: Node
    home: Path
    account: Account
    known_hosts: Path
    folder: Path
    _keeper: "subprocess.Popen[bytes]"
    _own_pids: bool
    _master: int = 0

    @property
    def pid(self) -> int:
        """The pid of the sshd that listens."""
        return keeper.children(self._master)[0] if self._own_pids else self._master

    @property
    def log_path(self) -> Path:
        """Where sshd writes what it has to say."""
        return self.folder / "log"

    @property
    def known_hosts_lines(self) -> str:
        """This node's lines for a known_hosts file, a key each, by address and by name."""
        where = self.node.host if self.node.port in (None, 22) else f"[{self.node.host}]:{self.node.port}"
        keys = [path.read_text().split()[:2] for path in sorted(self.folder.glob("ssh_host_*_key.pub"))]
        return "".join(f"{where},{self.node.name} {kind} {key}\n" for kind, key in keys)

    def public_key(self, kind: str) -> Path:
        """Where the public half of a host key lies: "ed25519", "ecdsa" or "rsa"."""
        return self.folder / f"ssh_host_{kind}_key.pub"

    def log(self) -> str:
        """All that sshd has said so far."""
        return self.log_path.read_text(errors="replace")

    def is_running(self) -> bool:
        """Whether the listening sshd lives."""
        return bool(self._master) and is_alive(self._master)

    def sessions(self) -> list[int]:
        """The pids of sshd's own processes, one or two a connection, without the one that listens."""
        return [pid for pid in self._below() if _is_sshd(pid) and is_alive(pid)]

    def processes(self) -> dict[int, str]:
        """Everything that commands run or left running on this node, by pid, wherever it hides; not sshd itself."""
        found = {pid: _command_line(pid) for pid in self._below() if not _is_sshd(pid)}
        secrecy.look(f"arguments of a process of {self.node.name}", *found.values())
        return found

    def start(self) -> None:
        """Start the listening sshd and wait until it does; ports taken meanwhile are the caller's to change."""
        self._master = self._ask("start")
        eventually_sync(lambda: self._listens() or not self.is_running(), f"sshd of {self.node.name} listens")
        if not self.is_running():
            raise RuntimeError(f"sshd of {self.node.name} ended at once: {self.log()[-2000:]}")

    def stop(self) -> None:
        """End the listening sshd as a service stop does: sessions and what they run live on."""
        if self.is_running():
            os.kill(self._master, signal.SIGKILL if self._own_pids else signal.SIGTERM)
        eventually_sync(lambda: not self.is_running(), f"sshd of {self.node.name} ends")

    def restart(self) -> None:
        """Stop and start again on the same port with the same keys."""
        self.stop()
        self.start()

    def end_sessions(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to every session's sshd, not to the one that listens and not to what runs."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):  # it has ended since, by itself or because another one did
                os.kill(pid, signum)

    def sweep(self) -> None:
        """Kill everything on the node but the listening sshd."""
        self._ask("sweep")

    def close(self) -> None:
        """End the node and everything on it."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=keeper.END_S + 10)
        self._keeper.stdout.close()

    def _below(self) -> list[int]:
        listens = {self._master, self.pid if self.is_running() else 0}  # two where it is the first of its own pids
        return [pid for pid in keeper.descendants(self._keeper.pid) if pid not in listens]

    def _ask(self, word: str) -> int:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(f"{word}\n".encode())
        self._keeper.stdin.flush()
        return int(self._keeper.stdout.readline())

    def _listens(self) -> bool:
        # Looked up instead of tried: newer sshd's punish an address that connects and says nothing.
        port = f"{self.node.port or 22:04X}"
        try:
            rows = Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return False
        return any(row.split()[1].endswith(f":{port}") and row.split()[3] == "0A" for row in rows)


def _is_sshd(pid: int) -> bool:
    """Whether a process is sshd's own; one without a program any more is ending and counts as such too."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith(SERVERS)
    except PermissionError:  # we are not root, and this is the half of sshd that has no rights
        return _command_line(pid).startswith(SERVERS)
    except (FileNotFoundError, ProcessLookupError):
        return True


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
