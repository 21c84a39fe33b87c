"""A job, and a run, of which any process of ours is killed at any of its system calls, or meets a disk that fails."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.kill_points.points import (
    ALL,
    CHANGES,
    GROWS,
    POINTS,
    SEED,
    Doom,
    Plan,
    Tally,
    belonging,
    settled,
    spread,
    word_of,
)
from tests.support.remotes.shell_remote import ShellRemote

LINE = "echo x >>~/begun-{name}; sleep 0.1; echo 3 >~/end-{name}; exit 3"
WITHIN_S = 100.0  # a supervisor looks through /proc, and one that is traced does so slowly on a crowded machine
NEVER = 1 << 30  # of one process alone the calls are counted
HOLDERS = ("python3", "adeploy-keep", "adeploy-job")
FAULTS = [
    pytest.param("", None, False, 0.2, id="killed"),
    pytest.param("ENOSPC", GROWS, True, 0.04, id="full"),
    pytest.param("ENOSPC", CHANGES, False, 0.04, id="refused"),
    pytest.param("EIO", ALL, False, 0.06, id="broken"),
]


class Bed:
    """A node, what was counted on it, and what lived there before."""

    def __init__(self, folder: Path, remote: ShellRemote) -> None:
        self.folder, self.remote, self.home = folder, remote, remote.home
        self.number = 0
        self.alive: set[str] = set()

    async def settled(self, what: str) -> None:
        await settled(self.home, self.alive, what)

    def begun(self, name: str) -> int:
        """How often a line has begun."""
        path = self.home / f"begun-{name}"
        return len(path.read_text().split()) if path.exists() else 0

    async def play(self, doom: Doom, act: Callable[[ShellRemote, str], Awaitable[str]]) -> tuple[str, str]:
        """Do it where doom waits; what came of it, and its name."""
        self.number += 1
        name = f"odd-{self.number}"
        self.alive = set(belonging(self.home))
        async with ShellRemote(self.home, shell=doom.shell) as doomed:
            try:
                return await act(doomed, name), name
            except ad.DeployError as error:
                return word_of(error), name


async def start(remote: ShellRemote, name: str) -> str:
    await ad.start_job(remote, LINE.format(name=name), name=name, job_id=f"{name}-{'a' * 8}")
    return "started"


@pytest.mark.long
@pytest.mark.timeout(120 + POINTS)
@pytest.mark.parametrize("error, calls, on, share", FAULTS)
async def test_a_job_ends_as_it_is_said_or_was_never_started(
    tmp_path: Path, error: str, calls: tuple[str, ...] | None, on: bool, share: float
) -> None:
    dice, within = random.Random(SEED), str(tmp_path / "home") if error else ""
    async with ShellRemote(tmp_path / "home") as later:
        await start(later, "first")  # it makes folders; the worker that did it stays
        bed = Bed(tmp_path, later)
        doom = Doom(tmp_path, Plan("", 0, calls, within, error))
        await bed.play(doom, start)
        counted = await doom.counted(HOLDERS)
        assert {name for name, _ in counted} == set(HOLDERS)
        tally = Tally(f"a job whose holders make {counted} calls, {error or 'KILL'}")
        for (_, who), total in counted.items():
            for when in spread(total, share / len(counted), dice):
                plan = Plan(who, when, calls, within, error, on)
                doom = Doom(tmp_path, plan)
                came, name = await bed.play(doom, start)
                what = f"{plan}, which was {doom.hit()}; SEED={SEED}; it said {came}"
                job_id = f"{name}-{'a' * 8}"
                if came == "ConnectionLost":  # the same start again: it is the same job
                    await ad.start_job(later, LINE.format(name=name), name=name, job_id=job_id)
                if came in ("started", "ConnectionLost"):
                    status = await ad.wait_job(later, await ad.find_job(later, job_id), timeout_s=WITHIN_S)
                    assert (status.state, status.exit_status) == ("exited", 3), f"{what}: {status}"
                    assert bed.begun(name) == 1, what
                await bed.settled(what)
                known = [job.id for job in await ad.list_jobs(later)]
                assert (job_id in known) == (came in ("started", "ConnectionLost")), what
                tally.add(doom.hit(), came)
    tally.tell()


async def test_j6_a_job_that_runs_is_not_said_to_have_failed_by_a_disk_that_cannot_tell_of_it(tmp_path: Path) -> None:
    """The last thing that a start does on the node's disk is to look at what it has started."""
    async with ShellRemote(tmp_path / "home") as later:
        bed = Bed(tmp_path, later)
        for _ in range(2):  # the first one of all makes more folders than those behind it
            doom = Doom(tmp_path, Plan("0", NEVER, ("mkdir",), str(bed.home)))
            await bed.play(doom, start)
        total = (await doom.counted(["python3"]))["python3", "0"]
        doom = Doom(tmp_path, Plan("0", total, ("mkdir",), str(bed.home), "EIO"))
        came, name = await bed.play(doom, start)
        assert (came, doom.hit()) == ("started", "mkdir of python3")
        status = await ad.wait_job(later, await ad.find_job(later, f"{name}-{'a' * 8}"))
        assert status.exit_status == 3


async def run(remote: ShellRemote, name: str) -> str:
    done = await ad.run_command(remote, LINE.format(name=name))
    assert (done.status, done.signal) == (3, None), done
    return "ended with 3"


@pytest.mark.long
@pytest.mark.timeout(120 + POINTS)
async def test_a_run_ends_with_us_whoever_of_its_two_holders_dies(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    async with ShellRemote(tmp_path / "home") as later:
        await ad.list_jobs(later)  # its worker is there, and stays
        bed = Bed(tmp_path, later)
        doom = Doom(tmp_path, Plan("", 0))
        await bed.play(doom, run)
        counted = await doom.counted(("python3", "adeploy-keeper"))
        tally = Tally(f"a run whose holders make {counted} calls")
        for (_, who), total in counted.items():
            for when in spread(total, 0.1 / len(counted), dice):
                plan = Plan(who, when)
                doom = Doom(tmp_path, plan)
                came, name = await bed.play(doom, run)
                what = f"{plan}, which was {doom.hit()}; SEED={SEED}; it said {came}"
                await bed.settled(what)
                assert bed.begun(name) <= 1, what
                tally.add(doom.hit(), came)
    tally.tell()
