"""A client's machine with files of its own (/etc/hosts, /etc/passwd) or a user without account: one process."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import tools
from tests.support.places import ROOT

_MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" && shift 2 || exit; done; shift; exec "$@"'


NO_ACCOUNT = 54321
"""A uid that /etc/passwd does not have, as OpenShift and `docker run -u` give."""


async def run_without_account(program: str, *args: str, **env: str) -> str:
    """What a Python program prints whose user has no account, and no line in any file; it must succeed."""
    tools.need("unshare")
    return await _run(["unshare", "--user", f"--map-user={NO_ACCOUNT}"], program, *args, **env)


async def run_in_world(files: Mapping[str, Path], program: str, *args: str, **env: str) -> str:
    """What a Python program prints on a machine where these files are others; it must succeed.

    files: by where they stand there. program: sees `sys.argv[1:]`, and `env` beside ours.
    """
    tools.need_root()
    tools.need("unshare", "mount")
    binds = [word for target, path in files.items() for word in (str(path), target)]
    return await _run(["unshare", "--mount", "sh", "-c", _MOUNT, "world", *binds, "--"], program, *args, **env)


async def _run(words: Sequence[str], program: str, *args: str, **env: str) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words, sys.executable, "-c", program, *args, cwd=ROOT, env={**os.environ, **env}, stdout=pipe, stderr=pipe
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()
