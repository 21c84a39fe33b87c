"""`start` and what comes behind it, where nodes do not answer, refuse, or hold two runs of one name."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, Said, hosts, names
from tests.support.waiting import eventually_sync

GOES_ON = "echo up; while :; do sleep 0.1; done"


@pytest.fixture
def project(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> CommandLine:
    """A project of two nodes."""
    write_settings(ad, ad.folder, sshd_nodes[:2])
    return ad


def write_settings(ad: CommandLine, folder: Path, nodes: Sequence[SshdNode]) -> None:
    listed = ", ".join(f'"{host}"' for host in hosts(nodes))
    (folder / "asyncdeploy.toml").write_text(f'nodes = [{listed}]\n[env]\ntype = "system"\n')


def typed_next(said: Said, verb: str) -> list[str]:
    """The words of a command that was printed to be typed next."""
    (line,) = [line for line in said.err.splitlines() if line.startswith(f"  asyncdeploy {verb} ")]
    return line.partition("   ")[0].split()[1:] if "   " in line.strip() else line.split("  ")[1].split()[1:]


def test_of_a_node_that_does_not_answer_nothing_is_reported_as_ended(
    project: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    """What was not seen to end is unknown: a stop that has not reached it is no success, nor is a wait or a log."""
    assert project("start", "--name", "side", "--", GOES_ON).code == 0
    dead, alive = names(sshd_nodes)[:2]
    where = ("-n", ",".join(hosts(sshd_nodes[:2])))
    sshd_nodes[0].stop()
    try:
        for words in (("stop", "side"), ("wait", "side"), ("stop", "side", *where), ("logs", "side")):
            said = project(*words)
            assert said.code == 1, f"{words}: {said}"
            assert "of 2 nodes failed" in said.err
            assert dead in said.err.split("of 2 nodes failed")[1]
        assert said.out == f"{alive}: up\n"
        why = project("why", "side")
        assert why.code == 0
        assert dead in why.out
    finally:
        sshd_nodes[0].start()
        assert project("stop", "side").code == 0


def test_two_projects_may_call_their_starts_alike(
    project: CommandLine, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    """Neither forgets the other's, and neither stops it: two runs of one name are told apart by their ids."""
    other = CommandLine(project.home, tmp_path / "other")
    other.folder.mkdir()
    write_settings(other, other.folder, sshd_nodes[:2])
    started = [each("start", "--name", "train", "--", GOES_ON) for each in (project, other)]
    assert [said.code for said in started] == [0, 0]
    for where in ((), ("-n", ",".join(hosts(sshd_nodes[:2])))):
        said = project("stop", "train", *where)
        assert said.code == 2, said
        assert "train may be train-" in said.err
    for said in started:
        words = typed_next(said, "stop")
        assert project("why", words[1]).out.count("is running") == 2
        stopped = project(*words)
        assert stopped.code == 0, stopped.err
        assert "nothing of it runs on 2 nodes" in stopped.err
    assert project("why", "train-").code == 2, "two of that beginning"


def test_a_name_means_the_last_start_of_it_in_a_project(project: CommandLine) -> None:
    """In one folder no two of a name run, so the earlier one is over; its id still means it."""
    first = project("start", "--name", "train", "--", "echo one")
    assert project("wait", "train").code == 0
    assert project("start", "--name", "train", "--", "echo two").code == 0
    assert project("wait", "train").code == 0
    assert project("logs", "train").out.count(": two") == 2
    assert project("logs", typed_next(first, "stop")[1]).out.count(": one") == 2
    (job, *_) = [line.split()[-1] for line in first.out.splitlines()]
    assert project("logs", job).out.splitlines() == [project("logs", job).out.rstrip("\n")], "one job of the two"


def test_half_a_start_is_remembered_too(project: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """One node refuses, for a job of that name runs there; what is printed to be typed next is about the other one."""
    earlier = project("start", *hosts(sshd_nodes[:1]), "--name", "side", "--", GOES_ON)
    assert earlier.code == 0
    half = project("start", "--name", "side", "--", GOES_ON)
    try:
        assert half.code == 1
        assert "1 of 2 nodes failed" in half.err
        assert [line.split(":")[0] for line in half.out.splitlines()] == names(sshd_nodes[1:2])
    finally:
        stopped = project(*typed_next(half, "stop"))
    assert stopped.code == 0, stopped.err
    assert "nothing of it runs on 1 node" in stopped.err
    eventually_sync(lambda: not sshd_nodes[1].processes(), within_s=30)
    assert sshd_nodes[0].processes(), "the one that was there before runs on"
    assert project(*typed_next(earlier, "stop")).code == 0


def test_a_start_whose_home_cannot_be_written_names_its_nodes(
    project: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    state = project.home / "state"
    state.write_text("a file, no folder")
    said = project("start", *hosts(sshd_nodes[2:4]), "--name", "side", "--", GOES_ON, XDG_STATE_HOME=str(state))
    assert said.code == 0
    words = typed_next(said, "stop")
    assert words == ["stop", "side", "-n", ",".join(hosts(sshd_nodes[2:4]))]
    assert "nothing of it runs on 2 nodes" in project(*words).err
