"""R1, R19: the first python3 of a node is too old, broken, noisy, silent or greedy; the first that does is used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.worker import call_program
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import ToolMissing
from asyncdeploy.values.events import Event
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import notes
from tests.support.pythons import find_python
from tests.support.tools import need_root
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]
BAD = {
    "floods": "yes a line of some length that nobody wants to read | head -c 200000",
    "floods for ever": "exec yes",
    "hangs": "exec sleep 600",
    "hangs, deaf": "trap '' TERM HUP PIPE; while :; do sleep 1; done",
    "reads its input first": "cat > /dev/null",
    "exits at once": "exit 3",
    "is killed": "kill -9 $$",
    "is a shim": "echo 'pyenv: python3: command not found' >&2; exit 127",
    "closes its output": "exec >&- 2>&-; sleep 600",
}
GOOD = sorted({"3.9", "3.11", "3.13"})


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound python speaks within a second here."""
    monkeypatch.setattr("asyncdeploy.remote.interpreter.PYTHON_S", 4.0)
    monkeypatch.setattr("asyncdeploy.remote.interpreter.TRY_S", 4)


def stand_ins(sh: str) -> dict[str, str]:
    """Every python3 of the machine, as the node sees them."""
    paths = [path for path in Path("/usr/bin").glob("python3*") if path.name.removeprefix("python3.").isdigit()]
    return {str(path): f"#!/bin/sh\n{sh}\n" for path in [Path("/usr/bin/python3"), *paths]}


def good_python() -> str:
    """A Python that does, somewhere."""
    found = next((path for path in map(find_python, GOOD) if path is not None), None)
    if found is None:
        pytest.skip("no Python from 3.8 on is here but the system's own")
    return found


def install(home: Path, folder: str, python: str) -> None:
    """Put a python3 into a folder of the node's home."""
    path = home / folder / "bin" / "python3"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    path.chmod(0o755)


async def use(sshd: SshdNode) -> tuple[str, list[str]]:
    """Run, push and probe; which python the node's programs ran by, and what was said."""
    seen: list[Event] = []
    async with pool_for(sshd, observer=seen.append) as pool:
        remote = pool.at(sshd.node)
        for _ in range(2):
            done = await run_command(remote, Command("cat; exit 3", stdin="in", timeout_s=60))
            assert (done.status, done.stdout) == (3, b"in")
        return (await probe_node(remote)).python_version, notes(seen)


async def nothing_is_left(sshd: SshdNode) -> None:
    """What hung was ended too."""
    await eventually(lambda: not [line for line in sshd.processes().values() if "sshd" not in line])


@pytest.mark.parametrize("name", BAD)
@pytest.mark.long
async def test_r19_the_first_python_does_not_take_the_node_out(name: str, start_sshd: StartSshd) -> None:
    need_root()
    python = good_python()
    sshd = start_sshd("odd", files=stand_ins(BAD[name]))
    install(sshd.home, "miniconda3", python)
    version, said = await use(sshd)
    assert version.startswith("3.")
    assert len(said) == 1
    assert "its programs run by ~/miniconda3/bin/python3" in said[0]
    assert "/usr/bin/python3" in said[0]
    await nothing_is_left(sshd)


@pytest.mark.parametrize("minor", ["3.6", "3.7"])
async def test_r1_the_first_python_is_too_old_and_a_newer_one_is_elsewhere(minor: str, start_sshd: StartSshd) -> None:
    need_root()
    old, python = find_python(minor), good_python()
    if old is None:
        pytest.skip(f"there is no python{minor} on this machine")
    sshd = start_sshd("old", files=stand_ins(f'exec {old} "$@"'))
    install(sshd.home, ".local", python)
    version, said = await use(sshd)
    assert tuple(map(int, version.split(".")[:2])) >= (3, 8)
    assert len(said) == 1
    assert f"it is {minor}" in said[0]


@pytest.mark.parametrize("name", ["hangs", "is a shim"])
@pytest.mark.long
async def test_r1_where_none_does_sh_does_what_it_can_and_that_is_said_once(
    name: str, start_sshd: StartSshd, project: Path
) -> None:
    need_root()
    sshd = start_sshd("none", files=stand_ins(BAD[name]))
    (project / "in.txt").write_text("pushed\n")
    seen: list[Event] = []
    async with pool_for(sshd, observer=seen.append) as pool:
        remote = pool.at(sshd.node)
        done = await run_command(remote, Command("cat; exit 3", stdin="in"))
        assert (done.status, done.stdout) == (3, b"in")
        site = await push_code(remote, Workspace(project))
        assert Path(site.path, "in.txt").read_text() == "pushed\n"
        with pytest.raises(ToolMissing, match="python3"):
            async with call_program(remote, "probe", b""):
                pass
    said = notes(seen)
    assert len(said) == 1
    assert "plain sh" in said[0]
    assert "/usr/bin/python3" in said[0]
    await nothing_is_left(sshd)
