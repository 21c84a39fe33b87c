"""Ring 2: long commands and many jobs (R18): nothing below the limit breaks, whatever the letters."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import find_job, list_jobs, read_log, start_job, wait_job
from asyncdeploy.values.command import MAX_LINE_BYTES, Command
from tests.support.remotes.shell_remote import ShellRemote

LONG = MAX_LINE_BYTES - 100


@pytest.fixture(params=["python", "sh"])
async def any_remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home", python=request.param == "python") as remote:
        yield remote


def long_line(letter: str, end: str = "") -> str:
    """A line that says how many bytes it has for an argument."""
    text = letter * ((LONG - 200) // len(letter.encode()))
    return f"text='{text}'\nprintf %s \"$text\" | wc -c{end}"


@pytest.mark.parametrize("letter", ["x", "ü", "\x01"])
async def test_r18_a_run_of_nearly_what_is_allowed(any_remote: ShellRemote, letter: str) -> None:
    done = await run_command(any_remote, long_line(letter), check=True)
    assert int(done.text) == (LONG - 200) // len(letter.encode()) * len(letter.encode())


async def test_r18_variables_of_nearly_what_is_allowed(any_remote: ShellRemote) -> None:
    env = {f"V{number}": "ü" * 49_000 for number in range(3)}
    job = await start_job(any_remote, Command("printf %s%s $V0 $V2 | wc -c", env=env), name="wide")
    assert (await wait_job(any_remote, job, timeout_s=60)).ok
    assert int(await read_log(any_remote, job)) == 2 * 98_000


@pytest.mark.parametrize("letter", ["x", "ü", "\x01"])
async def test_r18_a_job_of_nearly_what_is_allowed_does_not_break_the_list(
    any_remote: ShellRemote, letter: str
) -> None:
    job = await start_job(any_remote, long_line(letter), name="long")
    assert (await wait_job(any_remote, job, timeout_s=60)).ok
    assert int(await read_log(any_remote, job)) == (LONG - 200) // len(letter.encode()) * len(letter.encode())
    (listed,) = await list_jobs(any_remote)
    assert (listed.id, listed.name) == (job.id, "long")
    assert 2000 <= len((await find_job(any_remote, job.id)).command) < 20_000


async def test_r18_a_list_may_be_longer_than_a_frame(remote: ShellRemote) -> None:
    job = await start_job(remote, long_line("x"), name="first")
    await wait_job(remote, job, timeout_s=60)
    folder = remote.home / ".asyncdeploy/jobs"
    for number in range(400):
        other = folder / f"other{number}-abcdefgh"
        other.mkdir()
        for name in ("spec.json", "exit"):
            text = (folder / job.id / name).read_text()
            (other / name).write_text(text.replace(job.id, other.name))
    assert len(await list_jobs(remote)) == 401
