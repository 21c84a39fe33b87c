"""What nodes answer: states of jobs, facts, ends of runs and pushes, how a program of ours failed."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from asyncdeploy.launch.follow.diagnosis import stands_of
from asyncdeploy.nodes.node import Node
from asyncdeploy.push.answer import read_answer
from asyncdeploy.push.preview import read_preview
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.failures import failure_of
from asyncdeploy.remote.probe import _checked, _read_lines, describe_facts
from asyncdeploy.remote.sh_session import Found
from asyncdeploy.run.attached import _Leashed
from asyncdeploy.run.job_answers import job_of, marks_of, status_of
from asyncdeploy.run.jobs_sh import _parse
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.words import is_harmless
from tests.fuzz.target import target

NODE = Node("liar")
REMOTE = cast(Any, SimpleNamespace(node=NODE))
JSON_WORDS = (
    *(b'{"', b'": ', b"[", b"]", b"{", b"}", b", ", b"null", b"true", b"1e400", b"-1", b"9" * 30, b'"\\ud800"'),
    *(b'"\\u001b[31m"', b"NaN", b'"\xc2\xb2"', b"1.5"),
)
STATUS_WORDS = (
    *(b'"id": "train-abcdefgh"', b'"state": "exited"', b'"status": 0', b'"signal": 9', b'"survivors": ["1 x"]'),
    *(b'"spec": {"name": "train"}', b'"state": "lost"', b'"booted_at": 1', b'"because": "x"', b'"error": "unknown"'),
    *(b'"times": [[1, 2]]', b'"created_at": 1'),
)


def assert_shown(error: DeployError) -> None:
    """Of whatever came an error can be shown: its words are harmless, and it says what was expected."""
    assert error.message
    for text in (error.message, error.hint, error.evidence):
        assert all(is_harmless(line, len(line)) for line in text.replace("\t", " ").split("\n"))
    error.to_dict()


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Whatever came, our error says what is wrong with it."""
    try:
        yield
    except DeployError as error:
        assert_shown(error)


@target(*JSON_WORDS, *STATUS_WORDS)
def job_states(data: bytes) -> None:
    """What a node says of its jobs is a job, a state and marks of time, each checked."""
    with refused():
        answer = Answer.read(NODE.name, "a fuzzer", data)
        with refused():
            marks_of(answer["times"])
        job = job_of(REMOTE, answer)
        assert type(job).from_dict(job.to_dict()) == job
        status = status_of(job, answer)
        assert type(status).from_dict(status.to_dict()) == status
        assert not status.ok or answer.value["status"] == 0
        failure = status.failure()
        if failure is not None:
            assert_shown(failure)


@target(
    b"Ntrain-abcdefgh\n", b".\n", b'S{"name": "x"}\n', b'X{"status": 0}\n', b"I1:2\n", b"A1\n", b"L1 2\n", b"Y\n", b"{"
)
def job_states_by_sh(data: bytes) -> None:
    """The same by sh, from a node without python3."""
    for is_log in (False, True):
        with refused():
            found, _ = _parse(Answer(NODE.name, "a fuzzer", data), is_log=is_log)
            for each in found:
                with refused():
                    answer = Answer(NODE.name, "a fuzzer", each)
                    status_of(job_of(REMOTE, answer), answer)


@target(
    *JSON_WORDS,
    *(
        b'"home": "/root"',
        b'"user": "root"',
        b'"uid": 0',
        b'"hostname": "x"',
        b'"system": "Linux"',
        b'"arch": "x86_64"',
    ),
    *(
        b'"gpus": [{"index": 0, "name": "H100"}]',
        b'"disks": [{"path": "/", "free_bytes": 1}]',
        b'"tools": [["uv", "/uv"]]',
    ),
    *(b'"addresses": [["eth0", "10.0.0.1"]]', b'"clock": [1, 2]', b'"facts": {'),
)
def facts(data: bytes) -> None:
    """What a node says of itself."""
    with refused():
        answer = Answer.read(NODE.name, "a fuzzer", data)
        found = _checked(answer["facts"], 0.0)
        assert is_harmless(describe_facts(found), 10_000)
        assert type(found).from_dict(found.to_dict()) == found


@target(
    *(b"home=/root\n", b"user=root\n", b"uid=0\n", b"cpus=8\n", b"memory_kib=1\n", b"start=1.0\n", b"end=2\n", b"="),
    *(b"address=eth0 10.0.0.1\n", b"gpu=0, H100, 81559, 4, 550.54, GPU-a\n", b"disk./=1 2 /dev/x\n", b"tool.uv=/uv\n"),
    *(b"\xc2\xb2", b"9" * 30, b"[N/A]", b"system=Linux\narch=x86_64\nhostname=x\n"),
)
def facts_by_sh(data: bytes) -> None:
    """The same by sh: lines of a name and a value."""
    with refused():
        answer = _read_lines(NODE.name, data)
        for each in answer["clock"].items(2):
            each.number(0, 1e11)
        _checked(answer["facts"], 0.0)


@target(
    *(
        b"\0",
        b"/site",
        b"same",
        b"done",
        b"conflict",
        b"edited",
        b"foreign",
        b"project",
        b"emptied",
        b"owner",
        b"place",
    ),
    *(
        b"open",
        b"home",
        b"blocked",
        b"busy",
        b"jobs",
        b"full",
        b"lacks",
        b"modes",
        b"changed",
        b"error",
        b"EROFS",
        b"7",
    ),
    *(b"-1", b"9" * 400, b"plan", b"1\0" * 9),
)
def pushes(data: bytes) -> None:
    """What a receiver says it did, or would do."""
    for read in (read_answer, read_preview):
        with refused():
            read(NODE.name, data)


@target(b"\0", b"0\0000", b"-1\0009", b"!", b"137\0000\0001 x\0\0002 y\0\0/bin", b"255", b"-", b"999999999\000999")
def ends_of_runs(data: bytes) -> None:
    """How a run ended, and how a program of ours failed."""
    run = SimpleNamespace(
        command=Command("true"), remote=REMOTE, output=SimpleNamespace(value=lambda stream: b"", dropped=0)
    )
    with refused():
        done = _Leashed(cast(Any, run))._completed(data)
        assert not done.ok or [int(number) for number in data.split(b"\0")[:2]] == [0, 0]
        if (failure := done.failure()) is not None:
            assert_shown(failure)
    assert_shown(failure_of(NODE.name, "fuzzed", data))


@target(
    b"81a4 12 99 1700000000 x 2024-01-01.123456789 x 1700000000 x 2024-01-01.5 x", b" ", b"-", b".", b"f" * 30, b"_"
)
def found_by_sh(data: bytes) -> None:
    """A line of stat, as a node without python3 answers."""
    try:
        found = Found.parse(data)
    except ValueError:
        return
    assert -1 << 96 < found.st_mtime_ns < 1 << 96
    assert 0 <= found.st_size < 1 << 63


@target(
    *JSON_WORDS,
    *(b'"processes": [', b'"pid": 1', b'"rank": 0', b'"name": "python"', b'"state": "S"', b'"source": "x"'),
    *(
        b'"wchan": "x"',
        b'"dump": "',
        b'Thread 1 \\"MainThread\\"\\n',
        b'  File \\"a.py\\", line 3 in f\\n',
        b"    f (a.py:3)\\n",
    ),
)
def stands(data: bytes) -> None:
    """Where ranks stand, by faulthandler's or py-spy's words."""
    with refused():
        stands_of(0, NODE.name, Answer.read(NODE.name, "a fuzzer", data))
