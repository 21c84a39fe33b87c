"""Detached jobs on a node without python3: the folder, states and answers of node_side/run/jobs.py, by sh alone.

Who keeps a job is a shell (node_side/run/job_keep.sh). It cannot tell a status above 128 from a signal, so it says
which it was given (``signal_possible``), and its times are whole seconds.
"""

from __future__ import annotations

import json
import math
from typing import Any

import anyio

from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.interpreter import open_script
from asyncdeploy.remote.sh import exports, script
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job
from asyncdeploy.run.streams import Input
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import ConnectionLost, ProtocolError
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines, one_line

MAX_ANSWER = 16 << 20
"""A list of some ten thousand jobs."""
READ_LIMIT = 512 * 1024
WAIT_SLICE_S = 45
"""A wait answers at least so often; the client asks again."""
MOST_TOLD = 4096
"""Characters of a line that is for people only, once it runs."""
TERM = 15
SHOWN = 80
"""Characters of what was not expected, in an error."""
_HEAD = regex(rb"[0-9]{1,18} [0-9]{1,18}")


async def start_by_sh(remote: Remote, job: Job, command: Command, stdin: Input) -> dict[str, Any]:
    """Start a job once, however often it is asked for.

    Args:
        remote: a node without python3.
        job: its id is the key.
        command: what it runs.
        stdin: what it reads.

    Returns:
        What node_side/run/jobs.py answers: {} or "error" with what it is.

    Raises:
        ConnectionLost: the connection broke; it may have been started.
    """
    env = {**dict(command.env), **command.secret_values()}
    spec: dict[str, Any] = {"id": job.id, "name": job.name, "site": job.site}
    on_end = command.on_end and command.on_end[:MOST_TOLD]
    spec |= {"line": command.line[:MOST_TOLD], "cwd": command.cwd, "env": sorted(env), "on_end": on_end}
    spec |= {"timeout_s": command.timeout_s, "created_at": job.created_at}
    text = json.dumps(spec)[:-1]
    same = json.dumps({"name": job.name, "site": job.site})[1:-1] + ","
    timeout = "" if command.timeout_s is None else str(math.ceil(command.timeout_s))
    words = (job.id, text, timeout, command.cwd or "", command.on_end or "", exports(env) + command.line)
    keeper = script(("processes", "run/job", "run/job_keep"), *words).decode("utf-8", "surrogateescape")
    channel = await open_script(remote, script(("processes", "run/job", "run/job_start"), job.id, text, same, keeper))
    try:
        while block := await stdin.next_block():
            channel.send(b"%-11d\n" % len(block) + block)
            await channel.drain()
        channel.send(b"%-11d\n" % 0)
        said = b""
        while data := await channel.read():
            said = (said + data)[-MAX_ANSWER:]
        word, _, rest = said.decode("utf-8", "replace").strip().partition(" ")
        if word in ("ok", "again"):
            return {}
        if word in ("exists", "failed"):
            return {"error": word, "id": rest, "reason": rest}
        errors = b""
        with anyio.move_on_after(1):
            errors = await channel.read_stderr()
        what = f"a word about the start of job {job.id} was expected, the shell on the node ended without one"
        raise ConnectionLost(remote.node.name, what, evidence=last_lines(said + errors))
    finally:
        await channel.close()


async def ask_by_sh(remote: Remote, request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Answer a question about jobs, as node_side/run/jobs.py does.

    Args:
        remote: a node without python3.
        request: "op" and what it needs.

    Returns:
        Bytes of a log, and the answer.

    Raises:
        ConnectionLost: the connection broke.
        ProtocolError: the node's words make no sense.
    """
    match request["op"]:
        case "list":
            known, _ = await _ask(remote, "list")
            return b"", {"jobs": [state for state in known if state["spec"]]}
        case "read":
            return await _read(remote, request)
        case "wait":
            words = ["await", request["id"], str(math.ceil(min(float(request["timeout_s"]), WAIT_SLICE_S)))]
        case "stop":
            words = ["stop", request["id"], str(math.ceil(float(request["grace_s"])))]
        case _:
            words = ["show", request["id"]]
    found, _ = await _ask(remote, *words)
    if not found and request.get("forbid"):
        end: dict[str, Any] = {"status": None, "signal": TERM, "survivors": [], "stopped": True}
        found, _ = await _ask(remote, "forbid", request["id"], json.dumps(end))
    return b"", found[0] if found else {"error": "unknown"}


async def _read(remote: Remote, request: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    wait_s = math.ceil(min(float(request["wait_s"]), WAIT_SLICE_S))
    found, rest = await _ask(remote, "log", request["id"], str(request["offset"]), str(READ_LIMIT), str(wait_s))
    head, _, data = rest.partition(b"\n")
    if not _HEAD.fullmatch(head):
        what = "a log's size and where it was read, two numbers, were expected in front of it"
        raise ProtocolError(remote.node.name, f"{what}, got {one_line(head, SHOWN)}")
    size, place = map(int, head.split())
    return data, {"offset": place, "size": size, "state": found[0]["state"] if found else "lost"}


async def _ask(remote: Remote, *words: str) -> tuple[list[dict[str, Any]], bytes]:
    """Return what the node says of jobs, and what follows that."""
    what = f"a question about jobs ({words[0]})"
    channel = await open_script(remote, script(("processes", "run/job", "run/job_ask"), *words))
    try:
        said = bytearray()
        while data := await channel.read():
            said += data
            if len(said) > MAX_ANSWER:
                raise ProtocolError(remote.node.name, f"{what}: at most {MAX_ANSWER} bytes were expected, more came")
        if (await channel.wait()).status is None:
            raise ConnectionLost(remote.node.name, "the connection broke while a job was asked about")
    finally:
        await channel.close()
    answer = bytes(said)
    return _parse(Answer(remote.node.name, what, answer, beginning=one_line(answer)), is_log=words[0] == "log")


def _parse(answer: Answer, *, is_log: bool) -> tuple[list[dict[str, Any]], bytes]:
    """Return the states of jobs, and what follows the last one: as objects ten times the bytes that came.

    Raises:
        ProtocolError: they make no sense.
    """
    found, said, at = [], answer.value, 0
    while said.startswith(b"N", at):
        facts, at = _facts(answer, said, at)
        found.append(_state(answer, facts))
        if is_log:
            break
    rest = said[at:]
    if rest and not is_log:
        raise answer.refused(f"a job (N...) or the end was expected, got {one_line(rest, SHOWN)}")
    return found, rest


def _facts(answer: Answer, said: bytes, at: int) -> tuple[dict[str, str], int]:
    """Return what is said of one job from a place on, and where the next one's begins."""
    facts: dict[str, str] = {}
    while at < len(said):
        end = said.find(b"\n", at)
        end = len(said) if end < 0 else end
        line, at = said[at:end], end + 1
        if line == b".":
            return facts, at
        facts[line[:1].decode("latin-1")] = line[1:].decode("utf-8", "surrogateescape")
    raise answer.refused("a line with a dot was expected behind what is said of a job")


def _state(answer: Answer, facts: dict[str, str]) -> dict[str, Any]:
    """Return a job's state as node_side/run/job_state.py would."""
    spec = _file(answer, facts, "S")
    state: dict[str, Any] = {"id": facts["N"], "spec": spec, "state": "starting"}
    if isinstance(spec.get("started_at"), int | float):
        state["started_at"] = spec["started_at"]
    place = facts.get("I", "")
    there, here = (facts.get(name, "").rpartition(":") for name in "IH")
    if "X" in facts:
        end = _file(answer, facts, "X")
        return state | end | {"state": "signalled" if end.get("signal") else "exited"}
    if place and there[0] != here[0]:
        state["state"] = "lost" if there[2] == here[2] else "elsewhere"  # the first is an earlier boot of this one
    elif place and facts.get("A") == "1":
        state["state"] = "running"
    elif place:
        state["state"] = "orphaned" if facts.get("L", "").strip() else "lost"
    elif "Y" not in facts:
        state["state"] = "lost"
    return state


def _file(answer: Answer, facts: dict[str, str], name: str) -> dict[str, Any]:
    """Return what a file of a job's folder holds, {} where there is none."""
    text = facts.get(name, "").encode("utf-8", "surrogateescape")
    return Answer.read(answer.node, answer.what, text).object() if text else {}
