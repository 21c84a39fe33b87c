"""Nodes without python3 that lie: our own scripts run there, and one of their functions says whatever a file says."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.collect.wanted_sh import SMALL
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import job_status, list_jobs, read_log, start_job
from asyncdeploy.values.errors import DeployError
from tests.support.remotes.lies import BROKEN
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote

ZERO = b"0" * 64
DIGITS = b"9" * 5000
LONG = b"x" * 70_000
DEEP = b"[" * 100_000
SEEN = b"+\n81a4 3 7 1700000000 2023-11-14 22:13:20.123456789 +0000 1700000000 2023-11-14 22:13:20.123456789 +0000"
JOB = b'Ntrain-abcdefgh\nS{"name": "train", "started_at": 1}\nX{"status": 0, "signal": null}\nIa\nHa\nA1\nL\n.\n'
FACTS = b"home=/root\nuser=me\nuid=0\nstart=1\nend=2\n"

PLACES = (b"1700000000 file " + LONG, DIGITS + b" folder", b"1700000000 file \0", b"\xff", b"")
NAMES = (b"./../x\0", b"./" + LONG + b"\0", LONG, b"./a\0" * 9, b"x\n\0" * 9, b"\0", b"./a\0./a\0")
LOOKS = (
    *(b"+\n", b"-\n", b"+\n-", b"+\n" * 2, LONG, SEEN, SEEN.replace(b"81a4", b"f" * 99), SEEN.replace(b" 3 ", b" -3 ")),
    *(SEEN.replace(b"1700000000", b"9" * 400), SEEN.replace(b"1700000000", DIGITS), SEEN.replace(b".123456789", b".x")),
)
LINKS = (LONG + b"\n\0", b"a", b"\0\0", b"\xff\n\0", b"")
CONTENTS = (
    *(b"3 0\nabc" + b"\n".join([ZERO] * 3), b"3 9\n", DIGITS + b" 0\n", b"3 " + DIGITS + b"\n", b"- gone\n"),
    b"0 0\n" + b"z" * 64 + b"\n" + hashlib.sha256(b"").hexdigest().encode() + b"\n" + ZERO,
)
RUNNING = (b"", b"/x", b'/x\0job\0{"site": "\\ud800"}\0', b"/x\0job\0[1]\0", b"/x\0job\0" + DEEP + b"\0", b"/x\0\0\0\0")
JOBS = (
    *(JOB, JOB[:-2], JOB + b"more", JOB.replace(b"train-a", b"a/"), JOB.replace(b'"status": 0', b'"status": []')),
    *(b"Nx\nS[1]\n.\n", b"Nx\nX[1]\n.\n", b"Nx\nX1\n.\n", b"Nx\n\n.\n", b"N\n.\n", b"Nx\nS" + DEEP + b"\n.\n"),
    *(JOB + b"9 9\n", JOB + DIGITS + b" 0\n", JOB + b"x y\n", JOB + b"-1 -1\n", b"ok", b"exists \x1b[2J", b"failed"),
)
ENDS = (b"failed \x1b[2J", b"start", b"missing", b"start\n" + LONG)
PROBES = (
    *(FACTS, FACTS.replace(b"start=1", b"start=nan"), FACTS.replace(b"end=2", b"end=inf"), FACTS[:-6], b"=\n"),
    *(FACTS.replace(b"uid=0", b"uid=" + DIGITS), FACTS + b"gpu=1,2\n", FACTS + b"gpu=x,2,3,4,5,6\n"),
    *(FACTS + b"disk./=1\n", FACTS + b"address=x\n", FACTS + b"cpus=0\n"),
    *(FACTS.replace(b"me", b"\x1b[2J"), FACTS.replace(b"/root", b"root")),
)


class ShLiar(ShellRemote):
    """A node without python3 on which one function of our scripts is another.

    Args:
        function: its name; it prints the file ``~/said``. "" is all of a script.
    """

    def __init__(self, home: Path, function: str) -> None:
        super().__init__(home, python=False, name="liar")
        self.function = function

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        send = channel.send

        def swapped(data: bytes) -> None:
            size, newline, script = data.partition(b"\n")
            if newline and size.isdigit() and script.startswith(b"set -- "):
                steps, mark, last = script.rstrip(b"\n").rpartition(b"\n")
                lie = b'%s() { cat "$HOME/said"; }\n' % self.function.encode()
                script = steps + mark + lie + last + b"\n" if self.function else b'cat "$HOME/said"\n'
                data = b"%d\n%s" % (len(script), script)
            send(data)

        channel.send = swapped  # type: ignore[method-assign]
        return channel


@attrs.frozen
class ShVerb:
    """Something that is asked of a node without python3, and the function of ours that lies there."""

    name: str
    function: str
    ask: Callable[[ShLiar], Awaitable[object]]
    lies: tuple[bytes, ...]


async def _collect(remote: ShLiar) -> object:
    target = remote.home.parent / "here"
    shutil.rmtree(target, ignore_errors=True)
    (remote.home / "out").mkdir(exist_ok=True)
    (remote.home / "out" / "a").write_bytes(b"abc")
    (remote.home / "out" / "large").write_bytes(bytes(SMALL + 1))  # comes by itself
    if not (remote.home / "out" / "l").is_symlink():
        (remote.home / "out" / "l").symlink_to("a")
    return await sync_results(remote, "~/out", target)


async def _push(remote: ShLiar) -> object:
    source = remote.home.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "a").write_bytes(secrets.token_bytes(8))
    remote.memory.pop("whole sites", None)
    return await push_code(remote, source)


def _job(remote: ShLiar) -> Job:
    return Job(remote.node, "train-abcdefgh", "train")


SH_VERBS = (
    ShVerb("collect", "open_source", _collect, PLACES),
    ShVerb("collect", "names", _collect, NAMES),
    ShVerb("collect", "look", _collect, LOOKS),
    ShVerb("collect", "links", _collect, LINKS),
    ShVerb("collect", "fetch_one", _collect, CONTENTS),
    ShVerb("push", "look", _push, LOOKS),
    ShVerb("push", "running", _push, RUNNING),
    ShVerb("list", "", list_jobs, (*JOBS, *BROKEN)),
    ShVerb("status", "", lambda r: job_status(r, _job(r)), (*JOBS, *BROKEN)),
    ShVerb("log", "", lambda r: read_log(r, _job(r)), (*JOBS, *BROKEN)),
    ShVerb("start", "", lambda r: start_job(r, "true", name="train"), (*JOBS, *BROKEN)),
    ShVerb("run", "", lambda r: run_command(r, "true"), (*ENDS, *BROKEN)),
    ShVerb("probe", "", lambda r: probe_node(r, fresh=True), (*PROBES, *BROKEN)),
)


async def tell_by_sh(home: Path, verb: ShVerb) -> tuple[int, int]:
    """Tell a verb everything; return how many it took for true and how many it refused.

    Raises:
        RuntimeError: something else than a DeployError came out.
    """
    taken = refused = 0
    async with ShLiar(home, verb.function) as remote:
        for said in verb.lies:
            (home / "said").write_bytes(said)
            try:
                repr(await verb.ask(remote)).encode()
                taken += 1
            except DeployError as error:
                error.describe().encode()
                refused += 1
            except Exception as error:
                raise RuntimeError(f"{verb.name} by {verb.function} told {said[:200]!r}: {error!r}") from error
            finally:
                await remote.close()
                remote.channels.clear()
    return taken, refused
