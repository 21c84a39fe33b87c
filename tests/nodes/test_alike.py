"""Errors of many nodes in few lines: the root cause first, equal ones once."""

import pickle

import pytest

import asyncdeploy as ad
from asyncdeploy.nodes.alike import SHOWN


def report(*errors: ad.DeployError, ok: int = 0) -> ad.Report[None]:
    failed = [ad.Outcome[None](ad.Node(error.node), error.outcome, None, error) for error in errors]
    return ad.Report((*failed, *(ad.Outcome[None](ad.Node(f"good{number}"), "ok") for number in range(ok))))


def raised(*errors: ad.DeployError, ok: int = 0) -> ad.FleetError:
    with pytest.raises(ad.FleetError) as caught:
        report(*errors, ok=ok).unwrap()
    return caught.value


def test_the_root_cause_comes_first_and_the_rest_is_counted() -> None:
    stopped = [ad.Cancelled(f"gpu{rank}", "stopped while it was under way") for rank in (0, 1, 3)]
    cause = ad.ToolMissing("gpu2", "git is not there", "install git", "sh: git: not found")
    error = raised(stopped[0], stopped[1], cause, stopped[2])
    assert error.exceptions[0] is cause
    assert str(error) == "1 of 4 nodes failed, 3 stopped because of it: gpu2: git is not there"
    assert error.describe().splitlines()[1:] == ["  | sh: git: not found", "hint: install git"]


def test_the_root_cause_of_a_launch_comes_before_who_is_lost() -> None:
    lost, cause = ad.ConnectionLost("gpu0", "gone"), ad.LaunchFailed("gpu1", "run x failed", "look", node_rank=1)
    error = raised(lost, cause)
    assert error.exceptions == (cause, lost)
    assert error.describe().splitlines() == [
        "2 of 2 nodes failed: gpu1: run x failed",
        "ROOT CAUSE  gpu1",
        "hint: look",
    ]


def test_errors_that_differ_by_the_name_of_the_node_alone_are_one() -> None:
    errors = [ad.AuthError(f"gpu{rank}", f"login at gpu{rank} was refused", f"ssh gpu{rank}") for rank in range(3)]
    error = raised(*errors, ad.ConnectError("box", "it is off", "ssh gpu"), ok=1)
    assert error.describe().splitlines() == [
        "4 of 5 nodes failed: gpu[0-2]: login at <node> was refused",
        "hint: ssh <node>",
        "box: it is off",
        "hint: ssh gpu",
    ]


def test_an_error_of_no_node_is_said_without_a_name() -> None:
    errors = [ad.ToolMissing("", "no git on this machine") for _ in range(2)]
    nodes = [ad.Outcome[None](ad.Node(f"gpu{rank}"), "failed", None, error) for rank, error in enumerate(errors)]
    assert str(ad.FleetError.of(ad.Report(tuple(nodes)))) == "2 of 2 nodes failed: no git on this machine"


def test_where_all_were_stopped_there_is_no_cause() -> None:
    error = raised(ad.Cancelled("gpu0", "stopped"), ad.Skipped("gpu1", "not started"))
    assert str(error) == "2 of 2 nodes did not end: cancelled or not started: gpu0: stopped"


def test_many_different_errors_are_counted_in_the_end() -> None:
    error = raised(*(ad.DeployError(f"gpu{rank}", f"odd in way {rank * 7}") for rank in range(50)))
    lines = error.describe().splitlines()
    assert len(lines) == SHOWN + 1
    assert lines[-1] == f"and other errors of {50 - SHOWN} nodes: print(error.report) has them all"


def test_a_fleet_error_travels_with_its_words() -> None:
    error = raised(ad.ToolMissing("gpu2", "git is not there", "install git", "sh: git: not found"))
    back = pickle.loads(pickle.dumps(error))
    assert back.describe() == error.describe()
    assert back.exceptions[0].__notes__ == ["  | sh: git: not found", "hint: install git"]
    part = error.subgroup(ad.ToolMissing)
    assert isinstance(part, ad.FleetError)
    assert part.describe() == error.describe()


def test_notes_that_others_add_stay() -> None:
    error = raised(ad.ToolMissing("gpu2", "git is not there", "install git"))
    error.add_note("seen in the nightly run")
    assert error.describe().splitlines()[1:] == ["hint: install git", "seen in the nightly run"]
