"""`reap` and Slurm jobs: those of dead processes are ended beside machines, and without any provider's key."""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from asyncdeploy.sources.slurm.ledger import Noted, note
from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, command_line

NAME = "ad-0123456789ab"
# The login node has one job, a file.
SQUEUE = "#!/bin/sh\ncat {folder}/{name} 2>/dev/null; true\n"
SCANCEL = "#!/bin/sh\nrm -f {folder}/{name}\n"


@attrs.frozen
class Held:
    """A person's home, in which a job is written down, and the login node's folder, in which it stands."""

    ad: CommandLine
    jobs: Path
    noted: Noted

    @property
    def is_standing(self) -> bool:
        return (self.jobs / NAME).exists()


@pytest.fixture
def held(start_sshd: Callable[..., SshdNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (folder / name).write_text(text.format(folder=folder, name=NAME))
        (folder / name).chmod(0o755)
    (folder / NAME).write_text("42|R|gpu[01-02]|1:00\n")
    login = start_sshd("login", config={"SetEnv": f"PATH={folder}:/usr/bin:/bin"})
    person = command_line(tmp_path / "home", tmp_path / "project", [login])
    monkeypatch.setenv("XDG_STATE_HOME", str(person.home / ".local" / "state"))
    noted: list[Noted] = []
    note(noted, NAME, login.node)
    return Held(person, folder, noted[0])


def test_a_dead_processs_job_is_ended_without_any_key(held: Held) -> None:
    said = held.ad("reap")
    assert (said.code, said.out) == (0, ""), said.err
    assert held.is_standing  # he who holds it lives
    held.noted.close()
    said = held.ad("reap", "--json")
    assert (said.code, said.documents[-1]["jobs"]) == (0, [NAME]), said.err
    assert not held.is_standing
    assert "no provider: set RUNPOD_API_KEY" in held.ad("reap").err  # nothing is written down any more


def test_one_that_cannot_be_proven_gone_is_said(held: Held) -> None:
    held.noted.close()
    (held.jobs / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    said = held.ad("reap")
    assert said.code == 1
    assert "Unable to contact slurm controller" in said.err
    assert f"Slurm job {NAME} may still run" in said.err
    assert "no provider" not in said.err
