"""Users of a node with all kinds of login shells and start files.

A user is a line of the node's own /etc/passwd with a uid of its own: real to sshd, to the kernel and to every program,
while the machine's user database stays as it is and nothing has to be removed. And one more user, who is a stranger to
us: he prepares folders and waits.
"""

import functools
import os
import random
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import Account, SshdNode

# What stands in people's .bashrc; sshd's bash reads it for every command.
NOISY = "echo Welcome to the GPU cloud; echo 'your disk is full' >&2; cd /\n"
EXITS = "exit 1\n"
EXECS_ZSH = "exec zsh\n"
# Above what useradd gives and below the kernel's nobody.
UIDS = range(61_000, 64_000)
SHELLS = ("bash", "dash", "zsh", "fish", "ash", "tcsh", "mksh")


def shell_path(bed: SshdBed, shell: str) -> str:
    """The absolute path of a login shell; "ash" is busybox under that name."""
    if shell == "ash":
        tools.need("busybox")
        link = bed.folder / "ash"
        if not link.is_symlink():
            link.symlink_to(str(tools.find("busybox")))
        return str(link)
    tools.need(shell)
    return str(tools.find(shell))


def start_user_node(bed: SshdBed, shell: str, bashrc: str | None = None, *, root: bool = False) -> SshdNode:
    """Start a node whose account has this login shell: a new user, or root."""
    tools.need_root()
    mark = secrets.token_hex(3)
    path = shell_path(bed, shell)
    account = Account(shell=path) if root else Account(f"ad{mark}", random.choice(UIDS), path)
    sshd = bed.start(f"{shell}-{mark}", account=account)
    if bashrc is not None:
        write_owned(sshd, ".bashrc", bashrc)
    return sshd


def write_owned(sshd: SshdNode, name: str, text: str) -> Path:
    """Write a file in a node's home as its user would."""
    path = sshd.home / name
    path.write_text(text)
    os.chown(path, sshd.account.uid, sshd.account.uid)
    return path


STRANGER = 61_999
"""A user without an account: all that counts is that he is neither root nor us."""


class Stranger:
    """A user who is not ours; `shared` is a folder where he and we may write, as in /tmp."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared

    def sh(self, script: str) -> bool:
        """Run a script as he would, in the shared folder; whether it exited 0."""
        line = ["sh", "-c", script]
        done = subprocess.run(
            line, user=STRANGER, group=STRANGER, extra_groups=[], cwd=self.shared, check=False, env={}
        )
        return done.returncode == 0

    def run(self, script: str) -> None:
        """The same, where it must succeed."""
        assert self.sh(script), script


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Another user, and a folder with the sticky bit that he shares with us; needs root."""
    tools.need_root()
    # Not below pytest's own folder, which is closed to him.
    shared = Path(tempfile.mkdtemp(prefix="ad-shared-"))
    shared.chmod(0o1777)
    try:
        yield Stranger(shared)
    finally:
        shared.chmod(0o700)
        shutil.rmtree(shared)


@pytest.fixture
def user_node(sshd_test_bed: SshdBed) -> Callable[..., SshdNode]:
    """`user_node(shell, bashrc=None, *, root=False)`: a node with this login shell, of this test alone.

    shell: bash, dash, zsh, fish, ash, csh, nologin, false or any program that is installed. bashrc: text of a .bashrc
    (NOISY, EXITS, EXECS_ZSH). root: log in as root instead of as a new user.
    """
    return functools.partial(start_user_node, sshd_test_bed)
