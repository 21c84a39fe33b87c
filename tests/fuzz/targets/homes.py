"""Files that lie in people's homes on a node: jobs' folders, a recorder's file; whatever is in them, we go on."""

import contextlib
import json
import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

from asyncdeploy.node_side import gpus, job_folder, proc, tools
from asyncdeploy.node_side.launch.flight_recorder import last_entry
from asyncdeploy.node_side.run import job_state, jobs, log_times, sessions
from asyncdeploy.node_side.run.supervising import end_record
from asyncdeploy.sources.slurm import ledger as slurm_ledger
from tests.fuzz.dough import Dough
from tests.fuzz.target import target

JOB = "train-abcdefgh"


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A home of its own; the process has it as HOME meanwhile."""
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """No other process is seen meanwhile: a look at the hundreds that run here is no part of reading a folder."""
    before, proc.pids = proc.pids, lambda: [os.getpid()]
    try:
        yield
    finally:
        proc.pids = before


@target(
    *(b"\xff", b'{"id": "train-abcdefgh"', b'"site": "/tmp"', b'"started_at": 1', b'"status": 0', b'"signal": 9', b"}"),
    *(
        b'"asks_until": 9e99',
        b'"asks_until": "x"',
        b", ",
        b"null",
        b"[]",
        b"1 2 3 4 5 6\nboot:1:2:host\n",
        b"7:8 9:10 ",
    ),
    *(b'"ended_at": 1', b'"survivors": []', b'"state": "exited"', b'"spec": 1', b"\0" * 16),
)
def job_folders(data: bytes) -> None:
    """A job's folder as a person, another program or a disk has left it: it is told of, and so are the others."""
    dough = Dough(data)
    names = ("spec.json", "exit", "pid", "sessions", "times", "stop")
    with home() as found, alone():
        folder = found / ".asyncdeploy" / "jobs" / JOB
        folder.mkdir(parents=True)
        for name, piece in zip(names, dough.pieces(), strict=False):
            if piece:
                (folder / name).write_bytes(piece)
        status = job_state.status_of(JOB)
        assert status["id"] == JOB
        assert status["state"] in (*job_state.RUNS, "exited", "signalled", "lost")
        json.dumps(jobs.list_all(None, {}))
        job_folder.running_in("/tmp", [JOB])
        sessions.sessions_of(str(folder))
        assert log_times.marks_between(str(folder), 0, 1 << 60) is not None


@target(b"\xff", b"1 x", b"/bin", b"0", b"\xe2\x82\xac", b"\\", b'"')
def ends(data: bytes) -> None:
    """An end, written and read: it always fits its room, and the status in it is whole."""
    dough = Dough(data)
    times = 1 + dough.number(15) * 8
    words = [piece.decode("utf-8", "replace") for piece in dough.pieces()]
    end = {
        "status": 3,
        "signal": None,
        "survivors": words * times,
        "path": "".join(words) * times,
        "because": words[:1],
    }
    written = end_record.fitted({**end, "because": "".join(words[:1]), "gpu_left": words})
    assert len(written) <= end_record.ROOM
    assert json.loads(written)["status"] == 3


@target(
    *(
        pickle.dumps({"entries": [{"state": "started", "profiling_name": "x"}]}),
        b"\x80\x04",
        b"}",
        b"]",
        b"a",
        b"s",
        b".",
    ),
    *(
        b"\x8c\x07entries",
        b"\x8c\x05state",
        b"\x8c\x11collective_seq_id",
        b"0",
        b"2",
        b"h\0",
        b"\x94",
        b"(",
        b"t",
        b"e",
    ),
    *(b"\x8b\xff\x0f\0\0", b"cos\nsystem\n", b"\x96\xff\xff\xff\xff\0\0\0\0", b"\x8b\x10\0\0\0" + b"\x7f" * 16, b"u"),
)
def recordings(data: bytes) -> None:
    """A flight recorder's file: plain data, made short, or nothing."""
    found = last_entry(data)
    if found is not None:
        assert len(json.dumps(found)) < 200_000


@target(b", ", b"[N/A]", b"\n", b"0, GPU-a, 18446744073709551615", b"\xc2\xb2", b"Unknown Error", b"81559")
def nvidia_smi(data: bytes) -> None:
    """What a driver prints, in trouble too."""
    before, tools.ask = tools.ask, lambda words, within_s=0.0: data.decode("utf-8", "replace")
    try:
        gpus.users("nvidia-smi")
        gpus.used("nvidia-smi")
        gpus.more_used("nvidia-smi", [])
    finally:
        tools.ask = before


@target(b'{"name": "ad-0123456789ab"', b'"login": {"host": "h"}', b'"login": 1', b", ", b"}", b"{", b"[", b"null")
def slurm_ledgers(data: bytes) -> None:
    """A job of Slurm that is written down, or a file that only has such a name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ad-0123456789ab.json")
        path.write_bytes(data)
        fd = os.open(path, os.O_RDWR)
        try:
            slurm_ledger._read(path, fd)
        finally:
            os.close(fd)
