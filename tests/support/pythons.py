"""The Pythons of this machine, for what must run with each of them."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def find_python(minor: str) -> str | None:
    """The path of a Python such as "3.8", of pyenv's or on PATH; None if there is none that runs."""
    root = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser())
    found: Iterable[str | None] = [
        *map(str, root.glob(f"versions/{minor}.*/bin/python")),
        shutil.which(f"python{minor}"),
    ]
    for path in found:
        if path is not None and _says(path) == minor:
            return path
    return None


def _says(path: str) -> str:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()
