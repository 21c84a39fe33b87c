"""Ring 1: why a launch failed, from what its nodes recorded; and a launch as data."""

import json
import pickle
from pathlib import Path

import pytest

from asyncdeploy.launch.launch import Launch, LaunchLine, new_launch_id, rank_job
from asyncdeploy.launch.root_cause.agent_log import worker_failed
from asyncdeploy.launch.root_cause.case import RankEnd
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.launch.root_cause.judge import failure_of, judge_launch
from asyncdeploy.launch.root_cause.log_tail import last_words
from asyncdeploy.run.job import JobStatus
from asyncdeploy.values.errors import ConnectionLost, JobFailed, LaunchFailed
from tests.support.launches import launch_of, plan

STOPPED_AT = 1000.0

# What torch 2.13 wrote when local rank 1 of 2 raised, shortened.
TORCH_LOG = """\
[default1]:/venv/functional_tensor.py:368: UserWarning: Failed to initialize NumPy
[default0]:[rank0]: RuntimeError: [pair.cc:553] Connection closed by peer [127.0.0.1]:33171.
[default1]:[rank1]: Traceback (most recent call last):
[default1]:[rank1]:   File "/tmp/w.py", line 6, in <module>
[default1]:[rank1]:     raise RuntimeError("injected")
[default1]:[rank1]: RuntimeError: injected
W1124 02:46:38.898000 21 torch/distributed/elastic/api.py:1028] Sending process 21862 closing signal SIGTERM
E1124 02:46:39.098000 21 torch/distributed/elastic/api.py:1002] failed (exitcode: 1) local_rank: 1 (pid: 5) of binary: p
Traceback (most recent call last):
  File "/venv/torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
PEER_LOG = """\
[default0]:[rank2]: RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.1]:33171.
E1124 02:46:39.000000 2 torch/distributed/elastic/api.py:1002] failed (exitcode: 1) local_rank: 0 (pid: 3) of binary: p
"""


def ended(
    launch: Launch, rank: int, status: int | None, at: float, *, signal: str | None = None, log: str = ""
) -> RankEnd:
    """A rank whose end its node recorded at a time of its own clock; with it whether it was stopped before."""
    state = "signalled" if signal else "exited"
    stop_at = STOPPED_AT + launch.clock_offsets_s[rank]
    told = {"stopped": True, "stopped_at": stop_at} if at >= stop_at else {}
    return RankEnd(
        JobStatus(launch.jobs[rank], state, status, signal, 940.0, at, **told), log=log, known_at=STOPPED_AT + 1
    )


def test_success_is_n_zeros() -> None:
    launch = launch_of(3)
    report = judge_launch(launch, [ended(launch, rank, 0, 990.0) for rank in range(3)])
    assert report.ok
    assert failure_of(report) is None


def test_r14_a_node_without_the_launcher_is_told_which_word_was_looked_for_and_where() -> None:
    launch = launch_of(2)
    said = "sh: 1: exec: python: not found\n"
    status = JobStatus(launch.jobs[1], "exited", 127, None, 940.0, 999.0, last_lines=said.strip(), path="/usr/bin:/bin")
    ends = [ended(launch, 0, None, 1001.8, signal="TERM"), RankEnd(status, log=said, known_at=STOPPED_AT + 1)]
    error = failure_of(judge_launch(launch, ends, stopped_at=STOPPED_AT, first=1))
    assert error is not None
    assert error.hint.startswith("python was looked for on the PATH of the login, /usr/bin:/bin; ")


def test_the_first_that_failed_is_the_cause_and_the_rest_its_consequences() -> None:
    launch = launch_of(3)
    ends = [
        ended(launch, 0, 1, 1001.5),
        ended(launch, 1, 1, 999.0, log=TORCH_LOG),
        ended(launch, 2, None, 1001.8, signal="TERM"),
    ]
    report = judge_launch(launch, ends, stopped_at=STOPPED_AT, first=1)
    assert [outcome.state for outcome in report] == ["cancelled", "failed", "cancelled"]
    error = failure_of(report)
    assert error is not None
    assert (error.node, error.node_rank, error.status) == ("gpu1", 1, 1)
    assert error.message == (
        "run train-abcdefgh failed: rank 3 (status 1) on gpu1 (node rank 1, local rank 1) failed, "
        "its node exited 1 after 59.0s; 2 other nodes stopped because of it"
    )
    assert error.evidence.splitlines()[0] == "Traceback (most recent call last):"
    assert error.evidence.splitlines()[-1] == "RuntimeError: injected"
    assert error.consequences == ("gpu[0,2] (2)  +2.9s  stopped by us",)
    assert str(report["gpu0"].error) == "gpu0: stopped because of gpu1"


def test_who_only_complains_of_a_peer_is_not_the_cause() -> None:
    """F13: node 1 saw its connection break and ended first; node 0, whose rank died, took longer to end."""
    launch = launch_of(2)
    ends = [ended(launch, 0, 1, 1004.0, log=TORCH_LOG), ended(launch, 1, 1, 999.5, log=PEER_LOG)]
    report = judge_launch(launch, ends, stopped_at=STOPPED_AT, first=1)
    error = failure_of(report)
    assert error is not None
    assert error.node == "gpu0"
    assert report["gpu1"].state == "failed", "it failed by itself, after all"


@pytest.mark.parametrize("words", ["EOFError: a peer left", "ConnectionResetError: [Errno 104]", "BrokenPipeError: 32"])
def test_plain_python_complains_of_a_peer_in_its_own_words(words: str) -> None:
    launch = launch_of(2)
    ends = [ended(launch, 0, 1, 999.0, log=words), ended(launch, 1, 1, 999.1, log="RuntimeError: no more room")]
    error = failure_of(judge_launch(launch, ends, stopped_at=STOPPED_AT, first=0))
    assert error is not None
    assert error.node == "gpu1"


def test_clocks_of_nodes_are_set_right() -> None:
    """Node 0's clock is an hour ahead: it failed first although its figure is the larger one."""
    launch = launch_of(2, (3600.0, 0.0))
    ends = [ended(launch, 0, 3, 4598.0), ended(launch, 1, 4, 999.0)]
    error = failure_of(judge_launch(launch, ends, stopped_at=STOPPED_AT, first=1))
    assert error is not None
    assert (error.node, error.status) == ("gpu0", 3)


def test_what_a_rank_printed_before_its_node_was_booted_again_is_no_hint() -> None:
    launch = launch_of(2)
    said = "UserWarning: Failed to initialize NumPy: No module named 'numpy'\nstep 12\n"
    status = JobStatus(launch.jobs[1], "lost", None, None, 940.0, None, last_lines=said.strip())
    ends = [ended(launch, 0, None, 1001.8, signal="TERM"), RankEnd(status, log=said, known_at=999.0)]
    error = failure_of(judge_launch(launch, ends, stopped_at=STOPPED_AT, first=1))
    assert error is not None
    assert "gpu1" in error.message
    assert "step 12" in error.evidence
    assert "environment" not in error.hint


def test_a_lost_node_is_unknown_and_the_cause_of_the_stop() -> None:
    launch = launch_of(2)
    lost = RankEnd(error=ConnectionLost("gpu0", "it fell silent"), known_at=999.0)
    report = judge_launch(launch, [lost, ended(launch, 1, 1, 1002.0)], stopped_at=STOPPED_AT, first=0)
    assert [outcome.state for outcome in report] == ["unknown", "cancelled"]
    assert str(report["gpu1"].error) == "gpu1: stopped because of gpu0"


def test_who_was_not_seen_to_end_is_unknown_also_after_a_stop() -> None:
    launch = launch_of(2)
    unseen = RankEnd(error=ConnectionLost("gpu0", "it did not confirm"), known_at=1010.0)
    report = judge_launch(launch, [unseen, ended(launch, 1, 7, 999.0)], stopped_at=STOPPED_AT, first=1)
    assert [outcome.state for outcome in report] == ["unknown", "failed"]
    error = failure_of(report)
    assert error is not None
    assert error.consequences == ("gpu0 (1)  +11.0s  fate unknown: it did not confirm",)


def test_what_a_person_stopped_has_no_cause() -> None:
    launch = launch_of(2)
    ends = [ended(launch, rank, None, 1001.0, signal="TERM") for rank in range(2)]
    report = judge_launch(launch, ends, stopped_at=STOPPED_AT)
    assert [outcome.state for outcome in report] == ["cancelled", "cancelled"]
    assert failure_of(report) is None
    assert str(report["gpu0"].error) == "gpu0: stopped by us"


def test_what_an_agent_says_of_its_workers() -> None:
    assert worker_failed(TORCH_LOG)
    assert not worker_failed("torch.distributed.DistNetworkError: EADDRINUSE")


def test_a_worker_that_died_of_a_signal_is_said_to_have() -> None:
    launch = launch_of(1)
    log = "failed (exitcode: -9) local_rank: 0 (pid: 5) of binary"
    error = failure_of(judge_launch(launch, [ended(launch, 0, 1, 999.0, log=log)]))
    assert error is not None
    assert "rank 0 (SIGKILL) on gpu0" in error.message


def test_last_words_without_torchrun() -> None:
    assert last_words("a\n\nb\n") == "a\nb"
    assert last_words("\n".join(str(number) for number in range(99))).splitlines() == [str(n) for n in range(91, 99)]


def test_the_report_for_people() -> None:
    launch = launch_of(2)
    ends = [ended(launch, 0, 1, 999.0, log="No module named 'torch'"), ended(launch, 1, 1, 1001.0)]
    error = failure_of(judge_launch(launch, ends, stopped_at=STOPPED_AT, first=0))
    assert error is not None
    assert describe_failure(error).splitlines() == [
        "run train-abcdefgh failed: node rank 0 (gpu0) exited 1 after 59.0s; 1 other node stopped because of it",
        "ROOT CAUSE  gpu0",
        "  No module named 'torch'",
        "CONSEQUENCES",
        "  gpu1 (1)  +2.0s  stopped by us",
        "hint: it is missing in the node's environment: look at the env's groups and extras",
    ]
    assert isinstance(pickle.loads(pickle.dumps(error)), LaunchFailed)


def test_a_failure_that_nobody_stopped() -> None:
    launch = launch_of(1)
    report = judge_launch(launch, [ended(launch, 0, 3, 999.0)])
    assert isinstance(report["gpu0"].error, LaunchFailed)
    assert not isinstance(report["gpu0"].error, JobFailed)


def test_a_launch_travels(tmp_path: Path) -> None:
    launch = launch_of(3, (0.5, -0.25, 0.0))
    launch.save(tmp_path / "launch.json")
    assert Launch.load(tmp_path / "launch.json") == launch
    assert [path.name for path in tmp_path.iterdir()] == ["launch.json"]
    assert (tmp_path / "launch.json").stat().st_mode & 0o777 == 0o600
    assert pickle.loads(pickle.dumps(launch)) == launch
    assert hash(Launch.from_dict(json.loads(json.dumps(launch.to_dict())))) == hash(launch)


@pytest.mark.parametrize(
    "text", ["", "{}", "[" * 100_000, '{"id": "x"}', "\0"], ids=["none", "{}", "[[[", "part", "NUL"]
)
def test_a_file_that_holds_no_launch(tmp_path: Path, text: str) -> None:
    path = tmp_path / "launch.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"launch\.json holds no launch"):
        Launch.load(path)


def test_ids_of_ranks_follow_from_the_launch() -> None:
    launch_id = new_launch_id("train")
    job = rank_job(launch_id, plan(1).places[0].node, 12, "/root/p", "python", 0.0)
    assert job.id == f"train.12-{launch_id[-8:]}"
    with pytest.raises(ValueError, match="launch id"):
        new_launch_id("a.b")
    assert LaunchLine(0, "gpu0", "hi").to_dict() == {"node_rank": 0, "node": "gpu0", "text": "hi"}


@pytest.mark.parametrize("moved_s", [-1.5, 1.5, -3600.0])
def test_l2_a_clock_that_moved_accuses_no_healthy_node(moved_s: float) -> None:
    """Each node says itself whether it was stopped first; what its clock shows is compared with itself alone."""
    launch = launch_of(2)
    told = {"stopped": True, "stopped_at": STOPPED_AT + moved_s}
    healthy = JobStatus(launch.jobs[0], "signalled", None, "TERM", 940.0, STOPPED_AT + 0.1 + moved_s, **told)
    failed = ended(launch, 1, 7, 999.0)
    ends = [RankEnd(healthy, known_at=STOPPED_AT + 1), failed]
    report = judge_launch(launch, ends, stopped_at=STOPPED_AT, first=1)
    assert [outcome.state for outcome in report] == ["cancelled", "failed"]
    assert [outcome.node.name for outcome in report if isinstance(outcome.error, LaunchFailed)] == ["gpu1"]


def test_l2_a_clock_that_moved_hides_no_failure() -> None:
    launch = launch_of(2)
    ahead = JobStatus(launch.jobs[1], "exited", 7, None, 940.0, STOPPED_AT + 30.0)
    ends = [ended(launch, 0, None, 1001.0, signal="TERM"), RankEnd(ahead, known_at=STOPPED_AT + 1)]
    error = failure_of(judge_launch(launch, ends, stopped_at=STOPPED_AT, first=0))
    assert error is not None
    assert (error.node, error.status) == ("gpu1", 7)
