"""A client that pushes when told to and may be killed at any moment: a fork for each push, for a start costs too much.

Each line on stdin is "SOURCE<tab>HOME[<tab>HOME]..."; several homes are nodes that pass blocks on to each other.
The answers are the pid of the push, and once that has ended its exit status.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.crew import Crew
from tests.support.remotes.shell_remote import ShellRemote


async def push(source: Path, homes: list[Path]) -> None:
    async with AsyncExitStack() as stack:
        remotes = [await stack.enter_async_context(ShellRemote(home, name=home.name)) for home in homes]
        bundle = await stack.enter_async_context(pack_workspace(source))
        crew = Crew(bundle, "on" if len(homes) > 1 else "off", [home.name for home in homes], len(homes))
        async with asyncio.TaskGroup() as group:
            for remote in remotes:
                remote.env["SSH_CONNECTION"] = "127.0.0.1 1 127.0.0.1 22"
                group.create_task(push_code(remote, crew))


def main() -> None:
    for line in sys.stdin:
        source, *homes = map(Path, line.rstrip("\n").split("\t"))
        pid = os.fork()
        if not pid:
            asyncio.run(push(source, homes))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
