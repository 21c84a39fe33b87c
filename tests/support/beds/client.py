"""A client in a process of its own, which a test can interrupt and kill."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.beds.sshd_node import SshdNode
from tests.support.places import ROOT

_PROGRAM = """\
import asyncio, json, signal, sys
from asyncdeploy import *
async def main():
    node, known_hosts, *args = json.loads(sys.argv[1])
    async with Pool(host_keys=HostKeys.strict(known_hosts)) as pool:
        remote = pool.at(Node.from_dict(node))
        {work}
# Who starts us in the background of a script takes Ctrl-C from us; a person at a terminal has it.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


@asynccontextmanager
async def client(
    sshd: SshdNode, work: str, *args: str, home: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one statement in another process: it sees `remote`, `args` and the names of asyncdeploy; killed at the end.

    home: the HOME of that process, another person's or machine's.
    """
    words = json.dumps([sshd.node.to_dict(), str(sshd.known_hosts), *args])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM.format(work=work), words),
        cwd=ROOT,
        env={**os.environ, **({"HOME": str(home)} if home else {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def answer_of(sshd: SshdNode, work: str, *args: str, home: Path | None = None) -> str:
    """What another process of ours prints, where it must succeed."""
    async with client(sshd, work, *args, home=home) as process:
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode().strip()
