"""Detached jobs on nodes without python3, by dash, bash, and busybox alone."""

import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.run.job import Job, new_job_id
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.run.jobs import find_job, job_status, list_jobs, read_log, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import JobExists, JobFailed
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.holders import kill_holders
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.waiting import eventually, is_alive

DEAF = """sh -c 'trap "" TERM; echo $$ >~/pid-child; while :; do sleep 0.2; done' & trap "" TERM; echo $$ >~/pid-leader
while :; do sleep 0.2; done"""


@pytest.fixture(params=["dash", "bash", "busybox"])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PlainRemote]:
    async with PlainRemote(tmp_path / "home", request.param) as found:
        yield found


def folder_of(remote: ShellRemote, job: Job) -> Path:
    return remote.home / ".asyncdeploy" / "jobs" / job.id


async def test_a_job_runs_ends_and_is_found(remote: PlainRemote) -> None:
    assert not await has_python(remote)
    line = 'echo "out $GREETING"; echo err >&2; cat; pwd; exit 3'
    command = Command(line, cwd="~", env={"GREETING": 'it\'s "me"'}, stdin=b"some input\n")
    job = await start_job(remote, command, name="first", site="/srv/x")
    status = await wait_job(remote, job, timeout_s=20)
    assert (status.state, status.exit_status, status.ok, status.signal_possible) == ("exited", 3, False, False)
    assert status.started_at is not None
    assert status.ended_at is not None
    log = f'out it\'s "me"\nerr\nsome input\n{remote.home}\n'
    assert await read_log(remote, job) == log
    assert await read_log(remote, job, 5) == log[-5:]
    async with follow_job(remote, job, offset=len('out it\'s "me"\n')) as lines:
        assert [text async for text in lines] == ["err", "some input", str(remote.home)]
    assert await list_jobs(remote) == (await find_job(remote, job.id),)
    found = await find_job(remote, job.id)
    assert (found.name, found.site, found.command) == ("first", "/srv/x", line)


async def test_a_python_that_comes_later_understands_the_job(remote: PlainRemote, tmp_path: Path) -> None:
    done = await start_job(remote, "exit 4", name="done")
    runs = await start_job(remote, "until test -e go; do sleep 0.05; done; exit 5", name="runs")
    await wait_job(remote, done, timeout_s=20)
    async with ShellRemote(tmp_path / "home") as python:
        assert (await job_status(python, done)).exit_status == 4
        assert (await job_status(python, runs)).state == "running"
        with pytest.raises(JobExists):
            await start_job(python, "true", name="runs")
        (remote.home / "go").touch()
        assert (await wait_job(python, runs, timeout_s=20)).exit_status == 5
        theirs = await start_job(python, "kill -USR1 $$", name="theirs")
        await wait_job(python, theirs, timeout_s=20)
        assert (await job_status(remote, theirs)).signal == "USR1"
        assert len(await list_jobs(remote)) == len(await list_jobs(python)) == 3


async def test_one_of_a_name_at_a_time_and_a_start_repeated_is_one(remote: PlainRemote) -> None:
    job = await start_job(remote, "until test -e go; do sleep 0.05; done; echo once >>~/ran", name="one", site="/s")
    assert (await start_job(remote, "true", name="one", site="/s", job_id=job.id)).id == job.id
    with pytest.raises(JobExists) as caught:
        await start_job(remote, "true", name="one", site="/s")
    assert caught.value.job_id == job.id
    other = await start_job(remote, "true", name="one", site="/other")
    (remote.home / "go").touch()
    assert (await wait_job(remote, job, timeout_s=20)).ok
    assert (await wait_job(remote, other, timeout_s=20)).ok
    assert (remote.home / "ran").read_text() == "once\n"
    again = await start_job(remote, "true", name="one", site="/s")
    assert (await wait_job(remote, again, timeout_s=20)).ok


async def test_f8_a_stop_ends_all_of_it(remote: PlainRemote) -> None:
    job = await start_job(remote, Command(DEAF, on_end="echo ended >~/on_end"), name="deaf")
    files = [remote.home / "pid-leader", remote.home / "pid-child"]
    await eventually(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(file.read_text()) for file in files]
    status = await stop_job(remote, job, grace_s=1)
    assert (status.state, status.exit_status, status.signal_possible) == ("exited", 128 + signal.SIGKILL, True)
    assert not status.ok
    assert not any(map(is_alive, pids))
    assert (remote.home / "on_end").read_text() == "ended\n"
    assert (await stop_job(remote, job)).exit_status == 137


async def test_its_time_is_kept_while_we_are_away(remote: PlainRemote) -> None:
    job = await start_job(remote, Command("sleep 60", timeout_s=1), name="late")
    await remote.close()
    remote.idle.clear()
    status = await wait_job(remote, job, timeout_s=20)
    assert (status.state, status.timed_out, status.ok) == ("exited", True, False)


async def test_what_cannot_be_started_is_told_and_leaves_nothing(remote: PlainRemote) -> None:
    with pytest.raises(JobFailed, match="nowhere"):
        await start_job(remote, Command("true", cwd="/nowhere"), name="lost")
    assert await list_jobs(remote) == ()
    assert [path for path in (remote.home / ".asyncdeploy" / "jobs").rglob("*") if path.is_file()] == []
    unknown = Job(remote.node, new_job_id("no"), "no")
    assert (await job_status(remote, unknown)).state == "lost"


async def test_f5_without_its_keeper_it_is_an_orphan_that_can_be_stopped(remote: PlainRemote) -> None:
    job = await start_job(remote, "echo $$ >~/pid; exec sleep 60", name="orphan")
    await eventually(lambda: (remote.home / "pid").exists() and (remote.home / "pid").read_text())
    kill_holders(folder_of(remote, job))
    assert (await job_status(remote, job)).state == "orphaned"
    assert (await stop_job(remote, job, grace_s=1)).state == "lost"
    assert not is_alive(int((remote.home / "pid").read_text()))


async def test_h1_a_secret_is_in_no_argv_and_no_open_file(remote: PlainRemote) -> None:
    command = Command(
        'test -n "$TOKEN" && touch ~/has; until test -e go; do sleep 0.05; done', secrets={"TOKEN": "s3cr3t"}
    )
    job = await start_job(remote, command, name="secret")
    await eventually(lambda: (remote.home / "has").exists())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"s3cr3t" not in path.read_bytes(), path
        except OSError:
            continue
    for path in (remote.home / ".asyncdeploy").rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        assert path.is_dir() or b"s3cr3t" not in path.read_bytes()
    (remote.home / "go").touch()
    assert (await wait_job(remote, job, timeout_s=20)).ok


async def test_over_real_sshd_it_outlives_us(start_sshd: Callable[..., SshdNode]) -> None:
    # The account's shell takes our own python's name away, as a node without one would.
    force = """sh -c 'eval "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed s/python3/no-python-here/g)"'"""
    sshd = start_sshd("plain", config={"ForceCommand": force})
    rule = HostKeys.strict(sshd.known_hosts)
    async with Pool(host_keys=rule) as pool:
        assert not await has_python(pool.at(sshd.node))
        line = "echo begun; until test -e ~/go; do sleep 0.05; done; echo over; exit 6"
        job = await start_job(pool.at(sshd.node), line, name="on")
    (sshd.home / "go").touch()
    async with Pool(host_keys=rule) as pool:
        status = await wait_job(pool.at(sshd.node), job, timeout_s=20)
        assert status.exit_status == 6
        assert await read_log(pool.at(sshd.node), job) == "begun\nover\n"


async def test_what_a_login_exports_does_not_carry_the_script(remote: PlainRemote) -> None:
    remote.env.update({"s": "mine", "n": "mine"})
    job = await start_job(remote, Command("env", secrets={"TOKEN": "s3cr3t"}), name="env")
    await wait_job(remote, job, timeout_s=20)
    lines = [line for line in (await read_log(remote, job)).splitlines() if "s3cr3t" in line]
    assert lines == ["TOKEN=s3cr3t"]
