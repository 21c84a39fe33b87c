"""Environments made on a node: once, in order, under a lock, and named as made only when they are."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asyncdeploy.envs.base import Env, Step
from asyncdeploy.envs.bootstrap import listener
from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.values.errors import BootstrapFailed
from asyncdeploy.values.events import OutputLine, StageFailed, StageFinished, StageStarted
from asyncdeploy.values.workspace import Site
from tests.support.envs import StepsEnv, steps
from tests.support.events import details, notes
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need
from tests.support.waiting import eventually, is_alive

NewRemote = Callable[[], ShellRemote]


@pytest.fixture
def home(folder: Path) -> Path:
    """The node's home, the project in it."""
    return folder.parent


@pytest.fixture
async def new_remote(home: Path) -> AsyncIterator[NewRemote]:
    async with AsyncExitStack() as stack:

        def make() -> ShellRemote:
            remote = ShellRemote(home)
            stack.push_async_callback(remote.close)
            return remote

        yield make


@pytest.fixture
def remote(new_remote: NewRemote) -> ShellRemote:
    return new_remote()


def marker(folder: Path) -> Path:
    return folder / ".asyncdeploy" / "env"


def count_calls(remote: ShellRemote) -> list[bytes]:
    """Return a list that grows by one for each call of a program over the channels that are open now."""
    calls: list[bytes] = []
    for channel in remote.channels:

        def send(data: bytes, old: Callable[[bytes], None] = channel.send) -> None:
            if data[:1] == b"C":
                calls.append(data)
            old(data)

        channel.send = send  # type: ignore[method-assign]
    return calls


async def failure(remote: ShellRemote, site: Site, env: Env) -> BootstrapFailed:
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, env)
    return caught.value


# --- the steps


async def test_steps_run_in_order_in_the_projects_folder_and_share_what_they_export(
    remote: ShellRemote, folder: Path
) -> None:
    (folder / "package").mkdir()
    site = Site(str(folder), project="package")
    await bootstrap_env(remote, site, steps("export A=1; pwd >out; cd /", 'pwd >>out; echo "$A" >>out; set -- x y z'))
    assert (folder / "package" / "out").read_text().splitlines() == [site.workdir, site.workdir, "1"]
    assert marker(folder).exists()
    assert stat.S_IMODE(marker(folder).parent.stat().st_mode) == 0o700


async def test_an_unchanged_environment_costs_one_call(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = steps("echo made >>log", looks="[ -f log ]")
    await bootstrap_env(remote, site, env)
    opens, calls = remote.opens, count_calls(remote)
    await bootstrap_env(remote, site, env)
    assert (remote.opens, len(calls)) == (opens, 1)
    assert (folder / "log").read_text() == "made\n"
    assert details(remote.events, "env") == ["", "= unchanged"]


async def test_no_steps_cost_no_call(remote: ShellRemote, site: Site, folder: Path) -> None:
    await probe_node(remote)
    calls = count_calls(remote)
    await bootstrap_env(remote, site, SystemEnv())
    assert calls == []
    assert not marker(folder).exists()


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock", "requirements-dev.txt", ".python-version"])
async def test_a_changed_project_file_makes_it_anew(remote: ShellRemote, site: Site, folder: Path, name: str) -> None:
    env = steps("echo made >>log")
    for text in ("a", "b", "b"):
        (folder / name).write_text(text)
        await bootstrap_env(remote, site, env)
    (folder / name).unlink()
    await bootstrap_env(remote, site, env)
    assert (folder / "log").read_text() == "made\n" * 3


async def test_files_around_a_monorepos_package_count_too(remote: ShellRemote, folder: Path) -> None:
    (folder / "libs" / "a").mkdir(parents=True)
    site, env = Site(str(folder), project="libs/a"), steps("echo made >>log")
    for _ in range(2):
        await bootstrap_env(remote, site, env)
    (folder / "uv.lock").write_text("new")
    await bootstrap_env(remote, site, env)
    assert (folder / "libs" / "a" / "log").read_text() == "made\n" * 2


async def test_another_environment_is_made_and_its_way_back_too(remote: ShellRemote, site: Site, folder: Path) -> None:
    for line in ("echo a >>log", "echo b >>log", "echo a >>log"):
        await bootstrap_env(remote, site, steps(line))
    assert (folder / "log").read_text() == "a\nb\na\n"


async def test_one_that_no_longer_works_is_made_anew(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = steps("mkdir made", looks="cd made")
    await bootstrap_env(remote, site, env)
    (folder / "made").rmdir()
    await bootstrap_env(remote, site, env)
    assert (folder / "made").is_dir()


async def test_a_step_with_nothing_to_do_is_skipped(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = StepsEnv((Step("one", "echo one >>log", unless="true"), Step("two", "echo two >>log", unless="false")))
    await bootstrap_env(remote, site, env)
    assert (folder / "log").read_text() == "two\n"
    assert details(remote.events, "env: one") == ["= nothing to do"]


async def test_lines_are_shown_as_their_steps(remote: ShellRemote, site: Site) -> None:
    await bootstrap_env(remote, site, steps("echo a; printf b", "echo c >&2"))
    lines = [(event.source, event.text) for event in remote.events if isinstance(event, OutputLine)]
    assert lines == [("env: step 1", "a"), ("env: step 1", "b"), ("env: step 2", "c")]
    stages = [event.stage for event in remote.events if isinstance(event, StageStarted | StageFinished)][2:]
    assert stages == ["env", "env: step 1", "env: step 1", "env: step 2", "env: step 2", "env"]


async def test_a_silent_step_is_said_to_be_running(
    remote: ShellRemote, site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SIGN_S", 0.05)

    def signs() -> list[str]:
        return notes(remote.events, "still running")

    async with asyncio.TaskGroup() as group:
        group.create_task(bootstrap_env(remote, site, steps("until [ -e go ]; do sleep 0.02; done")))
        await eventually(lambda: len(signs()) > 1, "it is said twice")
        (folder / "go").touch()
    assert signs()[0].startswith("env: step 1: still running, ")


async def test_a_step_reads_an_empty_input(remote: ShellRemote, site: Site, folder: Path) -> None:
    await bootstrap_env(remote, site, steps("cat >in"))
    assert (folder / "in").read_bytes() == b""


# --- failures


async def test_a_failed_step_is_named_with_its_last_words(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = steps("true", "echo first; echo 'tar: No space left on device' >&2; (exit 7)", "echo never >>log")
    error = await failure(remote, site, env)
    assert (error.node, error.step, error.status) == ("here", "step 2", 7)
    assert error.evidence.splitlines() == ["first", "tar: No space left on device"]
    assert "cache_dir" in error.hint
    assert "GB free" in error.hint
    assert not (folder / "log").exists()
    assert not marker(folder).exists()
    stages = [event.stage for event in remote.events if isinstance(event, StageFailed)]
    assert stages == ["env: step 2", "env"]


@pytest.mark.parametrize("line", ["exit 0", "false", "exit 3", "if", "kill -s KILL $$", "no-such-program-here"])
async def test_nothing_but_the_end_of_all_steps_is_success(
    remote: ShellRemote, site: Site, folder: Path, line: str
) -> None:
    await bootstrap_env(remote, site, steps("true"))
    assert marker(folder).exists()
    await failure(remote, site, steps(line, "true"))
    assert not marker(folder).exists()
    await bootstrap_env(remote, site, steps("true"))
    assert marker(folder).exists()


async def test_project_files_that_change_meanwhile_are_not_what_was_made(
    remote: ShellRemote, site: Site, folder: Path
) -> None:
    error = await failure(remote, site, steps("echo pushed >pyproject.toml"))
    assert "changed meanwhile" in error.message
    assert not marker(folder).exists()


async def test_a_step_that_runs_too_long_is_ended(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = StepsEnv((Step("quick", "true"), Step("slow", "echo $$ >pid; sleep 1000", timeout_s=0.5)))
    error = await failure(remote, site, env)
    assert error.step == "slow"
    assert "longer" in error.message
    assert not is_alive(int((folder / "pid").read_text()))
    assert not marker(folder).exists()


async def test_a_site_that_cannot_be_written_says_so(remote: ShellRemote, home: Path) -> None:
    (home / "file").write_text("")
    error = await failure(remote, Site(str(home / "file")), steps("true"))
    assert "file" in error.evidence


async def test_cancelling_ends_the_step_and_frees_the_lock(remote: ShellRemote, site: Site, folder: Path) -> None:
    env = steps("echo $$ >pid; sleep 1000")
    task = asyncio.create_task(bootstrap_env(remote, site, env))
    pid = int(await eventually(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(pid)
    assert not marker(folder).exists()
    assert {event.error for event in remote.events if isinstance(event, StageFailed)} == {"ended", "cancelled"}
    await bootstrap_env(remote, site, steps("true"))
    assert marker(folder).exists()


# --- several deployers


def without_flock(tmp_path: Path) -> str:
    """Return a PATH that holds what the script needs, and no flock."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in (
        "sh",
        "cat",
        "cksum",
        "sha256sum",
        "tr",
        "mkdir",
        "rm",
        "mv",
        "sleep",
        "cut",
        "printf",
        "python3",
        "uname",
    ):
        (tools / name).symlink_to(shutil.which(name) or "")
    return str(tools)


@pytest.mark.parametrize("flock", [True, False])
async def test_two_deployers_make_it_once(
    new_remote: NewRemote, site: Site, folder: Path, tmp_path: Path, flock: bool
) -> None:
    first, second = new_remote(), new_remote()
    if not flock:
        first.env["PATH"] = second.env["PATH"] = without_flock(tmp_path)
    env = steps("echo made >>log; until [ -f go ]; do sleep 0.05; done")
    one = asyncio.create_task(bootstrap_env(first, site, env))
    await eventually(lambda: (folder / "log").exists())
    two = asyncio.create_task(bootstrap_env(second, site, env))
    await eventually(lambda: notes(second.events))
    (folder / "go").touch()
    await asyncio.gather(one, two)
    assert (folder / "log").read_text() == "made\n"
    assert details(second.events, "env") == ["= made by another deployer"]
    assert not (marker(folder).parent / "env.lock.d").exists()


async def test_without_flock_the_lock_of_a_dead_deployer_is_taken_over(
    remote: ShellRemote, site: Site, folder: Path, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    lock = folder / ".asyncdeploy" / "env.lock.d"
    lock.mkdir(parents=True)
    (lock / "pid").write_text(f"{process.pid} {os.uname().nodename}\n")
    remote.env["PATH"] = without_flock(tmp_path)
    await bootstrap_env(remote, site, steps("true"))
    assert marker(folder).exists()
    assert not lock.exists()


# --- other shells


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
async def test_the_script_runs_by_every_sh(
    remote: ShellRemote, site: Site, folder: Path, tmp_path: Path, shell: str
) -> None:
    need(shell)
    (tmp_path / "bin").mkdir()
    for name in ("sh", *(("cksum", "sha256sum", "tr", "flock", "sleep", "mv") if shell == "busybox" else ())):
        (tmp_path / "bin" / name).symlink_to(shutil.which(shell) or "")
    remote.env["PATH"] = f"{tmp_path / 'bin'}:{remote.env['PATH']}"
    (folder / "requirements.txt").write_text("")
    env = steps("readlink /proc/$$/exe >shell", "echo made >>log", looks="[ -f log ]")
    for _ in range(2):
        await bootstrap_env(remote, site, env)
    assert Path((folder / "shell").read_text().strip()).name == Path(shutil.which(shell) or "").resolve().name
    assert (folder / "log").read_text() == "made\n"
    assert (await failure(remote, site, steps("exit 9"))).status == 9


async def test_names_with_quotes_and_spaces_are_only_names(remote: ShellRemote, home: Path) -> None:
    folder = home / "a b'$(touch bad)\"*"
    folder.mkdir()
    await bootstrap_env(remote, Site(str(folder)), steps("echo made >>log"))
    await bootstrap_env(remote, Site(str(folder)), steps("echo made >>log"))
    assert (folder / "log").read_text() == "made\n"
    assert not list(home.rglob("bad"))
