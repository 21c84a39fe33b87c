"""What programs print at their ends, read for what went wrong: torchrun's logs, errors of steps, shells that miss."""

import json

from asyncdeploy.envs.known_errors import find_hint, find_note
from asyncdeploy.launch.root_cause.agent_log import worker_exits
from asyncdeploy.launch.root_cause.known_errors import gave_up_waiting, hint_for, is_symptom, port_was_taken, symptom_in
from asyncdeploy.launch.root_cause.log_tail import error_line, last_words
from asyncdeploy.launch.root_cause.records import NodeRecords
from asyncdeploy.values.not_found import hint_of_missing
from asyncdeploy.values.words import is_harmless
from tests.fuzz.target import target
from tests.fuzz.targets.answers import JSON_WORDS

LOG_WORDS = (
    *(
        b"Traceback (most recent call last):\n",
        b'  File "a.py", line 1\n',
        b"Fatal Python error: x\n",
        b"[rank0]: ",
        b"\n",
    ),
    *(
        b"[default0]:",
        b"E1128 20:00:00.000000 1 torch/distributed/x.py:1] ",
        b"failed (exitcode: -9) local_rank: 0 (pid: 7)",
    ),
    *(
        b"  rank      : 1 (local_rank: 1)\n  exitcode  : 1 (pid: 8)\n",
        b"Sending process",
        b"RuntimeError: x\n",
        b" ",
        b"\r",
    ),
    *(
        b"CUDA out of memory",
        b"Connection reset by peer",
        b"Address already in use",
        b"\x1b[31m",
        b"\xff",
        b"\xe2\x80\xa8",
    ),
)


@target(*LOG_WORDS)
def rank_logs(data: bytes) -> None:
    """The end of a rank's log."""
    text = data.decode("utf-8", "replace")
    for rank in (None, 0):
        words = last_words(text, rank)
        assert all(is_harmless(line) for line in words.split("\n"))
        error_line(words)
    for end in worker_exits(text, 1.7e9).values():
        assert end.at <= 1.7e9 + 1
    for read in (is_symptom, gave_up_waiting, symptom_in, port_was_taken, hint_for):
        read(text)


@target(
    *JSON_WORDS,
    *(
        b'"records": [{"rank": 0, "local_rank": 0, "at": 1, "type": "E", "message": "m"',
        b'"frames": [["a.py", 1, "f"]]',
    ),
    *(
        b'"exits": [{"local_rank": 0, "exit_code": 1, "at": 2, "pid": 3',
        b'"logs": [{"local_rank": "0", "text": "x"',
        b"}]",
    ),
    *(
        b'"error_files": [{"local_rank": 0, "error": {"message": {"message": "m", "extraInfo": {"timestamp": "1"',
        b"}}}}]",
    ),
    *(b'"oom": {"killed": {"3": "x"}, "cgroup": 1}', b"1e13", b"1" + b"0" * 400),
)
def rank_records(data: bytes) -> None:
    """What a node's programs have written down of its ranks, as JSON that may be anything."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(said, dict):
        for log in ("", "failed (exitcode: -9) local_rank: 0 (pid: 7)"):
            records = NodeRecords(0, 1.7e9, log=log, evidence=said)
            for failure in (*records.failures(), records.own_failure(1)):
                assert is_harmless(failure.error)
                assert all(is_harmless(frame) for frame in failure.frames)


@target(
    *(b"No space left on device", b"Git operation failed", b"connect to host", b"download", b"cpython-", b"`UV_", b"`"),
    *(
        b"is missing a `",
        b"pyproject.toml",
        b"references a workspace in ",
        b"but is not",
        b"40",
        b"3 Forbidden",
        b"\n",
        b" ",
    ),
    *(
        b": command not found\n",
        b"exec: ",
        b"env: ",
        b": not found",
        b"'",
        b"failed to run command ",
        b": inaccessible or",
        b"a",
    ),
    *(
        b"daemon-socket",
        b"repository ",
        b" not found",
        b"fatal error: ",
        b".h: No such file",
        b"export PATH='",
        b"${PATH",
    ),
)
def steps(data: bytes) -> None:
    """What a step or a shell printed, for a hint."""
    text = data.decode("utf-8", "replace")
    assert isinstance(find_hint(text), str)
    assert isinstance(find_note(text), str)
    assert is_harmless(hint_of_missing(text, "/bin", text), 10_000)
