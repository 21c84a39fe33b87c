"""The bed's users: their shells, homes and start files are real."""

from collections.abc import Callable

import pytest

from tests.support.beds.openssh import run_ssh, ssh
from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.users import EXECS_ZSH, EXITS, NOISY, SHELLS

UserNode = Callable[..., SshdNode]


@pytest.mark.parametrize("root", [False, True], ids=["user", "root"])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_login_shell_is_real(user_node: UserNode, shell: str, root: bool) -> None:
    sshd = user_node(shell, root=root)
    program = {"ash": "busybox"}.get(shell, shell)
    pid = "$fish_pid" if shell == "fish" else "$$"
    assert ssh(sshd, f"readlink /proc/{pid}/exe; true").rpartition("/")[2].startswith(program)
    assert ssh(sshd, "id -un; id -u; pwd").split() == [sshd.account.name, str(sshd.account.uid), str(sshd.home)]
    assert run_ssh(sshd, "exit 3").returncode == 3


def test_a_user_owns_its_home_and_sees_no_other(user_node: UserNode) -> None:
    first, second = user_node("bash"), user_node("dash")
    ssh(first, "touch ~/mine")
    assert (first.home / "mine").stat().st_uid == first.account.uid
    assert run_ssh(second, f"ls {first.home}").returncode != 0


def test_a_noisy_bashrc_prints_and_moves(user_node: UserNode) -> None:
    said = run_ssh(user_node("bash", NOISY), "pwd")
    assert said.stdout == "Welcome to the GPU cloud\n/\n"
    assert "disk is full" in said.stderr


def test_a_bashrc_that_exits_runs_nothing(user_node: UserNode) -> None:
    said = run_ssh(user_node("bash", EXITS), "echo never")
    assert (said.returncode, said.stdout) == (1, "")


def test_a_bashrc_that_execs_zsh_answers_zero_and_runs_nothing(user_node: UserNode) -> None:
    said = run_ssh(user_node("bash", EXECS_ZSH), "echo never")
    assert (said.returncode, said.stdout) == (0, "")


def test_nologin_refuses(user_node: UserNode) -> None:
    said = run_ssh(user_node("nologin"), "echo never")
    assert said.returncode == 1
    assert "never" not in said.stdout
