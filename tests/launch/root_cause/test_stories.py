"""Ring 1: stories of launches that failed, as their nodes recorded them; each has one root cause, and it is named."""

from typing import Any

import attrs
import pytest

from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.root_cause.case import RankEnd
from asyncdeploy.launch.root_cause.describe import describe_failure
from asyncdeploy.launch.root_cause.judge import failure_of, judge_launch
from asyncdeploy.run.job import JobState, JobStatus
from asyncdeploy.values.errors import ConnectionLost
from tests.support.launches import launch_of

STOP = 1000.0
PEER = "RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.1]:33171."
NCCL = "torch.distributed.DistBackendError: NCCL error in ProcessGroupNCCL: ncclRemoteError: remote process exited"
WATCHDOG = (
    "terminate called after throwing an instance of 'c10::DistBackendError'\n"
    "  what():  [Rank 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)\n"
    "Fatal Python error: Aborted\n\nThread 0x1 (most recent call first):\n" + '  File "x.py", line 1 in f\n' * 20
)


def raised(local: int | None, at: float, error: str, pid: int = 0) -> dict[str, Any]:
    """An exception that our hook wrote down."""
    name, _, message = error.partition(": ")
    rank = None if local is None else str(local)
    frames = [["/root/p/train.py", 9, "<module>"], ["/root/p/.venv/lib/python3.11/site-packages/x.py", 5, "g"]]
    record = {"at": at, "rank": rank, "local_rank": rank, "pid": pid, "type": name, "message": message}
    return {"records": [{**record, "frames": frames}]}


def exited(local: int | None, at: float, code: int, *, pid: int = 0, stopped: bool = False) -> dict[str, Any]:
    """An exit that our runner wrote down."""
    return {"exits": [{"local_rank": local, "at": at, "exit_code": code, "pid": pid, "stopped": stopped}]}


def said(local: int | None, text: str) -> dict[str, Any]:
    """What stands in a rank's log."""
    return {"logs": [{"local_rank": local, "path": f"/root/logs/{local}/stderr.log", "text": text}]}


def error_file(local: int, at: int, message: str) -> dict[str, Any]:
    """What a script with @record leaves."""
    extra = {"py_callstack": "", "timestamp": str(at)}
    return {"error_files": [{"local_rank": local, "error": {"message": {"message": message, "extraInfo": extra}}}]}


def agent(local: int, code: int, second: float, *, others: dict[int, int] | None = None, hours: int = 0) -> str:
    """The agent's log when a worker failed; seconds as in STOP, its clock some zones away."""
    minute, rest = divmod(second - 900, 60)
    text = f"E1124 {2 + hours:02d}:{45 + int(minute):02d}:{rest:09.6f} 21 torch/distributed/elastic/api.py:1] "
    text += f"failed (exitcode: {code}) local_rank: {local} (pid: {100 + local}) of binary: python\n"
    for other, its in (others or {}).items():
        text += f"  rank      : {other} (local_rank: {other})\n  exitcode  : {its} (pid: {100 + other})\n"
    return text


def oom(**counts: int) -> dict[str, Any]:
    """What the kernel has counted."""
    return {"oom": {**counts, "killed": {"77": "Memory cgroup out of memory: Killed process 77 (python) rss:9GB"}}}


@attrs.frozen
class Ended:
    """A node at the end: its command's exit, when, what it recorded."""

    at: float
    records: tuple[dict[str, Any], ...] = ()
    code: int | None = 1
    signal: str | None = None
    log: str = ""
    lost: str = ""
    known_at: float = 1007.0


@attrs.frozen
class Story:
    """What happened, and what must be said: the root's node, its local rank, words of its description."""

    name: str
    nodes: tuple[Ended, ...]
    root: tuple[int, int | None]
    words: tuple[str, ...] = ()
    first: int | None = 0
    offsets: tuple[float, ...] = ()
    stopped: bool = True


OURS = Ended(1000.4, code=None, signal="TERM")
VICTIM = Ended(999.5, (raised(0, 998.9, PEER), exited(0, 999.0, 1), exited(1, 999.4, -15, stopped=True)))

STORIES = (
    Story(
        "one rank raises, nobody complains",
        (Ended(999.0, (raised(1, 998.0, "ValueError: bad"), exited(1, 998.2, 1))), OURS),
        (0, 1),
        ("ValueError: bad", "train.py:9", "rank 1 (status 1)", "gpu1 (1)  +2.4s  stopped by us"),
    ),
    Story(
        "another node's symptom is logged first",
        (VICTIM, Ended(1001.5, (raised(1, 998.8, "ValueError: bad"), exited(1, 1001.2, 1)))),
        (1, 1),
        ("ROOT CAUSE  gpu1, rank 3", "gpu0 (1)  +0.1s  exited 1: Connection closed by peer"),
    ),
    Story(
        "the symptom came long before the exception was written down",
        (VICTIM, Ended(1004.0, (raised(0, 1001.0, "KeyError: 'x'"), exited(0, 1003.0, 1)))),
        (1, 0),
        ("KeyError",),
    ),
    Story(
        "the symptom comes from NCCL and nobody else saw more",
        (Ended(999.0, (raised(0, 998.0, NCCL), exited(0, 998.5, 1))), OURS),
        (0, 0),
        ("ncclRemoteError",),
    ),
    Story(
        "clocks: the victim's is an hour ahead",
        (
            Ended(4599.5, (raised(0, 4598.9, "RuntimeError: late"), exited(0, 4599.0, 1))),
            Ended(999.5, (raised(1, 998.0, "RuntimeError: early"), exited(1, 999.0, 1))),
        ),
        (1, 1),
        ("RuntimeError: early",),
        offsets=(3600.0, 0.0),
    ),
    Story(
        "killed by somebody, a peer raises",
        (VICTIM, Ended(999.9, (exited(1, 998.7, -9, pid=70), exited(0, 999.0, 1)), code=137)),
        (1, 1),
        ("rank 3 (SIGKILL)",),
    ),
    Story(
        "killed for memory, and the kernel's log may be read",
        (VICTIM, Ended(999.9, (exited(0, 998.7, -9, pid=77), oom(machine=1)), code=137)),
        (1, 0),
        ("hint: the kernel killed it for lack of memory: Memory cgroup out of memory", "rss:9GB"),
    ),
    Story(
        "killed for memory, only the counts are known",
        (VICTIM, Ended(999.9, (exited(0, 998.7, -9, pid=5), oom(cgroup=2, machine=2)), code=137)),
        (1, 0),
        ("hint: the kernel killed 2 process(es) in its memory cgroup for lack of memory",),
    ),
    Story(
        "a data loader's worker was killed for memory",
        (
            Ended(
                999.0,
                (
                    raised(0, 998.0, "RuntimeError: DataLoader worker (pid(s) 77) is killed by signal: Killed"),
                    exited(0, 998.5, 1),
                    oom(machine=1),
                ),
            ),
            OURS,
        ),
        (0, 0),
        ("DataLoader worker", "hint: the kernel killed 1 process(es) on this machine"),
    ),
    Story(
        "os._exit without a word",
        (VICTIM, Ended(999.9, (exited(1, 998.7, 3),), code=3)),
        (1, 1),
        ("rank 3 (status 3)", "its node exited 3"),
    ),
    Story(
        "a crash in a library, with Python's own report",
        (VICTIM, Ended(999.9, (exited(0, 998.7, -11), said(0, "Fatal Python error: Segmentation fault\n  File f")))),
        (1, 0),
        ("(SIGSEGV)", "Fatal Python error: Segmentation fault"),
    ),
    Story(
        "an abort by NCCL's watchdog is a symptom too",
        (
            Ended(999.0, (exited(0, 998.0, -6), said(0, WATCHDOG))),
            Ended(1003.0, (raised(1, 999.5, "OSError: No space left on device"), exited(1, 1002.0, 1))),
        ),
        (1, 1),
        ("No space left", "hint: a file system of the node is full", "Watchdog caught"),
    ),
    Story(
        "torchrun: a traceback without @record, by the hook",
        (Ended(999.0, (raised(1, 998.0, "ValueError: bad", 101),), log=agent(1, 1, 998.4, others={0: -15})), OURS),
        (0, 1),
        ("rank 1 (status 1)", "ValueError: bad", "rank 0 on gpu0 (1)  +0.4s  stopped with it"),
    ),
    Story(
        "torchrun: @record only, the time in whole seconds",
        (Ended(999.0, (error_file(0, 998, "ValueError: bad"),), log=agent(0, 1, 998.4)), OURS),
        (0, 0),
        ("  ValueError: bad",),
    ),
    Story(
        "torchrun: death by signal leaves no file; the agent's clock is in another zone",
        (VICTIM, Ended(1005.0, log=agent(1, -9, 998.6, others={0: 1}, hours=7))),
        (1, 1),
        ("rank 3 (SIGKILL)",),
    ),
    Story(
        "torchrun: the traceback stands only in the worker's log",
        (
            Ended(999.0, (said(0, "Traceback (most recent call last):\n  File f\nKeyError: 1"),), log=agent(0, 1, 998)),
            OURS,
        ),
        (0, 0),
        ("  KeyError: 1", "last 3 lines of its log (full: /root/logs/0/stderr.log on gpu0)"),
    ),
    Story(
        "torchrun: a helper process of a rank raised, and the rank did not mind",
        (
            Ended(
                999.0,
                (raised(0, 990.0, "OSError: helper", 555), raised(1, 998.0, "ValueError: bad", 101)),
                log=agent(1, 1, 998.4),
            ),
            OURS,
        ),
        (0, 1),
        ("ValueError: bad",),
    ),
    Story(
        "ranks: a helper of the rank that failed raised after it",
        (
            Ended(
                999.0,
                (
                    raised(0, 998.0, "ValueError: bad", 70),
                    raised(0, 998.1, "OSError: helper", 71),
                    exited(0, 998.5, 1, pid=70),
                ),
            ),
            OURS,
        ),
        (0, 0),
        ("  ValueError: bad",),
    ),
    Story(
        "a rank that raises because we told it to stop is no cause",
        (VICTIM, Ended(1002.0, (raised(0, 1000.3, "KeyboardInterrupt: "), exited(0, 1001.0, 130, stopped=True)))),
        (0, 0),
        ("Connection closed by peer",),
    ),
    Story(
        "what our KILL ended is no cause",
        (VICTIM, Ended(1005.0, (exited(0, 1005.0, -9),), code=None, signal="KILL")),
        (0, 0),
    ),
    Story(
        "a node fell silent, its peers only complain",
        (VICTIM, Ended(0, lost="it fell silent")),
        (1, None),
        ("node rank 1 (gpu1) does not answer: it fell silent", "gpu0 (1)"),
    ),
    Story(
        "a node fell silent while another had failed",
        (Ended(999.0, (raised(1, 998.0, "ValueError: bad"), exited(1, 998.2, 1))), Ended(0, lost="it fell silent")),
        (0, 1),
        ("fate unknown: it fell silent",),
    ),
    Story(
        "a node fell silent, and that was known before another one failed for a reason of its own",
        (
            Ended(0, lost="it fell silent", known_at=997.0),
            Ended(999.0, (raised(1, 998.0, "ValueError: bad"), exited(1, 998.2, 1))),
        ),
        (1, 1),
        ("ValueError: bad",),
    ),
    Story(
        "killed by somebody after it had complained of a peer and gone on",
        (
            Ended(999.0, (exited(0, 997.0, -9), said(0, "warning: Connection reset by peer, once more"))),
            Ended(999.0, (raised(1, 998.0, "ValueError: bad"), exited(1, 998.2, 1))),
        ),
        (0, 0),
        ("rank 0 (SIGKILL)",),
    ),
    Story(
        "the port of rank 0 was taken: the agent says so, the others could not connect",
        (
            Ended(999.0, (raised(None, 998.9, "torch.distributed.DistNetworkError: port: 29500, EADDRINUSE"),)),
            Ended(998.0, (raised(None, 997.0, "torch.distributed.DistNetworkError: Connection refused"),)),
        ),
        (0, None),
        ("EADDRINUSE", "hint: something else took a port"),
        first=1,
    ),
    Story(
        "the environment lacks the launcher itself",
        (Ended(999.0, log="python: No module named torch"), Ended(999.1, log="python: No module named torch")),
        (0, None),
        ("No module named torch", "hint: it is missing in the node's environment"),
    ),
    Story(
        "the node's command died of a signal itself",
        (Ended(999.0, code=None, signal="KILL"), OURS),
        (0, None),
        ("node rank 0 (gpu0) died of SIGKILL",),
    ),
    Story(
        "a stranger sent TERM to one rank",
        (Ended(999.0, (exited(1, 998.0, -15),), code=143), OURS),
        (0, 1),
        ("rank 1 (SIGTERM)",),
    ),
    Story(
        "all ranks of all nodes raise: the first of them",
        tuple(Ended(999.0, (raised(1, 998.0 - n, f"ValueError: {n}"), exited(1, 998.5, 1))) for n in range(3)),
        (2, 1),
        ("ValueError: 2", "gpu[0-1] (2)  +2.0s  exited 1"),
    ),
    Story(
        "nobody stopped anything",
        (Ended(999.0, (raised(0, 998.0, PEER), exited(0, 998.5, 1))), Ended(998.0, (exited(0, 997.9, 2),), code=2)),
        (1, 0),
        ("rank 2 (status 2)",),
        stopped=False,
        first=None,
    ),
)


def end_of(launch: Launch, rank: int, ended: Ended, *, stopped: bool) -> RankEnd:
    """A node's end as the watcher knows it; where there was a stop, its node knows whether that came first."""
    if ended.lost:
        return RankEnd(error=ConnectionLost(f"gpu{rank}", ended.lost), known_at=ended.known_at)
    evidence: dict[str, Any] = {}
    for part in ended.records:
        for name, value in part.items():
            evidence[name] = {**evidence.get(name, {}), **value} if name == "oom" else [*evidence.get(name, []), *value]
    state: JobState = "signalled" if ended.signal else "exited"
    stop_at = STOP + launch.clock_offsets_s[rank]
    told = {"stopped": True, "stopped_at": stop_at} if stopped and ended.at >= stop_at else {}
    status = JobStatus(launch.jobs[rank], state, ended.code, ended.signal, 940.0, ended.at, **told)
    return RankEnd(status, log=ended.log, known_at=max(STOP, ended.at), evidence=evidence)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_f13_the_cause_is_named(story: Story) -> None:
    launch = launch_of(len(story.nodes), story.offsets or None)
    ends = [end_of(launch, rank, ended, stopped=story.stopped) for rank, ended in enumerate(story.nodes)]
    report = judge_launch(launch, ends, stopped_at=STOP if story.stopped else None, first=story.first)
    error = failure_of(report)
    assert error is not None
    text = describe_failure(error)
    assert (error.node_rank, error.local_rank) == story.root, text
    assert [words for words in story.words if words not in text] == [], text
    for rank, outcome in enumerate(report):
        assert not outcome.ok
        assert (outcome.state == "unknown") == bool(story.nodes[rank].lost)


def test_evidence_that_is_nonsense_costs_nothing() -> None:
    """H6: a node may answer anything."""
    launch = launch_of(1)
    nonsense: list[Any] = [None, 1, "x", [1], [{}], {"a": 1}, [{"local_rank": "0", "at": "x", "frames": 3, "rank": 0}]]
    for value in nonsense:
        evidence = dict.fromkeys(("records", "exits", "error_files", "logs", "oom"), value)
        status = JobStatus(launch.jobs[0], "exited", 3, None, 940.0, 999.0)
        error = failure_of(judge_launch(launch, [RankEnd(status, evidence=evidence)]))
        assert error is not None
        assert "exited 3" in error.message


def test_control_characters_of_a_node_are_not_shown() -> None:
    """H4."""
    launch = launch_of(1)
    evidence = {**raised(0, 998.0, "ValueError: \x1b[2J\x07gone"), **said(0, "a\x1b[1mb"), **exited(0, 998.5, 1)}
    status = JobStatus(launch.jobs[0], "exited", 1, None, 940.0, 999.0)
    error = failure_of(judge_launch(launch, [RankEnd(status, evidence=evidence)]))
    assert error is not None
    assert "\x1b" not in describe_failure(error)
    assert error.cause == "ValueError: \\x1b[2J\\x07gone"
