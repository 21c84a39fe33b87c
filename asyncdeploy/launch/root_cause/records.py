"""What one node's records say of the failures of its ranks: RankFailure. The node is not trusted. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import attrs

from asyncdeploy.launch.root_cause.agent_log import ProcessEnd, worker_exits
from asyncdeploy.launch.root_cause.known_errors import gave_up_waiting, is_symptom
from asyncdeploy.launch.root_cause.log_tail import error_line, last_words
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import one_line

MOST_FRAMES = 6
"""Of the program's own code: from where the error began to where it was raised."""
MOST_ERROR = 400
STOPPED_CODES = (-15, -2, -1, 128 + 15, 128 + 2, 128 + 1)
"""TERM, INT and HUP, as a signal and as a shell tells it."""
KILLED_CODES = (-9, 128 + 9)

_LIBRARY = regex(r"/(?:site|dist)-packages/|/lib(?:64)?/python[0-9.]+/|^<frozen |/tools/rank_runner\.py$")
_AGENTS_OWN = regex(r"ChildFailedError|SignalException|CalledProcessError|KeyboardInterrupt")


@attrs.frozen
class RankFailure:
    """How one rank, or a node's command, came to fail.

    Attributes:
        node_rank: on which node.
        at: when, seconds since 1970, our clock.
        local_rank: which of its ranks; None is the node's command itself.
        exit_code: its exit status, a signal's number below 0; None where nobody recorded it.
        error: "type: message" of the exception that ended it, "" where none is known.
        frames: where that was raised, in the program's own code, the innermost last: "train.py:212 in step".
        words: the last lines that it printed.
        log: the path of its log on the node.
        oom: what speaks for a kill by the kernel for lack of memory, or "".
        symptom: it only complains that a peer is gone.
        stopped: it ended because somebody stopped it.
        waited: it gave up waiting for others, who had not come.
        late: others gave up waiting for it.
        told: why the others ended, where that is all there is: "node rank 1 (gpu1) fell silent for 60 s".
        noted: an exception of it was recorded, and the time is that of the exception.
    """

    node_rank: int
    at: float
    local_rank: int | None = None
    exit_code: int | None = None
    error: str = ""
    frames: tuple[str, ...] = ()
    words: str = ""
    log: str = ""
    oom: str = ""
    symptom: bool = False
    stopped: bool = False
    noted: bool = False
    waited: bool = False
    late: bool = False
    told: str = ""


@attrs.frozen
class NodeRecords:
    """What a node says of its ranks, and what is needed to read it.

    Attributes:
        node_rank: the node.
        ended_at: when its job ended, its own clock.
        clock_offset_s: its clock minus ours.
        workdir: where its ranks started: frames are named relative to it.
        log: the end of its job's log.
        evidence: what rank_evidence.py answered; {} where there is none.
    """

    node_rank: int
    ended_at: float
    clock_offset_s: float = 0.0
    workdir: str = ""
    log: str = ""
    evidence: Mapping[str, Any] = attrs.field(factory=dict)

    def failures(self) -> tuple[RankFailure, ...]:
        """Return the failures of its ranks, none where nothing is known of single ranks."""
        exits = _runner_exits(self.evidence) or {}
        agents = worker_exits(self.log, self.ended_at)
        known: dict[int | None, ProcessEnd] = {**agents, **exits}
        records = [record for record in _dicts(self.evidence, "records") if _number(record.get("at")) is not None]
        errors = {_local(item): item for item in _dicts(self.evidence, "error_files")}
        ranks = {_local(record) for record in records if record.get("rank") is not None} | set(errors) | set(known)
        found = []
        for rank in sorted(rank for rank in ranks if rank is not None):
            end = known.get(rank)
            # A summary of torchrun names all that failed; a helper of a rank that is not among them has raised.
            if (end is None and agents) or (end is not None and end.code == 0):
                continue
            record = _record_of(records, rank, end) or _from_error_file(errors.get(rank))
            found.append(self._failure(rank, end, record))
        return tuple(found)

    def own_failure(self, exit_code: int | None) -> RankFailure:
        """Return the failure of the node's command itself, where nothing is known of single ranks."""
        records = [record for record in _dicts(self.evidence, "records") if record.get("rank") is None]
        telling = [record for record in records if not _AGENTS_OWN.search(str(record.get("type")))]
        end = (_runner_exits(self.evidence) or {}).get(None)
        found = self._failure(None, end, telling[-1] if telling else None)
        return attrs.evolve(found, at=self._ours(self.ended_at), exit_code=exit_code)

    def _failure(self, rank: int | None, end: ProcessEnd | None, record: Mapping[str, Any] | None) -> RankFailure:
        path, text = self._log_of(rank)
        words = last_words(text or self.log, rank if not text else None)
        code = end.code if end else None
        if record is not None:
            raised = f"{record.get('type')}: {record.get('message')}".strip(": ")
            error, telling, frames = _first_line(raised), raised, self._frames(record)
        else:
            error, frames = _first_line(error_line(words)), ()
            telling = error or (text[-3000:] if code is not None and code < 0 else words)
        times = [value for value in (_number((record or {}).get("at")), end.at if end else None) if value is not None]
        killed = code in KILLED_CODES or "killed by signal: Killed" in telling
        return RankFailure(
            self.node_rank,
            self._ours(min(times, default=self.ended_at)),
            rank,
            code,
            error,
            frames,
            words,
            path,
            self._oom(end) if killed else "",
            symptom=code not in KILLED_CODES and is_symptom(telling),
            stopped=code in STOPPED_CODES or (record is None and end is not None and end.stopped),
            noted=record is not None,
            waited=gave_up_waiting(telling),
        )

    def _ours(self, at: float) -> float:
        return at - self.clock_offset_s

    def _log_of(self, rank: int | None) -> tuple[str, str]:
        for item in _dicts(self.evidence, "logs"):
            if _local(item) == rank:
                return one_line(str(item.get("path"))), str(item.get("text"))
        return "", ""

    def _frames(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        frames = record.get("frames")
        rows = [row for row in frames if isinstance(row, list) and len(row) == 3] if isinstance(frames, list) else []
        own = [row for row in rows if not _LIBRARY.search(str(row[0]))] or rows[-1:]
        return tuple(one_line(self._frame(*row)) for row in own[-MOST_FRAMES:])

    def _frame(self, file: Any, line: Any, function: Any) -> str:
        path = str(file)
        inside = f"{self.workdir.rstrip('/')}/"
        name = path.removeprefix(inside) if path.startswith(inside) else PurePosixPath(path).name
        return f"{name}:{line}" + ("" if function == "<module>" else f" in {function}")

    def _oom(self, end: ProcessEnd | None) -> str:
        """Say what speaks for the kernel's OOM killer."""
        seen = self.evidence.get("oom")
        oom = seen if isinstance(seen, dict) else {}
        killed = oom.get("killed")
        lines = killed if isinstance(killed, dict) else {}
        if end is not None and (line := lines.get(str(end.pid))):
            return f"the kernel killed it for lack of memory: {one_line(str(line))}"
        for name, where in (("cgroup", "in its memory cgroup"), ("machine", "on this machine")):
            if (count := _number(oom.get(name))) is not None:
                return f"the kernel killed {count:.0f} process(es) {where} for lack of memory while it ran"
        return ""


def _runner_exits(evidence: Mapping[str, Any]) -> dict[int | None, ProcessEnd]:
    exits = {}
    for item in _dicts(evidence, "exits"):
        code, at, pid = (_number(item.get(name)) for name in ("exit_code", "at", "pid"))
        if code is not None and at is not None:
            exits[_local(item)] = ProcessEnd(int(pid or 0), int(code), at, item.get("stopped") is True)
    return exits


def _record_of(records: Iterable[Mapping[str, Any]], rank: int, end: ProcessEnd | None) -> Mapping[str, Any] | None:
    """Return the exception that ended a rank: that of its own process, else the last one below it."""
    mine = [record for record in records if record.get("rank") is not None and _local(record) == rank]
    own = [record for record in mine if end is not None and record.get("pid") == end.pid]
    return (own or mine)[-1] if mine else None


def _from_error_file(item: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what torchelastic's error.json says as a record; its time is in whole seconds."""
    error = item.get("error") if item else None
    message = error.get("message") if isinstance(error, dict) else None
    if isinstance(message, dict):
        extra = message.get("extraInfo")
        at = extra.get("timestamp") if isinstance(extra, dict) else None
        number = float(at) if isinstance(at, str) and at.isdecimal() and len(at) < 13 else None
        text = str(message.get("message"))
    elif isinstance(message, str):
        number, text = None, message
    else:
        return None
    name, _, rest = text.partition(": ")
    return {"type": name, "message": rest, "at": number}


def _dicts(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = data.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _local(item: Mapping[str, Any]) -> int | None:
    value = item.get("local_rank")
    if isinstance(value, str) and value.isdecimal() and len(value) < 7:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
    return float(value) if fits else None


def _first_line(text: str) -> str:
    line = next((line for line in text.splitlines() if line.strip()), "")
    return one_line(line, MOST_ERROR)
