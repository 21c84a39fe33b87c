"""Ring 4: a node whose SSH server is Dropbear: connecting, running, jobs, moving files, ending, all as with sshd."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import read_log, start_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandTimeout
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.pools import at
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.odd_nodes import dropbear
from tests.support.waiting import eventually


@pytest.fixture
async def small(sshd_test_bed: SshdBed) -> AsyncIterator[tuple[SshdNode, Remote]]:
    """A node of this test, and it over a pool of its own."""
    sshd = dropbear.start(sshd_test_bed, "small")
    async with at(sshd) as remote:
        yield sshd, remote


async def test_commands_and_their_ends(small: tuple[SshdNode, Remote]) -> None:
    sshd, remote = small
    done = await run_command(remote, Command("cat; echo oops >&2; exit 3", stdin=b"x" * 3_000_000))
    assert (done.status, len(done.stdout) + done.dropped > 2_999_999, done.stderr) == (3, True, b"oops\n")
    assert (await run_command(remote, "kill -9 $$")).signal == "KILL"
    with pytest.raises(CommandTimeout) as caught:
        await run_command(remote, Command("setsid sleep 600 & sleep 600", timeout_s=1))
    assert caught.value.ended
    await eventually(lambda: not any("sleep" in line for line in sshd.processes().values()))


async def test_many_at_once(small: tuple[SshdNode, Remote]) -> None:
    _, remote = small
    lines = [f"sleep 0.2; echo {number}" for number in range(20)]
    done = await asyncio.gather(*(run_command(remote, line, check=True) for line in lines))
    assert [each.text for each in done] == [str(number) for number in range(20)]


async def test_a_job_outlives_us(sshd_test_bed: SshdBed) -> None:
    sshd = dropbear.start(sshd_test_bed, "small")
    async with at(sshd) as remote:
        job = await start_job(remote, "until test -e ~/go; do sleep 0.05; done; echo over", name="on")
    (sshd.home / "go").touch()
    async with at(sshd) as remote:
        assert (await wait_job(remote, job, timeout_s=30)).ok
        assert await read_log(remote, job) == "over\n"


async def test_files_go_and_come(small: tuple[SshdNode, Remote], project: Path, tmp_path: Path) -> None:
    sshd, remote = small
    (project / "weights.bin").write_bytes(bytes(range(256)) * 20_000)
    site = await push_code(remote, Workspace(project))
    assert (sshd.home / "project/weights.bin").read_bytes() == bytes(range(256)) * 20_000
    await run_command(remote, Command("cp weights.bin out.bin", cwd=site.path), check=True)
    await sync_results(remote, site.path, tmp_path / "home")
    assert [path.stat().st_size for path in (tmp_path / "home").rglob("out.bin")] == [256 * 20_000]


async def test_what_a_broken_connection_leaves_is_ended(sshd_test_bed: SshdBed) -> None:
    sshd = dropbear.start(sshd_test_bed, "small")
    async with at(sshd) as remote:
        running = asyncio.create_task(run_command(remote, "touch ~/begun; exec sleep 600"))
        await eventually(lambda: (sshd.home / "begun").exists())
        sshd.end_sessions()
        with pytest.raises(Exception, match=r"."):
            await running
        await eventually(lambda: not any("sleep" in line for line in sshd.processes().values()))
