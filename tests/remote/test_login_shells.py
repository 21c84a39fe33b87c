"""Ring 4: commands through the login shells that people have, real users with real start files."""

from collections.abc import Callable

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import read_log, start_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import NoShell
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.users import EXECS_ZSH, EXITS, NOISY, SHELLS, write_owned
from tests.support.words import WORDS, encoded

UserNode = Callable[..., SshdNode]
ECHO = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


@pytest.mark.parametrize("root", [False, True], ids=["user", "root"])
@pytest.mark.parametrize("shell", SHELLS)
async def test_words_variables_and_input_are_exact(user_node: UserNode, shell: str, root: bool) -> None:
    """C10, C12, C13."""
    sshd = user_node(shell, root=root)
    env = {f"WORD_{number}": word for number, word in enumerate(WORDS)} | {"BIG": "x" * 100_000}
    async with at(sshd) as remote:
        done = await run_command(remote, Command.of("python3", "-c", ECHO, *WORDS), check=True)
        assert done.stdout == b"\0".join(map(encoded, WORDS))
        told = await run_command(remote, Command("env -0", env=env), check=True)
        for name, value in env.items():
            assert f"{name}=".encode() + encoded(value) in told.stdout.split(b"\0")
        assert (await run_command(remote, "cat; id -un", check=True)).text == sshd.account.name
        assert (await run_command(remote, Command("cat", stdin=b"a\0b\xff\n"))).stdout == b"a\0b\xff\n"
        job = await start_job(remote, Command('printf %s "$WORD_3"; pwd', env=env), name="words")
        assert (await wait_job(remote, job)).ok
        assert await read_log(remote, job) == f"{env['WORD_3']}{sshd.home}\n"


@pytest.mark.parametrize("shell,file", [("bash", ".bashrc"), ("zsh", ".zshenv")])
async def test_c15_a_start_file_that_prints_and_moves_changes_nothing(
    user_node: UserNode, shell: str, file: str
) -> None:
    sshd = user_node(shell)
    write_owned(sshd, file, NOISY)
    async with at(sshd) as remote:
        done = await run_command(remote, "pwd")
        assert (done.text, done.stderr) == (str(sshd.home), b"")
        job = await start_job(remote, "pwd", name="quiet")
        assert (await wait_job(remote, job)).ok
        assert await read_log(remote, job) == f"{sshd.home}\n"


@pytest.mark.parametrize(
    "shell,bashrc",
    [("bash", EXITS), ("bash", EXECS_ZSH), ("bash", "exec cat\n"), ("nologin", None), ("false", None)],
    ids=["exits", "execs zsh", "execs cat", "nologin", "false"],
)
async def test_c15_c16_a_login_that_runs_nothing_of_ours_is_named(
    user_node: UserNode, monkeypatch: pytest.MonkeyPatch, shell: str, bashrc: str | None
) -> None:
    """No byte of ours is run, as zsh would run it, or shown, as cat would show it."""
    monkeypatch.setattr("asyncdeploy.remote.frames.GREETING_S", 1.0)
    sshd = user_node(shell, bashrc)
    async with at(sshd) as remote:
        with pytest.raises(NoShell) as caught:
            await run_command(remote, Command("touch ~/ran", stdin="touch ~/ran\n"))
        assert caught.value.node == sshd.node.name
        assert "touch" not in caught.value.describe()
        with pytest.raises(NoShell):
            await start_job(remote, "touch ~/ran", name="never")
    assert not (sshd.home / "ran").exists()
    assert not (sshd.home / ".asyncdeploy").exists()
