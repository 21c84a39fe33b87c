"""Exit status 127 (R14): which word was looked for is read from whoever says it, and where from what was set."""

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import JobStatus
from asyncdeploy.run.jobs import start_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandFailed
from asyncdeploy.values.not_found import hint_of_missing
from tests.support.remotes.shell_remote import ShellRemote


@pytest.mark.parametrize("line", ["nosuch a b", "exec nosuch", "echo hi; nosuch", "env nosuch", "timeout 5 nosuch"])
async def test_r14_a_run_says_which_word_and_where(remote: ShellRemote, line: str) -> None:
    path = "/usr/bin:/bin:/opt/ours/bin"
    with pytest.raises(CommandFailed, match="command exited 127: ") as caught:
        await run_command(remote, Command(line, env={"PATH": path}), check=True)
    assert caught.value.hint.startswith(f"nosuch was looked for on the PATH of the login, {path}; ")


async def test_r14_a_job_says_where_too(remote: ShellRemote) -> None:
    job = await start_job(remote, "exec nosuch", name="fails")
    status = await wait_job(remote, job, timeout_s=30)
    failure = status.failure()
    assert failure is not None
    assert failure.hint.startswith(f"nosuch was looked for on the PATH of the login, {remote.env['PATH']}; ")
    assert JobStatus.from_dict(status.to_dict()) == status


@pytest.mark.parametrize(
    "said",
    [
        "sh: 1: exec: nosuch: not found",
        "/dev/fd/9: line 3: nosuch: command not found",
        "E: mksh: nosuch: inaccessible or not found",
        "zsh:1: command not found: nosuch",
        "env: \u2018nosuch\u2019: No such file or directory",
        "ash: exec: line 0: nosuch: not found",
        "setsid: failed to execute nosuch: No such file or directory",
        "timeout: failed to run command \u2018nosuch\u2019: No such file or directory",
        "xargs: nosuch: No such file or directory",
    ],
)
def test_r14_whoever_says_it(said: str) -> None:
    assert hint_of_missing(said, "/bin").startswith("nosuch was looked for on the PATH of the login, /bin; ")


def test_r14_what_an_environment_puts_in_front_is_looked_through_first() -> None:
    line = "unset PYTHONHOME; export PATH='/home/me/p/.venv/bin'${PATH:+:$PATH}\npython x"
    hint = hint_of_missing("sh: 2: exec: python: not found", "/bin", line)
    assert hint.startswith("python was looked for in /home/me/p/.venv/bin and on the PATH of the login, /bin; ")
