"""Nodes that lie: the real worker, and in a program's place one that answers whatever a file says.

`python -O -m tests.support.remotes.lies FOLDER` tells every lie to every verb; no assert helps there.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from asyncdeploy.envs.base import Asset
from asyncdeploy.envs.bootstrap.assets import send_asset
from asyncdeploy.launch.follow.diagnosis import stands_of
from asyncdeploy.launch.follow.looks import tell_ids, tell_jobs
from asyncdeploy.launch.gang.node_folder import gather_evidence
from asyncdeploy.launch.gang.recall import recall_launch
from asyncdeploy.launch.preflight.disturbances import see_node
from asyncdeploy.launch.preflight.reachability import try_pairs
from asyncdeploy.launch.preflight.rendezvous import port_opened, prove_meeting
from asyncdeploy.launch.root_cause.records import NodeRecords
from asyncdeploy.nodes.facts import Gpu, NodeFacts
from asyncdeploy.nodes.parse import Node
from asyncdeploy.push.push import finish_push
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.worker import ask
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job
from asyncdeploy.run.job_log import JobLog
from asyncdeploy.run.jobs import find_job, job_status, list_jobs, start_job, stop_job, wait_job
from asyncdeploy.run.tmux import with_window
from asyncdeploy.values.errors import DeployError
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote

ANSWERS = """
import json, os

def said(name):
    with open(os.path.join(os.path.expanduser("~"), name), "rb") as file:
        return file.read()

def main(worker, args):
    if args.startswith(b'{"do": "listen"'):
        worker.send(b"P", said("port"))
        worker.receive()
        return b"{}"
    if args.startswith(b'{"do": "pairs"'):
        worker.send(b"P", said("ports"))
        worker.receive()
        worker.send(b"R", said("answer"))
        worker.receive()
        return b"{}"
    if args.startswith(b'{"op": "jobs"'):
        worker.send(b"D", said("answer"))
        return b"{}"
    return said("answer")
"""
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 256, 2**63, 10**400, 0.5, float("nan"), float("inf"), 1e300, -1e300),
    *("", "x", "²", "1" * 5000, "\x1b[2J\u202e\n", "\ud800", "/", "unknown", "exists", "running", "~nobody-here/x"),
    *([], [[]], {}, {"a": 1}, [None], [1, 2, 3], ["x", "y"], [{"error": 3}]),
)
BROKEN = (
    *(b"", b"nonsense", b"\xff\xfe\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b'"\\ud800"', b"{", b"\0"),
    *(b"[[[[" * 20 + b"]]]]" * 20, b"{}", b"[]", b"null", b"NaN", b"true", b'"text"', b"\x1b[2J"),
)


class Liar(ShellRemote):
    """A node on which some programs are others.

    Args:
        sources: by their names below node_side, what is run instead.
    """

    def __init__(self, home: Path, sources: Mapping[str, str], name: str = "liar") -> None:
        super().__init__(home, name=name)
        self.sources = sources

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        if not channel.reused:
            send = channel.send

            def swapped(data: bytes) -> None:
                if data[:1] == b"P":
                    program = data[5:].partition(b"\0")[0]
                    if source := self.sources.get(program.decode()):
                        body = program + b"\0" + source.encode()
                        data = b"P" + len(body).to_bytes(4, "big") + body
                send(data)

            channel.send = swapped  # type: ignore[method-assign]
        return channel


@attrs.frozen
class OnePool:
    """What a verb of the middle level needs of a pool, over remotes that are there."""

    remotes: Mapping[Node, ShellRemote]

    def at(self, node: Node) -> ShellRemote:
        """Return the node's remote."""
        return self.remotes[node]


def mutations(sample: Any) -> Iterator[Any]:
    """Yield the sample with every part of it replaced by every nasty value, or left out."""
    for path in _paths(sample):
        for nasty in NASTY:
            changed = copy.deepcopy(sample)
            yield _with(changed, path, nasty)
        if path and isinstance(path[-1], str):
            changed = copy.deepcopy(sample)
            del _at(changed, path[:-1])[path[-1]]
            yield changed


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from ((key, *rest) for rest in _paths(value[key]))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    if not path:
        return part
    _at(value, path[:-1])[path[-1]] = part
    return value


JOB = "train-abcdefgh"
SPEC = {"name": "train", "site": "/home/me/proj", "line": "python train.py", "created_at": 1.7e9}
RUNNING = {"id": JOB, "spec": SPEC, "state": "running", "started_at": 1.7e9, "survivors": ["7 python"]}
EXITED = {**RUNNING, "state": "exited", "status": 0, "ended_at": 1.7e9, "timed_out": False, "stopped": True}
SIGNALLED = {**EXITED, "state": "signalled", "status": None, "signal": 9, "told_at": 1.7e9, "because": "gpu-2 failed"}
LOG = {"offset": 0, "size": 0, "state": "exited", "times": [[3, 1.7e9]]}
FACTS = {"home": "/root", "user": "root", "uid": 0, "gpus": [{"index": 0, "name": "H100"}], "tools": [["uv", "/uv"]]}
USERS = {"gpu_users": [["GPU-0", 7, 1 << 30, "python"]], "gpu_used": [["GPU-0", 1]]}
LOOK = {"stray": ["RANK"], **USERS, "visible": "0", "free": 1 << 40, "shared_memory": 1 << 30}
STAND = {"rank": 0, "pid": 7, "name": "python", "state": "S", "dump": "", "source": "py-spy", "wchan": "0"}
RECORD = {
    "rank": 0,
    "local_rank": "0",
    "at": 1.7e9,
    "type": "ValueError",
    "message": "no",
    "frames": [["a.py", 1, "f"]],
}
EVIDENCE = {
    "records": [RECORD],
    "exits": [{"local_rank": 0, "exit_code": 1, "at": 1.7e9, "pid": 7, "stopped": False}],
    "error_files": [{"local_rank": 0, "error": {"message": {"message": "E: x", "extraInfo": {"timestamp": "17"}}}}],
    "logs": [{"local_rank": 0, "path": "/log", "text": "E: x"}],
    "oom": {"killed": {"7": "python"}, "cgroup": 1, "machine": 0},
}


@attrs.frozen
class Verb:
    """Something that is asked of a node, and an honest answer to it."""

    name: str
    program: str
    ask: Callable[[Liar], Awaitable[object]]
    honest: Any
    lying_file: str = "answer"


def _job(remote: Liar) -> Job:
    return Job(remote.node, JOB, "train")


async def _stands(remote: Liar) -> object:
    return stands_of(0, "liar", await ask(remote, "launch.stacks", {}, what="where its ranks stand"))


async def _evidence(remote: Liar) -> object:
    records = NodeRecords(0, 1.7e9, evidence=await gather_evidence(remote, "train-abcdefgh", 0, JOB))
    return records.failures(), records.own_failure(1)


async def _log(remote: Liar) -> object:
    log = JobLog(remote, _job(remote), 0)
    await log.read_on()
    return log.offset, log.printed_at


async def _asset(remote: Liar) -> object:
    source = remote.home / "asset"
    source.write_bytes(b"content")
    return await send_asset(remote, Asset("asset", source, "/root/asset", "0" * 64))


def _pool(remote: Liar) -> Any:
    return OnePool({remote.node: remote})


VERBS = (
    Verb("probe", "probe", lambda r: probe_node(r, fresh=True), {"facts": FACTS, "clock": [1.7e9, 1.7e9]}),
    Verb("start", "run.jobs", lambda r: start_job(r, "true", name="train"), EXITED),
    Verb("start", "run.jobs", lambda r: start_job(r, "true", name="train"), {"error": "exists", "id": JOB}),
    Verb("start", "run.jobs", lambda r: start_job(r, "true", name="train"), {"error": "failed", "reason": "no room"}),
    Verb("status", "run.jobs", lambda r: job_status(r, _job(r)), SIGNALLED),
    Verb("wait", "run.jobs", lambda r: wait_job(r, _job(r), timeout_s=0), RUNNING),
    Verb("stop", "run.jobs", lambda r: stop_job(r, _job(r)), EXITED),
    Verb("list", "run.jobs", list_jobs, {"jobs": [RUNNING]}),
    Verb("find", "run.jobs", lambda r: find_job(r, JOB), RUNNING),
    Verb("log", "run.jobs", _log, LOG),
    Verb("window", "run.tmux", lambda r: with_window(r, _job(r), "/usr/bin/tmux"), {"session": "train"}),
    Verb("window", "run.tmux", lambda r: with_window(r, _job(r), "/usr/bin/tmux"), {"error": "no terminal"}),
    Verb(
        "look",
        "launch.disturbances",
        lambda r: see_node(r, _FACTS),
        {**LOOK, "free": 1 << 40, "shared_memory": 1 << 30},
    ),
    Verb("stands", "launch.stacks", _stands, {"processes": [STAND]}),
    Verb("evidence", "launch.rank_evidence", _evidence, EVIDENCE),
    Verb(
        "launches", "looks.launches", lambda r: tell_ids(r, 5), {"launches": [["train-abcdefgh", "0" * 64]], "left": 1}
    ),
    Verb("ranks", "looks.launches", lambda r: tell_jobs(r, [_job(r)]), {**SIGNALLED, "tail": "bye", "wrote_at": 1.7e9}),
    Verb("opened", "launch.ports", lambda r: port_opened(r, JOB, 29500), {"opened": True}),
    Verb("meeting", "launch.ports", lambda r: _meet(r), {"10.0.0.1": {"peer": "10.0.0.1", "local": "10.0.0.1"}}),
    Verb("meeting", "launch.ports", lambda r: _meet(r), {"10.0.0.1": {"error": "no answer"}}),
    Verb("port", "launch.ports", lambda r: _meet(r), 29500, "port"),
    Verb("pairs", "launch.ports", lambda r: _pairs(r), [{"peer": "10.0.0.2"}, {"error": "no answer"}]),
    Verb("ports", "launch.ports", lambda r: _pairs(r), [29500, 40000], "ports"),
)
RAW_VERBS = (
    Verb("run", "run.run", lambda r: run_command(r, "true"), b"0\0000\0007 python"),
    Verb("asset", "envs.asset", _asset, b"full\0001\0002"),
    Verb("push", "push.receiver", lambda r: finish_push(r, "/root/proj"), b"same\0/root/proj"),
    Verb("launch", "launch.launch_folder", lambda r: recall_launch(_pool(r), [r.node], "train-abcdefgh"), b""),
)
_FACTS = NodeFacts("/root", "root", 0, gpus=(Gpu(0, "H100", uuid="GPU-0"),))


async def _meet(remote: Liar) -> object:
    return await prove_meeting(_pool(remote), [remote.node], ["10.0.0.1"])


async def _pairs(remote: Liar) -> object:
    other = Liar(remote.home, remote.sources, name="other")
    other.node = Node("127.0.0.1", name="other", port=2222)
    try:
        pool: Any = OnePool({remote.node: remote, other.node: other})
        return await try_pairs(pool, [remote.node, other.node], [("10.0.0.1", "eth0"), ("10.0.0.2", "eth0")])
    finally:
        await other.close()


def lies_of(verb: Verb, *, few: bool = False) -> list[bytes]:
    """Return everything that a node may answer instead, the honest answer first."""
    few = few or verb.program == "launch.ports"  # which starts a worker for each
    if isinstance(verb.honest, bytes):
        fields = verb.honest.split(b"\0")
        parts = [[*fields[:at], nasty, *fields[at + 1 :]] for at in range(len(fields)) for nasty in BROKEN]
        return [verb.honest, *BROKEN, *(b"\0".join(part) for part in parts)]
    lies = [json.dumps(each).encode() for each in mutations(verb.honest)]
    return [json.dumps(verb.honest).encode(), *BROKEN, *(lies[:: len(lies) // 20] if few else lies)]


async def tell(remote: Liar, verb: Verb, lies: list[bytes]) -> tuple[int, int]:
    """Tell lies to a verb; return how many it took for true and how many it refused.

    Raises:
        RuntimeError: something else than a DeployError came out.
    """
    taken = refused = 0
    for name, text in (("port", b"29500"), ("ports", b"[29500, 40000]"), ("answer", b'{"10.0.0.1": {"error": "x"}}')):
        (remote.home / name).write_bytes(text)
    if verb.name in ("pairs", "ports"):
        (remote.home / "answer").write_bytes(b'[{"peer": "10.0.0.2"}, {"error": "no answer"}]')
    for lie in lies:
        (remote.home / verb.lying_file).write_bytes(lie)
        remote.memory.pop("whole sites", None)
        try:
            found = await verb.ask(remote)
            repr(found).encode()
            taken += 1
        except DeployError as error:
            error.describe().encode()
            refused += 1
        except Exception as error:
            raise RuntimeError(f"{verb.name} told {lie[:200]!r}: {error!r}") from error
    return taken, refused


async def tell_all(home: Path, *, few: bool = False) -> dict[str, tuple[int, int]]:
    """Tell every verb its lies."""
    counts: dict[str, tuple[int, int]] = {}
    for number, verb in enumerate((*VERBS, *RAW_VERBS)):
        async with Liar(home / str(number), {verb.program: ANSWERS}) as remote:
            counts[f"{number} {verb.name}"] = await tell(remote, verb, lies_of(verb, few=few))
    return counts


if __name__ == "__main__":
    if __debug__:
        sys.exit("run it by python -O: that is what it is for")
    for what, (taken, refused) in asyncio.run(tell_all(Path(sys.argv[1]), few=True)).items():
        print(f"{what}: {taken} taken, {refused} refused")
