"""Ring 4, H1: a canary secret reaches the command, and shows nowhere: no ps, file, log, event, error, repr or JSON."""

import copy
import hashlib
import json
import logging
import pickle
import pprint
import secrets
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.jobs import start_all
from asyncdeploy.fleet.launch import fan_out, wait_launch
from asyncdeploy.fleet.run import run_all
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.torchrun import Torchrun
from asyncdeploy.nodes.report import FleetError
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import find_job, job_status, list_jobs, start_job, stop_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import CommandFailed, CommandTimeout
from asyncdeploy.values.events import Event, describe
from asyncdeploy.values.shown.table import Described
from asyncdeploy.values.shown.uncaught import ForPeople
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.secrecy import Sightings, sightings_of
from tests.support.tools import need_torch

# Prints what only who knows the secret can know, stays long enough to be looked at, and fails.
PROGRAM = """\
import hashlib, os, sys, time
print(hashlib.sha256(os.environ["CANARY"].encode()).hexdigest(), flush=True)
time.sleep(0.3)
raise SystemExit(int(sys.argv[1]))
"""


@pytest.fixture
def canary() -> str:
    """A text that stands nowhere else, with what quoting and JSON would have to escape."""
    return f"canary{secrets.token_hex(16)}"


def told(value: object) -> Iterable[str]:
    """All the texts that a value of ours gives of itself."""
    yield repr(value)
    yield str(value)
    yield format(value)
    yield pprint.pformat(value)
    if hasattr(value, "to_dict"):
        yield json.dumps(value.to_dict(), default=repr)
    if attrs.has(type(value)):
        yield repr(attrs.asdict(value))  # type: ignore[call-overload]  # any attrs instance
    if isinstance(value, Described):
        yield value.describe()
        yield value._repr_html_()
    if isinstance(value, ForPeople):
        yield value.describe()
        yield "".join(value._render_traceback_())
    if isinstance(value, BaseException):
        yield "".join(traceback.format_exception(value))
        yield "".join(traceback.TracebackException.from_exception(value).format())
    if isinstance(value, Event):
        yield describe(value) or ""


def check_hidden(canary: str, values: Iterable[object]) -> None:
    """Fail if one of the values tells the canary."""
    for value in values:
        for text in told(value):
            assert canary not in text, type(value)


def check_unseen(sightings: Sightings, caplog: pytest.LogCaptureFixture, canary: str) -> None:
    """Fail if the canary was seen in ps, a file or a log, or if nobody looked."""
    assert sightings.places == set()
    assert sightings.looks > 10
    assert any(b"hashlib" in line or b"program.py" in line for line in sightings.arguments)
    assert any(record.name.startswith("asyncssh") and record.levelno == logging.DEBUG for record in caplog.records)
    for record in caplog.records:
        assert canary not in record.getMessage() + repr(record.args) + repr(record.msg)


async def test_the_watch_sees_what_is_not_kept_secret(sshd_nodes: tuple[SshdNode, ...], canary: str) -> None:
    sshd = sshd_nodes[0]
    with sightings_of(canary, [sshd.home]) as sightings:
        async with Pool(host_keys=HostKeys.strict(sshd.known_hosts)) as pool:
            await run_command(
                pool.at(sshd.node), f"umask 077; echo {canary} > file; sh -c 'sleep 0.3; :' {canary}; mv file kept"
            )
    assert {place.partition(" ")[0] for place in sightings.places} == {"arguments", "file"}
    assert f"file {sshd.home}/file, mode 600" in sightings.places


async def test_runs_and_jobs(
    sshd_nodes: tuple[SshdNode, ...], canary: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    digest = hashlib.sha256(canary.encode()).hexdigest()
    events: list[Event] = []
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    command = attrs.evolve(Command.of("python3", "-c", PROGRAM, "3"), secrets={"CANARY": canary}, stdin="input")
    (tmp_path / "project").mkdir()
    seen: list[object] = [command]
    with sightings_of(canary, [sshd.home for sshd in sshd_nodes]) as sightings:
        async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts), observer=events.append) as pool:
            remote = pool.at(nodes[0])
            done = await run_command(remote, command)
            assert done.text == digest
            with pytest.raises(CommandFailed) as failed:
                await run_command(remote, command, check=True)
            with pytest.raises(CommandTimeout) as late:
                await run_command(remote, attrs.evolve(command, timeout_s=0.1))
            report = await run_all(nodes, command, pool=pool)
            with pytest.raises(FleetError) as fleet:
                report.unwrap()
            job = await start_job(remote, command, name="secret")
            status = await wait_job(remote, job)
            assert status.last_lines == digest
            deployments = (await deploy_all(nodes, Workspace(tmp_path / "project"), SystemEnv(), pool=pool)).unwrap()
            jobs = await start_all(deployments, command, name="all", pool=pool)
            stopped = await stop_job(remote, jobs.unwrap()[0], grace_s=0)
            await wait_job(pool.at(nodes[1]), jobs.unwrap()[1])
            known = [await find_job(remote, job.id), *await list_jobs(remote), await job_status(remote, job)]
    errors = [failed.value, late.value, fleet.value, *fleet.value.exceptions, status.failure()]
    without = [done, report, *report, job, status, *deployments, jobs, stopped, *known, *errors, *events]
    check_hidden(canary, [*seen, *without])
    assert all(canary.encode() not in pickle.dumps(value) for value in without)
    check_unseen(sightings, caplog, canary)


async def test_a_launch(
    sshd_nodes: tuple[SshdNode, ...], canary: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    need_torch()
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    project = tmp_path / "project"
    project.mkdir()
    (project / "program.py").write_text(PROGRAM)
    launcher = Torchrun("program.py", "3", secrets={"CANARY": canary}, nproc_per_node=1, python=sys.executable)
    with sightings_of(canary, [sshd.home for sshd in sshd_nodes]) as sightings:
        async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts), observer=events.append) as pool:
            nodes = [sshd.node for sshd in sshd_nodes[:2]]
            launch = await fan_out(nodes, Workspace(project), launcher, SystemEnv(), grace_s=1, pool=pool)
            launch.save(tmp_path / "launch.json")
            report = await wait_launch(launch, pool=pool)
    digest = hashlib.sha256(canary.encode()).hexdigest()
    logs = [path.read_text() for sshd in sshd_nodes[:2] for path in sshd.home.glob(".asyncdeploy/jobs/*/log")]
    assert any(digest in log for log in logs)
    with pytest.raises(FleetError) as fleet:
        report.unwrap()
    without = [launch, Launch.load(tmp_path / "launch.json"), *launch.jobs, launch.placement, report, *report]
    without += [fleet.value, *fleet.value.exceptions, *events]
    check_hidden(canary, [launcher, *launcher.commands(launch.placement), *without])
    assert all(canary.encode() not in pickle.dumps(value) for value in without)
    assert canary not in (tmp_path / "launch.json").read_text()
    check_unseen(sightings, caplog, canary)


def test_a_secret_travels_in_a_pickle_and_a_copy_but_not_in_json(canary: str) -> None:
    """Another process of ours must be able to run the command; a file that people read must not hold the secret."""
    command = Command("true", secrets={"CANARY": canary})
    for other in (pickle.loads(pickle.dumps(command)), copy.deepcopy(command), attrs.evolve(command, cwd="/")):
        assert other.secret_values() == {"CANARY": canary}
        check_hidden(canary, [other])
    again = Command.from_dict(json.loads(json.dumps(command.to_dict())))
    assert [name for name, _ in again.secrets] == ["CANARY"]
    with pytest.raises(ValueError, match="CANARY: its value did not travel"):
        again.secret_values()


@pytest.mark.parametrize("value", ["nul\0", "x" * 200_000], ids=["NUL", "too long"])
def test_a_secret_that_is_refused_is_not_told(canary: str, value: str) -> None:
    with pytest.raises(ValueError, match="CANARY") as caught:
        Command("true", secrets={"CANARY": canary + value})
    check_hidden(canary, [caught.value])
