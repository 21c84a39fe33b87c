"""Ask a node what it is. A node's word is checked before it becomes NodeFacts: it is not trusted with anything."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import Any

import anyio
import attrs

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.remote.answers import LATEST, Answer
from asyncdeploy.remote.interpreter import has_python, open_script
from asyncdeploy.remote.sh import script
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import ConnectionLost
from asyncdeploy.values.words import is_harmless, one_line
from asyncdeploy.values.workspace import check_remote_path

PROBE = "our probe"
"""What is asked here, in errors."""
MAX_ANSWER = 256 * 1024
"""A node with 256 GPUs and as many addresses stays below it."""
MAX_ROWS = 512
MAX_TEXT = 4096
SH_S = 30.0
"""How long the sh probe may take: it runs two dozen small programs, and nvidia-smi at most 5 s."""


@checked
async def probe_node(remote: Remote, *, fresh: bool = False) -> NodeFacts:
    """Return what a node is; asked once a connection.

    Args:
        remote: the node.
        fresh: ask again although it was asked before: free disk space and GPU memory change.

    Raises:
        ProtocolError: its answer is no facts.
        NoShell, ConnectError, AuthError, HostKeyError, ConnectionLost: as Remote.open.
    """
    known = remote.memory.get("facts")
    if isinstance(known, NodeFacts) and not fresh:
        return known
    with stage(remote, "probe") as ours:
        facts = await _ask(remote)
        ours.detail = describe_facts(facts)
    remote.memory["facts"] = facts
    return facts


def describe_facts(facts: NodeFacts) -> str:
    """Return the facts in a few words, as "8x NVIDIA H100, 208 CPUs, uv" for people."""
    words = [f"{len(facts.gpus)}x {facts.gpus[0].name}"] if facts.gpus else []
    words.append(f"{facts.cpus} CPU" + ("s" if facts.cpus != 1 else ""))
    words += [tool if facts.tool(tool) else f"no {tool}" for tool in ("uv",)]
    return ", ".join(words if facts.python else [*words, "no python3"])


async def _ask(remote: Remote) -> NodeFacts:
    python = await has_python(remote)  # connects and greets, so that only the call itself is timed
    sent_at = time.time()
    answer = await (ask(remote, "probe", {}, what=PROBE) if python else _ask_script(remote))
    received_at = time.time()
    start, end = (each.number(0, LATEST) for each in answer["clock"].items(2))
    # The mean of both ways' differences, as NTP does it: the time that the node worked in between does not count.
    offset = ((start - sent_at) + (end - received_at)) / 2
    return _checked(answer["facts"], offset)


async def _ask_script(remote: Remote) -> Answer:
    channel = await open_script(remote, script(("probe",)))
    answer = b""
    try:
        channel.send_eof()
        with anyio.move_on_after(SH_S) as limit:
            while len(answer) <= MAX_ANSWER and (data := await channel.read()):
                answer += data
    finally:
        await channel.close()
    if limit.cancelled_caught:
        raise ConnectionLost(remote.node.name, f"the node did not say what it is within {SH_S:.0f} s")
    return _read_lines(remote.node.name, answer)


def _read_lines(node: str, answer: bytes) -> Answer:
    """Return the sh probe's lines, at most MAX_ANSWER bytes, as what the Python probe answers."""
    said = Answer(node, PROBE, None, beginning=one_line(answer))
    if len(answer) > MAX_ANSWER:
        raise said.refused(f"at most {MAX_ANSWER} bytes were expected")
    try:
        return attrs.evolve(said, value=_data(answer))
    except KeyError as error:
        raise said.refused(f"a line {error.args[0]}=... was expected") from None
    except ValueError as error:
        raise said.refused(str(error)) from None


def _data(answer: bytes) -> dict[str, Any]:
    rows: dict[str, list[str]] = {}
    for line in answer.decode("utf-8", "replace").splitlines():
        key, mark, value = line.partition("=")
        if mark:
            rows.setdefault(key, []).append(value)
    one = {key: values[0] for key, values in rows.items()}
    facts: dict[str, Any] = {key: one[key] for key in _TEXTS if key in one}
    facts["uid"] = int(one["uid"])
    facts["cpus"] = int(one.get("cpus", "1"))
    facts["memory_bytes"] = int(one.get("memory_kib", "0")) * 1024
    facts["tools"] = [[key.removeprefix("tool."), value] for key, value in one.items() if key.startswith("tool.")]
    facts["addresses"] = [value.split(" ", 1) for value in rows.get("address", [])]
    facts["disks"] = _disks(one)
    facts["gpus"] = sorted((_gpu(value) for value in rows.get("gpu", [])), key=lambda row: int(row["index"]))
    # `date` cuts the second off: its middle is nearest.
    return {"facts": facts, "clock": [float(one["start"]) + 0.5, float(one["end"]) + 0.5]}


_TEXTS = ("home", "user", "hostname", "system", "arch", "libc", "uv_version", "ssh_address", "identity")


def _disks(one: dict[str, str]) -> list[dict[str, Any]]:
    disks: dict[str, dict[str, Any]] = {}  # by device: one entry a file system
    for key, value in one.items():
        if key.startswith("disk."):
            free, total, device = value.split(" ", 2)
            row = {"path": key.removeprefix("disk."), "free_bytes": int(free) * 1024, "total_bytes": int(total) * 1024}
            disks.setdefault(device, row)
    return list(disks.values())


def _gpu(text: str) -> dict[str, Any]:
    index, name, total, used, driver, uuid = (cell.strip() for cell in text.split(","))
    memory, in_use = (int(cell) << 20 if cell.isdigit() else 0 for cell in (total, used))
    row = {"index": int(index), "name": name, "memory_bytes": memory, "used_bytes": in_use}
    return {**row, "driver": driver, "uuid": uuid}


def _checked(answer: Answer, clock_offset_s: float) -> NodeFacts:
    """Return the facts that a node gave.

    Raises:
        ProtocolError: a field is missing, of a wrong type, too large, or would be dangerous in a path or on a terminal.
    """
    try:
        facts = NodeFacts.from_dict(answer.object() | {"clock_offset_s": clock_offset_s})
        _check(facts)
    except ValueError as error:
        raise answer.refused(str(error)) from None
    return facts


def _check(facts: NodeFacts) -> None:
    """Raise ValueError, naming the field, for what types alone do not tell."""
    check_remote_path(facts.home, "home")
    for name, rows in (
        ("tools", facts.tools),
        ("gpus", facts.gpus),
        ("disks", facts.disks),
        ("addresses", facts.addresses),
    ):
        if len(rows) > MAX_ROWS:
            raise ValueError(f"{name}: at most {MAX_ROWS} were expected, got {len(rows)}")
    paths = [*facts.tools, *(("disks", disk.path) for disk in facts.disks), ("python", facts.python or "/")]
    for name, path in paths:
        check_remote_path(path, name)
        if not path.startswith("/"):
            raise ValueError(f"{name}: an absolute path was expected, got {path!r}")
    for name, text in _texts(facts):
        if not is_harmless(text, MAX_TEXT):
            raise ValueError(f"{name}: at most {MAX_TEXT} characters to be shown were expected, got {text[:80]!r}")
    for name, address in (*facts.addresses, ("ssh_address", facts.ssh_address or "::")):
        if not _is_address(address):
            raise ValueError(f"{name}: an IP address was expected, got {address[:80]!r}")
    for name, number, least in (
        ("cpus", facts.cpus, 1),
        ("memory_bytes", facts.memory_bytes, 0),
        ("uid", facts.uid, 0),
    ):
        if number < least:
            raise ValueError(f"{name}: a whole number from {least} was expected, got {number}")


def _texts(facts: NodeFacts) -> Iterator[tuple[str, str]]:
    """Yield the names and values of what people are shown."""
    for name in (
        "user",
        "hostname",
        "system",
        "arch",
        "libc",
        "python_version",
        "uv_version",
        "identity",
        "home_identity",
    ):
        yield name, getattr(facts, name)
    yield from (("addresses", name) for name, _ in facts.addresses)
    yield from (("tools", name) for name, _ in facts.tools)
    for gpu in facts.gpus:
        yield from (("gpus", text) for text in (gpu.name, gpu.driver, gpu.uuid))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
