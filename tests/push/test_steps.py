"""P2: what a step that makes an environment changed is no person's edit; what a person edited before or after is."""

from pathlib import Path

import pytest

from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.push.push import push_code
from asyncdeploy.values.errors import BootstrapFailed, DeployError, WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.envs import steps
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import tree, write
from tests.support.waiting import eventually

LOCK = "echo relocked > uv.lock; echo made > made.txt; rm -f gone.txt; echo filled > zero"


@pytest.fixture
def source(source: Path) -> Path:
    write(source, {"uv.lock": "locked here", "gone.txt": "g", "zero": ""})
    return source


def time_passes(site: Path) -> bool:
    """Whether a change of now is told from the last one by its time: a disk's clock has ticks."""
    beside = site.with_name("clock")
    before = beside.stat().st_ctime_ns if beside.exists() else 0
    beside.touch()
    return beside.stat().st_ctime_ns > before > 0


async def make(remote: ShellRemote, source: Path, *lines: str) -> None:
    """Push, and make an environment whose steps write into the pushed files."""
    site = await push_code(remote, source)
    await bootstrap_env(remote, site, steps(*(lines or (LOCK,))))


async def test_p2_what_a_step_changed_stays_until_another_one_is_pushed(
    either: ShellRemote, source: Path, site: Path
) -> None:
    await make(either, source)
    assert (site / "uv.lock").read_text() == "relocked\n"
    write(source, {"a.py": "changed"})
    await push_code(either, source)
    assert (site / "a.py").read_text() == "changed"
    assert (site / "uv.lock").read_text() == "relocked\n"
    assert (site / "gone.txt").read_text() == "g"
    await push_code(either, source)
    assert details(either.events, "push")[-1] == "= unchanged"
    write(source, {"uv.lock": "locked anew", "copy": "locked here", "made.txt": "now ours", "new": ""})
    await push_code(either, source)
    assert (site / "zero").read_text() == "filled\n"
    (site / "zero").write_text("")
    assert tree(site) == tree(source)


async def test_p2_what_a_step_changed_goes_with_what_was_pushed(either: ShellRemote, source: Path, site: Path) -> None:
    await make(either, source)
    (source / "uv.lock").unlink()
    await push_code(either, source)
    assert not (site / "uv.lock").exists()


async def test_p2_a_step_that_failed_is_no_person_either(either: ShellRemote, source: Path, site: Path) -> None:
    with pytest.raises(BootstrapFailed):
        await make(either, source, "echo half > uv.lock; exit 3")
    write(source, {"uv.lock": "locked anew"})
    await push_code(either, source)
    assert (site / "uv.lock").read_text() == "locked anew"


async def test_p2_a_step_that_was_ended_is_no_person_either(either: ShellRemote, source: Path, site: Path) -> None:
    site_ = await push_code(either, source)
    env = steps("echo half > uv.lock; exec sleep 60")
    env = type(env)(tuple(type(step)(step.name, step.line, timeout_s=1) for step in env.lines))
    with pytest.raises(DeployError):
        await bootstrap_env(either, site_, env)
    write(source, {"uv.lock": "locked anew"})
    await push_code(either, source)
    assert (site / "uv.lock").read_text() == "locked anew"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_p2_a_person_who_edits_beside_a_step_is_asked(
    either: ShellRemote, source: Path, site: Path, when: str
) -> None:
    pushed = await push_code(either, source)
    for step in ("before", "step", "after"):
        await eventually(lambda: time_passes(site), "the disk's clock moves on")
        if step == "step":
            await bootstrap_env(either, pushed, steps(LOCK))
        elif step == when:
            write(site, {"a.py": "a person's work", "uv.lock": "by hand"})
    write(source, {"a.py": "ours", "uv.lock": "locked anew"})
    with pytest.raises(WorkspaceConflict, match="a.py" if when == "before" else r"a\.py, uv\.lock"):
        await push_code(either, source)
    assert (site / "a.py").read_text() == "a person's work"
    await push_code(either, Workspace(source, on_conflict="overwrite"))
    assert (site / "a.py").read_text() == "ours"
