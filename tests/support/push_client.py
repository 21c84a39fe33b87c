"""A client that pushes when told to and may be killed at any moment: a fork for each push, for a start costs too much.

Each line on stdin is "SOURCE<tab>HOME"; the answers are the pid of the push, and once that has ended its exit status.
"""

import asyncio
import os
import sys
from pathlib import Path

from asyncdeploy.push import push_code
from tests.support.shell_remote import ShellRemote


async def push(source: Path, home: Path) -> None:
    async with ShellRemote(home) as remote:
        await push_code(remote, source)


def main() -> None:
    for line in sys.stdin:
        source, home = map(Path, line.rstrip("\n").split("\t"))
        pid = os.fork()
        if not pid:
            asyncio.run(push(source, home))
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
