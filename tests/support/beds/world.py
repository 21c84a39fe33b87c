"""A client's machine with files of its own (/etc/hosts, /etc/passwd), in a process that a test starts there."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import tools
from tests.support.places import ROOT

_MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" && shift 2 || exit; done; shift; exec "$@"'


async def run_in_world(files: Mapping[str, Path], program: str, *args: str, **env: str) -> str:
    """What a Python program prints on a machine where these files are others; it must succeed.

    files: by where they stand there. program: sees `sys.argv[1:]`, and `env` beside ours.
    """
    tools.need_root()
    tools.need("unshare", "mount")
    binds = [word for target, path in files.items() for word in (str(path), target)]
    words = ["unshare", "--mount", "sh", "-c", _MOUNT, "world", *binds, "--", sys.executable, "-c", program, *args]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env={**os.environ, **env}, stdout=pipe, stderr=pipe
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()
