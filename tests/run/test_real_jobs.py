"""Ring 4: jobs over real sshd outlive whoever started them, and end when they are told to, whoever tells them."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.node_side import proc
from asyncdeploy.run.job import Job
from asyncdeploy.run.job_log import follow_job
from asyncdeploy.run.jobs import job_status, list_jobs, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import JobExists, JobLost
from tests.support.beds.client import answer_of, client
from tests.support.beds.keeper import children
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.hiding import alive, all_hidden, hiding_line
from tests.support.programs.holders import kill, kill_holders, supervisor_of
from tests.support.tools import need, need_root
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]
STATUS = "s = await job_status(remote, await find_job(remote, args[0])); print(s.state, s.exit_status, s.last_lines)"
WAIT = "s = await wait_job(remote, await find_job(remote, args[0])); print(s.state, s.exit_status, s.last_lines)"
STOP = "s = await stop_job(remote, await find_job(remote, args[0]), grace_s=0.5); print(s.state, s.survivors)"


def folder_of(sshd: SshdNode, job: Job) -> Path:
    """The job's folder on the node."""
    return sshd.home / ".asyncdeploy" / "jobs" / job.id


async def test_f1_a_job_outlives_us_and_sshd(sshd_nodes: tuple[SshdNode, ...], tmp_path: Path) -> None:
    """Whoever can log in attaches by its id: another process, with another home."""
    sshd = sshd_nodes[0]
    line = "echo first; until [ -e go ]; do sleep 0.02; done; echo last; exit 4"
    work = "job = await start_job(remote, args[0], name='deep'); print(job.id, flush=True); await wait_job(remote, job)"
    async with client(sshd, work, line) as starter:
        assert starter.stdout is not None
        job_id = (await starter.stdout.readline()).decode().strip()
        starter.send_signal(signal.SIGKILL)
    sshd.end_sessions(signal.SIGKILL)
    os.kill(sshd.pid, signal.SIGKILL)
    sshd.restart()
    assert await answer_of(sshd, STATUS, job_id, home=tmp_path) == "running None"
    async with client(sshd, WAIT, job_id, home=tmp_path) as waiter:
        (sshd.home / "go").touch()
        out, _ = await waiter.communicate()
    assert out.decode() == "exited 4 first\nlast\n"


async def test_f8_stop_finds_what_hides(sshd_nodes: tuple[SshdNode, ...], tmp_path: Path) -> None:
    sshd = sshd_nodes[0]
    async with at(sshd) as remote:
        job = await start_job(remote, hiding_line(), name="hiding")
        seen = await all_hidden(sshd.home)
        assert await answer_of(sshd, STOP, job.id, home=tmp_path) == "signalled ()"
        assert alive(seen) == []
        assert (await job_status(remote, job)).signal == "TERM"


async def test_a_timeout_is_kept_while_we_are_away(sshd_nodes: tuple[SshdNode, ...]) -> None:
    sshd = sshd_nodes[0]
    async with at(sshd) as remote:
        job = await start_job(remote, Command(hiding_line(), timeout_s=2.5), name="long")
        seen = await all_hidden(sshd.home)
    await eventually(lambda: alive(seen) == [])
    async with at(sshd) as remote:
        end = await wait_job(remote, job)
        assert (end.state, end.signal, end.timed_out, end.ok) == ("signalled", "TERM", True, False)


async def test_f5_supervisor_and_keeper_are_killed(sshd_nodes: tuple[SshdNode, ...], tmp_path: Path) -> None:
    """What it wrote down before finds the processes that nothing else tells of."""
    sshd = sshd_nodes[0]
    async with at(sshd) as remote:
        job = await start_job(remote, hiding_line(), name="orphan")
        seen = await all_hidden(sshd.home)
        sessions = folder_of(sshd, job) / "sessions"
        hidden = {f"{process.pid}:{process.start}" for process in seen[2:]}
        await eventually(lambda: sessions.exists() and hidden <= {*sessions.read_text().split()})
        kill_holders(folder_of(sshd, job))
        status = await job_status(remote, job)
        assert (status.state, status.ok, status.ended) == ("orphaned", False, False)
        with pytest.raises(JobExists):  # it runs, even if nobody will know how it ended
            await start_job(remote, "true", name="orphan")
        assert await answer_of(sshd, STOP, job.id, home=tmp_path) == "lost ()"
        assert alive(seen) == []
        end = await wait_job(remote, job)
        assert (end.state, end.ok) == ("lost", False)
        assert isinstance(end.failure(), JobLost)


async def test_no_line_is_lost_or_repeated_while_the_line_breaks(sshd_nodes: tuple[SshdNode, ...]) -> None:
    sshd = sshd_nodes[0]
    line = 'i=0; while [ "$i" -lt 400 ]; do i=$((i+1)); echo "line $i ä"; sleep 0.005; done; printf end'
    wanted = [f"line {number} ä" for number in range(1, 401)] + ["end"]
    got: list[str] = []
    async with at(sshd) as remote:
        job = await start_job(remote, line, name="log")
        async with follow_job(remote, job) as log:
            async for text in log:
                got.append(text)
                if len(got) in (20, 21, 150, 300):
                    sshd.end_sessions(signal.SIGKILL)
            assert log.state == "exited"
        assert got == wanted
        size = (folder_of(sshd, job) / "log").stat().st_size
        assert log.offset == size
        half = len("".join(f"{text}\n" for text in wanted[:200]).encode())
        async with follow_job(remote, job, offset=half) as log:
            assert [text async for text in log] == wanted[200:]


async def test_a_wait_goes_on_through_a_restart_of_sshd(sshd_nodes: tuple[SshdNode, ...]) -> None:
    """B6."""
    sshd = sshd_nodes[0]
    async with at(sshd) as remote:
        job = await start_job(remote, "until [ -e go ]; do sleep 0.02; done; exit 5", name="patient")
        waiting = asyncio.create_task(wait_job(remote, job))
        await eventually(sshd.sessions)
        sshd.end_sessions(signal.SIGKILL)
        sshd.restart()
        (sshd.home / "go").touch()
        end = await waiting
        assert (end.state, end.exit_status, end.ok) == ("exited", 5, False)


async def test_f6_two_machines_share_a_home(start_sshd: StartSshd) -> None:
    """Each knows its own jobs and lets the other's alone, though its pids may be somebody's here."""
    first = start_sshd("first", own_pids=True)
    second = start_sshd("second", own_pids=True, home=first.home)
    async with at(first) as here, at(second) as there:
        job = await start_job(here, "until [ -e go ]; do sleep 0.02; done; exit 6", name="train", site="/same")
        other = await start_job(there, "sleep 999", name="train", site="/same")
        assert {known.id for known in await list_jobs(here)} == {known.id for known in await list_jobs(there)}
        for remote, own, foreign in ((here, job, other), (there, other, job)):
            assert (await job_status(remote, own)).state == "running"
            assert (await job_status(remote, foreign)).state == "elsewhere"
            assert (await stop_job(remote, foreign, grace_s=0)).state == "elsewhere"
            assert (await wait_job(remote, foreign, timeout_s=30)).state == "elsewhere"
        assert (await stop_job(there, other, grace_s=0)).signal == "TERM"
        assert (await job_status(here, job)).state == "running"
        (first.home / "go").touch()
        assert (await wait_job(here, job)).exit_status == 6
        # Its end stands in the folder: now both know it.
        assert (await job_status(there, job)).exit_status == 6


def parent_of(pid: int) -> int:
    row = proc.process(pid)
    return row.parent if row is not None else 0


def tmux_server(sshd: SshdNode) -> int | None:
    """The pid of the node's tmux server."""
    return next((pid for pid, line in sshd.processes().items() if "new-session" in line), None)


async def test_f2_a_tmux_window_shows_the_job_and_is_no_more_than_that(start_sshd: StartSshd, tmp_path: Path) -> None:
    need("tmux")
    sshd = start_sshd("windows", config={"SetEnv": f"TMUX_TMPDIR={tmp_path}"})
    wait = "echo first words; until [ -e go ]; do sleep 0.02; done; echo last; exit 4"
    async with at(sshd) as remote:
        job = await start_job(remote, wait, name="v1.2", tmux=True)
        assert job.window == "v1_2"
        words = ["tmux", "capture-pane", "-p", "-t", "=v1_2:"]
        env = {**os.environ, "TMUX_TMPDIR": str(tmp_path)}
        await eventually(lambda: "first words" in subprocess.run(words, env=env, capture_output=True, text=True).stdout)
        twin = await start_job(remote, wait, name="v1_2", tmux=True)
        assert twin.window == "v1_2-2"
        assert Job.from_dict(job.to_dict()) == job
        server = await eventually(lambda: tmux_server(sshd))
        os.kill(server, signal.SIGKILL)
        await eventually(lambda: tmux_server(sshd) is None)
        assert (await job_status(remote, job)).state == "running", "the window's end is not the job's"
        (sshd.home / "go").touch()
        assert (await wait_job(remote, job)).exit_status == 4
        assert (await wait_job(remote, twin)).exit_status == 4
        (sshd.home / "go").unlink()
        third = await start_job(remote, wait, name="third", tmux=True)
        assert third.window == "third"
        (sshd.home / "go").touch()
        assert (await wait_job(remote, third)).exit_status == 4
        await eventually(lambda: tmux_server(sshd) is None, "the window closes behind the job")


async def test_j12_a_window_stays_where_the_keeper_goes_on(start_sshd: StartSshd, tmp_path: Path) -> None:
    need("tmux")
    sshd = start_sshd("windows", config={"SetEnv": f"TMUX_TMPDIR={tmp_path}"})
    wait = "until [ -e go ]; do sleep 0.02; done; echo last words; sleep 1"
    async with at(sshd) as remote:
        job = await start_job(remote, wait, name="seen", tmux=True)
        await eventually(lambda: tmux_server(sshd))
        kill(supervisor_of(folder_of(sshd, job)))
        looks: set[int] = set()

        def looked() -> bool:
            """Whether the window's shell has begun a fourth sleep: at its end it would begin one more, no other."""
            viewers = [pid for pid, line in sshd.processes().items() if line.startswith("tail -n +1 -f")]
            looks.update(child for viewer in viewers for child in children(parent_of(viewer)) if child != viewer)
            return len(looks) > 3

        await eventually(looked, "the window is still there")
        (sshd.home / "go").touch()
        words = ["tmux", "capture-pane", "-p", "-t", "=seen:"]
        env = {**os.environ, "TMUX_TMPDIR": str(tmp_path)}
        await eventually(lambda: "last words" in subprocess.run(words, env=env, capture_output=True, text=True).stdout)
        assert (await wait_job(remote, job)).ok
        await eventually(lambda: tmux_server(sshd) is None, "the window closes behind the job")


async def test_f10_a_log_that_fills_the_disk_does_not_lose_the_end(sshd_nodes: Sequence[SshdNode]) -> None:
    need_root()
    sshd = sshd_nodes[0]
    jobs = sshd.home / ".asyncdeploy" / "jobs"
    jobs.mkdir(parents=True, mode=0o700, exist_ok=True)
    jobs.parent.chmod(0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(jobs)], check=True)
    try:
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
            remote = pool.at(sshd.node)
            job = await start_job(remote, "seq 1000000; seq 1000000; exit 3", name="chatty")
            status = await wait_job(remote, job)
            async with follow_job(remote, job) as lines:
                got = [line async for line in lines]
    finally:
        subprocess.run(["umount", str(jobs)], check=True)
    assert (status.state, status.exit_status) == ("exited", 3)
    assert got[:100] == [str(number) for number in range(1, 101)]


async def test_f10_a_log_that_is_emptied_is_followed_from_its_new_beginning(sshd_nodes: Sequence[SshdNode]) -> None:
    sshd = sshd_nodes[0]
    async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
        remote = pool.at(sshd.node)
        line = "echo one; until [ -e emptied ]; do sleep 0.05; done; echo 2"
        job = await start_job(remote, Command(line, cwd=str(sshd.home)), name="rotated")
        got = []
        async with follow_job(remote, job) as lines:
            async for text in lines:
                got.append(text)
                if text == "one":
                    os.truncate(sshd.home / ".asyncdeploy/jobs" / job.id / "log", 0)
                    (sshd.home / "emptied").touch()
            assert lines.offset == len("2\n")
    assert got == ["one", "2"]
