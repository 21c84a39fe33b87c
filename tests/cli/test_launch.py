"""`launch` and what comes behind it: logs, wait, stop, why, collect, also from a home that remembers nothing."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, command_line, hosts, names
from tests.support.waiting import eventually_sync

WORKS = 'echo "up $NODE_RANK"; until [ -e go ]; do sleep 0.1; done; mkdir -p results; echo 1 >results/a; echo bye'


@pytest.fixture
def project(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> CommandLine:
    """A project of two nodes whose ranks are a shell line each."""
    listed = ", ".join(f'"{host}"' for host in hosts(sshd_nodes[:2]))
    (ad.folder / "asyncdeploy.toml").write_text(
        f'nodes = [{listed}]\n[env]\ntype = "system"\n[launch]\nlauncher = "ranks"\nname = "train"\ngrace_s = 1\n'
    )
    return ad


def launch_id(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("train-"))


def test_a_launch_is_followed_to_its_end(project: CommandLine) -> None:
    said = project("launch", "echo hello; mkdir -p results; echo $NODE_RANK >results/rank")
    assert said.code == 0, said.err
    assert said.out.endswith("(2): hello\n")
    assert "watching; Ctrl-C leaves it running" in said.err
    assert "is done: exit status 0 on all of 2 nodes" in said.err
    collected = project("collect", "last")
    assert collected.code == 0
    assert "at home, in results\n" in collected.err, "as one would type it in this folder"
    assert [line.split("/")[0] for line in collected.out.splitlines()] == ["results"] * 2
    assert all(line.endswith(": 1 file, 1 new") for line in collected.out.splitlines())
    assert sorted(path.read_text() for path in project.folder.glob("results/*/rank")) == ["0\n", "1\n"]


@pytest.mark.long
def test_detached_and_attached_to_from_another_home(
    project: CommandLine, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    """Start, quit, come back by another HOME with nothing but the nodes' names."""
    said = project("launch", WORKS, "--detach")
    assert said.code == 0, said.err
    run = launch_id(said.out)
    assert said.out == f"{run}\n"
    assert f"asyncdeploy wait {run}" in said.err
    other = command_line(tmp_path / "other", tmp_path / "elsewhere", sshd_nodes)
    where = ("-n", ",".join(hosts(sshd_nodes[:2])))
    eventually_sync(lambda: other("logs", run, *where).out.count(": up") == 2, within_s=30)
    assert sorted(line[-4:] for line in other("logs", run[:9], *where).out.splitlines()) == ["up 0", "up 1"]
    for each in sshd_nodes[:2]:
        (each.home / "project" / "go").touch()
    waited = other("wait", run, *where)
    assert waited.code == 0, waited.err
    assert other("logs", run, *where, "--tail", "1").out.endswith("bye\n")
    assert len(other("logs", run, *where, "--tail", "1").out.splitlines()) == 1
    collected = other("collect", run, *where, "--source", "results", "--to", "mine")
    assert collected.code == 0, collected.err
    assert [path.read_text() for path in other.folder.glob("mine/*/a")] == ["1\n", "1\n"]


def test_the_exit_status_is_the_root_causes_own(project: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    said = project("launch", "test $NODE_RANK = 1 && exit 42; sleep 600")
    assert said.code == 42
    assert f"ROOT CAUSE  {names(sshd_nodes)[1]}" in said.err
    run = kept_id(project)
    for words in (f"why {run} ", f"logs {run} ", f"collect {run} --logs "):
        assert f"  asyncdeploy {words}" in said.err, "what may be typed next"
    why = project("why", "last")
    assert why.code == 0
    assert f"ROOT CAUSE  {names(sshd_nodes)[1]}" in why.out
    assert project("wait", "last").code == 42


def test_a_launch_is_stopped_and_its_state_is_small_and_private(project: CommandLine) -> None:
    run = launch_id(project("launch", "sleep 600", "--detach").out)
    kept = project.home / ".local/state/asyncdeploy/runs" / f"{run}.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_size < 4096
    said = project("stop", run)
    assert said.code == 0, said.err
    assert "nothing of it runs on 2 nodes" in said.err


def test_a_home_that_cannot_be_written_names_the_nodes_in_what_to_type_next(
    project: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    state = project.home / "state"
    state.write_text("a file, no folder")
    said = project("launch", "true", "--detach", XDG_STATE_HOME=str(state))
    assert said.code == 0
    assert f"-n {','.join(hosts(sshd_nodes[:2]))}" in said.err
    project("wait", launch_id(said.out))


@pytest.mark.parametrize(
    "words,text",
    [
        (("logs", "last"), "this home remembers no run"),
        (("logs", "nothing"), "no run 'nothing' on 2 nodes"),
        (("ps", "root@gpu1"), "nodes are named by -n, as in asyncdeploy ps -n root@gpu1"),
        (("launch",), "a script was expected"),
        (("launch", "x", "--spares", "@spare"), "@spare"),
    ],
)
def test_what_is_not_there(words: Sequence[str], text: str, project: CommandLine) -> None:
    said = project(*words)
    assert said.code == 2, said.err
    assert text in said.err


def test_wait_takes_over_the_restarts(project: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """Whoever launched it has left; who waits starts it again, once: the file that remembers it says how."""
    line = 'until [ -e go ]; do sleep 0.1; done; test "$ASYNCDEPLOY_ATTEMPT" = 1 && test "${#TOKEN}" = 9'
    words = ("--detach", "--restarts", "1", "--secret", "TOKEN")
    run = launch_id(project("launch", line, *words, TOKEN="canary-47").out)
    assert "canary" not in (project.home / ".local/state/asyncdeploy/runs" / f"{run}.json").read_text()
    for each in sshd_nodes[:2]:
        (each.home / "project" / "go").touch()
    said = project("wait", run, TOKEN="canary-47")
    assert said.code == 0, said.err
    assert "(restarts and spares work)" in said.err
    assert project("why", run).code == 0


def test_a_run_on_a_spare_is_found_again(project: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """No settings name the spare: this home remembers it; and what is said to be typed next is right."""
    line = 'test "$ASYNCDEPLOY_ATTEMPT$NODE_RANK" != 01 && mkdir -p results && echo 1 >results/a'
    said = project("launch", line, "--name", "train", "--restarts", "1", "--spares", *hosts(sshd_nodes[2:3]))
    assert said.code == 0, said.err
    (collect,) = [words.split()[1:3] for words in said.err.splitlines() if "asyncdeploy collect" in words]
    for words in (collect, ("collect", "last")):
        collected = project(*words)
        assert collected.code == 0, collected.err
        assert f"1-{names(sshd_nodes)[2]}: 1 file" in collected.out
    named = project("ps", "last", "-n", ",".join(hosts(sshd_nodes[:2])))
    assert named.code == 1
    assert f"has nodes that were not named: {names(sshd_nodes)[2]}\nhint: name all" in named.err


def test_a_later_attempt_is_found_by_its_own_id(project: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """Its lines and its errors name it; this home remembers the first attempt, and no settings name the nodes."""
    line = 'mkdir -p results; echo "$ASYNCDEPLOY_RUN_ID" >results/id; test "$ASYNCDEPLOY_ATTEMPT" = 1 && echo again'
    said = project("launch", line, "--name", "train", "--restarts", "1")
    assert said.code == 0, said.err
    first, second = (kept_id(project), (sshd_nodes[0].home / "project/results/id").read_text().strip())
    assert second != first
    (project.folder / "asyncdeploy.toml").unlink()
    assert "this home remembers no run 'trian': did you mean 'train'?" in project("logs", "trian").err
    for words in (("logs", second), ("why", second), ("wait", second), ("stop", second), ("ps", second)):
        assert project(*words).code == 0, project(*words).err
    assert ": again" in project("logs", second).out
    assert project("collect", second).code == 0
    assert project("logs", "train-aaaaaaaa").code == 2, "one that never was"


def kept_id(ad: CommandLine) -> str:
    """The id of the one run that a home remembers."""
    (kept,) = (ad.home / ".local/state/asyncdeploy/runs").glob("*.json")
    return kept.stem


def test_what_was_brought_home_is_not_sent_out_again(project: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """The target of a collect lies in the project: each round would bring it back one folder deeper."""
    (project.folder / "results").mkdir()
    (project.folder / "results" / "readme").write_text("of the project\n")
    for _ in range(2):
        assert project("launch", "echo 1 >results/a").code == 0
        assert project("collect", "last").code == 0
    one = project.folder / "results" / f"0-{names(sshd_nodes)[0]}"
    assert sorted(path.name for path in one.iterdir()) == ["a", "readme"]


def test_nor_is_it_where_it_was_put_elsewhere_in_the_project(
    project: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    """Whether or not something else there is called as a node's folder is."""
    for folder in ("mine/2024-01", "own words!"):
        (project.folder / folder).mkdir(parents=True)
        (project.folder / folder / "notes").write_text("of the project\n")
    assert project("launch", "mkdir -p results; echo 1 >results/a").code == 0
    for target in ("mine", "own words!"):
        assert project("collect", "last", "--to", target).code == 0
    assert project("push").code == 0
    sent = sshd_nodes[0].home / "project"
    assert sorted(path.name for path in (sent / "mine").iterdir()) == ["2024-01"]
    assert sorted(path.name for path in (sent / "own words!").iterdir()) == ["notes"]
