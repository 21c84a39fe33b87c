"""Ring 4: real OpenSSH servers, one a node, each with its own port, host key and home.

As root every node has a mount namespace of its own with its own /etc/passwd: the account that logs in has its home and
login shell from there, real to sshd and to every program, while nothing of the machine is changed and paths and pids
are the same inside and outside. A plain user's node lacks that: HOME is set by sshd, the shell is the user's own.
"""

import functools
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from asyncdeploy.nodes.parse import Node
from tests.support import secrecy, tools
from tests.support.beds import keeper
from tests.support.beds.disks import Disk, prepare
from tests.support.beds.sshd_node import Account, SshdNode
from tests.support.waiting import eventually_sync, is_alive

PREFIX = "adbed-"
# What may still be running when a test ends (a leash in its grace) gets this long before it counts as left behind.
QUIET_S = 10.0
# Below the ephemeral ports, so that no outgoing connection of anybody takes one between two starts of a server.
PORTS = range(10_000, 32_000)

# As a fresh Debian has them, in OpenSSH's own order of preference.
HOST_KEYS = ("ed25519", "ecdsa", "rsa")
# An RSA key takes 0.3 s: nodes share so many, and neighbours have different ones.
RSA_KEYS = 4

CONFIG = """\
HostKey {folder}/ssh_host_rsa_key
HostKey {folder}/ssh_host_ecdsa_key
HostKey {folder}/ssh_host_ed25519_key
AuthorizedKeysFile {bed}/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
PrintLastLog no
PidFile none
Subsystem sftp internal-sftp
"""


@attrs.frozen
class Place:
    """Where a server listens: an address, a port (None: a free one), and the words that run it there."""

    address: str = "127.0.0.1"
    port: int | None = None
    enter: tuple[str, ...] = ()


class SshdBed:
    """A folder with a client key and any number of nodes; `close` ends all of them."""

    def __init__(self) -> None:
        tools.need("sshd", "ssh-keygen")
        if os.geteuid() == 0:
            tools.need("unshare", "mount")
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        _remove_stale_folders()
        # Users other than root pass through it to their homes.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.folder.chmod(0o711)
        self.nodes: list[SshdNode] = []
        self.known_hosts = self.folder / "known_hosts"
        self.key_path = self.folder / "id_ed25519"
        _make_key(self.key_path)
        shutil.copy(f"{self.key_path}.pub", self.folder / "authorized_keys")
        (self.folder / "authorized_keys").chmod(0o644)

    def start(
        self,
        name: str,
        *,
        account: Account | None = None,
        home: Path | None = None,
        config: Mapping[str, object] | None = None,
        place: Place | None = None,
        own_pids: bool = False,
        files: Mapping[str, str | bytes] | None = None,
        disks: Mapping[str, Disk] | None = None,
    ) -> SshdNode:
        """Start one node.

        account: who logs in; root, or ourselves where we are not root. home: a folder to share with another node.
        config: sshd_config keywords that win over the bed's. own_pids: a pid namespace and host name of its own, as
        another machine has; its pids differ inside. files: what this node alone has in place of files of the machine
        (its PAM configuration, say), by their paths; as root only. disks: folders that are full there or read-only, "~"
        being the home; as root only.
        """
        folder = self.folder / name
        folder.mkdir(mode=0o711)
        account = account or (Account() if os.geteuid() == 0 else _ourselves())
        home = home or _make_home(folder / "home", account.uid)
        place = place or Place()
        self._make_host_keys(folder)
        _write_passwd(folder / "passwd", account, home)
        mounts = {"/etc/passwd": folder / "passwd", **_write_files(folder, files or {})}
        for _ in range(5):  # a port may be taken between the look and the bind
            port = place.port or _free_port()
            _write_config(self, folder, home, {**(config or {}), "Port": port, "ListenAddress": place.address})
            node = Node(place.address, user=account.name, port=port, name=name, key_path=str(self.key_path))
            spoilt = {str(home) if where == "~" else where: state for where, state in (disks or {}).items()}
            first = prepare(spoilt, self.folder) + (f"hostname {name} || exit\n" if own_pids else "")
            words = _server_words(folder, first, place.enter, mounts, own_pids=own_pids)
            process = _start_keeper(folder, words)
            sshd = SshdNode(node, home, account, self.known_hosts, folder, process, own_pids)
            try:
                sshd.start()
            except BaseException:
                sshd.close()
                if place.port is None and "Address already in use" in sshd.log():
                    continue
                raise
            self.nodes.append(sshd)
            self.write_known_hosts()
            return sshd
        raise RuntimeError(f"no free port for {name} in five tries")

    def write_known_hosts(self) -> None:
        """Write the keys of all nodes anew."""
        self.known_hosts.write_text("".join(node.known_hosts_lines for node in self.nodes))

    def reset(self) -> list[str]:
        """Make every node as it was at its start; what still ran, after a bounded wait, as text."""
        left: list[str] = []
        for node in self.nodes:
            try:
                eventually_sync(lambda node=node: not node.processes(), within_s=QUIET_S)
            except AssertionError:
                left += [f"{node.node.name}: process {pid}: {line}" for pid, line in node.processes().items()]
            node.sweep()
            if not node.is_running():
                node.start()
            secrecy.look_at_files(node.home)
            _empty(node.home)
        self.write_known_hosts()
        return left

    def _make_host_keys(self, folder: Path) -> None:
        for kind in HOST_KEYS:
            path = folder / f"ssh_host_{kind}_key"
            if kind != "rsa":
                _make_key(path, kind)
                continue
            private, public = _rsa_key(len(self.nodes) % RSA_KEYS)
            path.touch(mode=0o600)
            path.write_bytes(private)
            path.with_suffix(".pub").write_bytes(public)

    def close(self) -> None:
        """End every node and remove the folder."""
        try:
            for node in self.nodes:
                node.close()
                secrecy.look_at_files(node.home)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _server_words(
    folder: Path, first: str, enter: tuple[str, ...], mounts: Mapping[str, Path], *, own_pids: bool
) -> list[str]:
    sshd = [str(tools.find("sshd")), "-D", "-e", "-f", str(folder / "sshd_config")]
    if os.geteuid() != 0:
        return [*enter, *sshd]
    apart = ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc"] if own_pids else []
    script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"'
    pairs = [word for place, file in mounts.items() for word in (str(file), place)]
    return [*enter, "unshare", "--mount", *apart, "--", "sh", "-c", f"{first}{script}", "node", *pairs, "--", *sshd]


def _write_files(folder: Path, files: Mapping[str, str | bytes]) -> dict[str, Path]:
    """Write what a node alone has, and return where it lies, by where it is to be seen."""
    written = {}
    for number, (place, content) in enumerate(files.items()):
        path = folder / f"file-{number}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if path.read_bytes().startswith(b"#!") else 0o644)
        written[place] = path
    return written


def _start_keeper(folder: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", keeper.__file__, str(folder / "log"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def _write_config(bed: SshdBed, folder: Path, home: Path, config: Mapping[str, object]) -> None:
    own = "".join(f"{key} {value}\n" for key, value in config.items())  # sshd takes the first of two
    if os.geteuid() != 0:
        own += f"SetEnv HOME={home}\n"
    if _sshd_version() >= (9, 8):
        own += "PerSourcePenalties no\n"  # all nodes and tests share one source address
    (folder / "sshd_config").write_text(own + CONFIG.format(folder=folder, bed=bed.folder))


def _write_passwd(path: Path, account: Account, home: Path) -> None:
    rows = [row for row in Path("/etc/passwd").read_text().splitlines() if not row.startswith(f"{account.name}:")]
    rows.insert(
        0, f"{account.name}:{account.password}:{account.uid}:{account.uid}:a test's account:{home}:{account.shell}"
    )
    path.write_text("\n".join(rows) + "\n")
    path.chmod(0o644)


@functools.cache
def _sshd_version() -> tuple[int, ...]:
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0, 0)


def _ourselves() -> Account:
    entry = pwd.getpwuid(os.getuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_shell)


def _make_home(path: Path, uid: int) -> Path:
    path.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(path, uid, uid)
    return path


def _make_key(path: Path, kind: str = "ed25519") -> None:
    size = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "bed", "-f", str(path)], check=True)


@functools.cache
def _rsa_key(number: int) -> tuple[bytes, bytes]:
    """The private and the public half of one of the keys that this process has made."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rsa-{number}"
        _make_key(path, "rsa")
        return path.read_bytes(), path.with_suffix(".pub").read_bytes()


def _free_port() -> int:
    for _ in range(100):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port in a hundred tries")


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_stale_folders() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not is_alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sshd_bed() -> Iterator[SshdBed]:
    """Four nodes that live as long as the run; tests ask for `sshd_nodes`."""
    bed = SshdBed()
    try:
        for number in range(4):
            bed.start(f"node-{number}")
        yield bed
    finally:
        bed.close()


@pytest.fixture
def sshd_nodes(sshd_bed: SshdBed) -> Iterator[tuple[SshdNode, ...]]:
    """Four real sshd nodes with empty homes; whatever the test leaves running on them fails it."""
    yield tuple(sshd_bed.nodes)
    left = sshd_bed.reset()
    assert not left, "the test left running:\n  " + "\n  ".join(left)


@pytest.fixture
def sshd_test_bed() -> Iterator[SshdBed]:
    """A bed of this test alone, still without nodes."""
    bed = SshdBed()
    try:
        yield bed
    finally:
        bed.close()


def without_python() -> dict[str, str]:
    """The files of a node that has no python3: in place of each of the machine's stands one that nobody can start."""
    tools.need_root()
    places = {path.resolve() for folder in ("/usr/bin", "/usr/local/bin") for path in Path(folder).glob("python3*")}
    return {str(path): "" for path in places}


@pytest.fixture
def plain_sshd(sshd_test_bed: SshdBed) -> SshdNode:
    """A node of this test alone that has no python3."""
    return sshd_test_bed.start("plain", files=without_python())


@pytest.fixture
def start_sshd(sshd_test_bed: SshdBed) -> Callable[..., SshdNode]:
    """`start_sshd(name, ...)`, as `SshdBed.start`: nodes of this test alone, killed with all they run at its end."""
    return sshd_test_bed.start
