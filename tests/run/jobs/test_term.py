"""J15: TERM means save. It comes once, to the program that was named, and its helpers are there while it saves."""

import shlex
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from shutil import which

import pytest

from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.launch import stop_launch
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import list_jobs, start_job, stop_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandTimeout
from asyncdeploy.values.workspace import Site
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need
from tests.support.waiting import eventually, is_alive

# A trainer with a helper that dies of TERM, as a DataLoader's worker does, and without which it cannot save.
TRAINER = """
import os, signal, sys, time
ask, answer = os.pipe(), os.pipe()
helper = os.fork()
if helper == 0:
    while os.read(ask[0], 1):
        os.write(answer[1], b"x")
terms = 0
def save(*_):
    global terms
    terms += 1
    for _ in range(5):  # half a second, in which another TERM would be seen
        os.write(ask[1], b"?")
        assert os.read(answer[0], 1) == b"x"
        time.sleep(0.1)
    print("saving", flush=True)
    with open(sys.argv[1], "w") as file:
        file.write(f"{terms} {os.waitpid(helper, os.WNOHANG)[0]}")
    os._exit(7)
signal.signal(signal.SIGTERM, save)
with open(sys.argv[1] + ".pids", "w") as file:
    file.write(f"{os.getpid()} {helper}")
while True:
    time.sleep(1)
"""


@pytest.fixture(params=["python", "dash", "busybox"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    """A node with python3, and two without."""
    home = tmp_path / "home"
    remote = ShellRemote(home) if request.param == "python" else PlainRemote(home, request.param)
    async with remote:
        (home / "train.py").write_text(TRAINER)
        yield remote
        for job in await list_jobs(remote):
            await stop_job(remote, job, grace_s=0)


LINES = {
    "plain": "{train}",
    "behind a cd": "cd . && {train}",
    "last of several": "true; sh -c 'cd . ; {train}; exit $?'",
    "a script": "chmod +x run.sh; ./run.sh",
    "uv run": "{uv} run -p {python} --no-project --no-config --offline {train}",
    "a pipe": "yes | {train} | tee out",
    "a script that traps its end": "{bash} -c 'trap \"echo bye >bye\" EXIT; {train}; exit $?'",
    "a script that traps TERM": "trap 'wait $!; exit 7' TERM; sh -c 'kill -TERM $$' & {train}; exit $?",
    "a script that passes it on": "trap 'kill -TERM $child; wait $child; exit $?' TERM; {train} & child=$!; wait",
}


@pytest.mark.parametrize("how", LINES)
async def test_j15_term_comes_once_to_the_program_that_was_named(node: ShellRemote, how: str) -> None:
    need("uv")
    train = shlex.join([sys.executable, "train.py", "saved"])
    (node.home / "run.sh").write_text(f"#!/bin/sh\n{train}\nexit $?\n")
    tools = {"train": train, "uv": which("uv"), "bash": which("bash"), "python": sys.executable}
    job = await start_job(node, LINES[how].format(**tools), name="train")
    written = node.home / "saved.pids"
    await eventually(lambda: written.exists() and len(written.read_text().split()) == 2)
    end = await stop_job(node, job, grace_s=25)
    assert (node.home / "saved").read_text() == "1 0"
    assert end.stopped
    assert end.exit_status == 7 or how == "a pipe"
    assert not end.survivors
    assert not any(is_alive(int(pid)) for pid in written.read_text().split())
    assert (node.home / "bye").exists() == (how == "a script that traps its end")
    assert how != "a pipe" or (node.home / "out").read_text() == "saving\n"


async def test_j15_a_script_may_save_by_itself(node: ShellRemote) -> None:
    line = "trap 'kill -0 $! && echo saved >saved; exit 5' TERM; sleep 987 & echo >ready; wait"
    job = await start_job(node, line, name="script")
    await eventually(lambda: (node.home / "ready").exists())
    end = await stop_job(node, job, grace_s=25)
    assert (node.home / "saved").exists()
    assert end.exit_status == 5


async def test_j15_a_loop_in_a_script_hears_of_it(node: ShellRemote) -> None:
    line = "trap 'exit 5' TERM; echo >ready; while :; do sleep 0.1; done"
    job = await start_job(node, line, name="loop")
    await eventually(lambda: (node.home / "ready").exists())
    assert (await stop_job(node, job, grace_s=25)).exit_status == 5


async def test_j15_what_follows_a_program_that_was_ended_does_not_stay(node: ShellRemote) -> None:
    job = await start_job(node, "sleep 986; echo >next; sleep 985", name="next")
    assert (await stop_job(node, job, grace_s=60)).survivors == ()
    assert (await stop_job(node, job)).stopped


async def test_j15_all_get_kill_after_the_grace(node: ShellRemote) -> None:
    line = "trap '' TERM; sleep 984 & echo $! >pids; echo $$ >>pids; sh -c 'sleep 983'; sleep 982"
    job = await start_job(node, line, name="deaf")
    await eventually(lambda: len((node.home / "pids").read_text().split()) == 2 if (node.home / "pids").exists() else 0)
    assert (await stop_job(node, job, grace_s=1)).survivors == ()
    assert not any(is_alive(int(pid)) for pid in (node.home / "pids").read_text().split())


async def test_j15_a_run_that_is_out_of_time_saves_as_well(node: ShellRemote) -> None:
    train = shlex.join([sys.executable, "train.py", "saved"])
    with pytest.raises(CommandTimeout):
        await run_command(node, Command(f"cd . && {train}", timeout_s=4))
    assert (node.home / "saved").read_text() == "1 0"


async def test_j15_ranks_get_it_once_as_well(start_sshd: Callable[..., SshdNode]) -> None:
    sshd = start_sshd("ranks")
    (sshd.home / "train.py").write_text(TRAINER)
    line = f"cd . && {shlex.quote(sys.executable)} train.py saved-$RANK; exit $?"
    async with pool_for(sshd) as pool:
        facts = await probe_node(pool.at(sshd.node))
        deployment = Deployment(sshd.node, Site(str(sshd.home)), SystemEnv(), facts)
        launch = await start_launch(pool, [deployment], Ranks(line, nproc_per_node=2))
        written = [sshd.home / f"saved-{rank}.pids" for rank in range(2)]
        await eventually(lambda: all(path.exists() and len(path.read_text().split()) == 2 for path in written))
        await stop_launch(launch, grace_s=25, pool=pool)
    assert [(sshd.home / f"saved-{rank}").read_text() for rank in range(2)] == ["1 0", "1 0"]
