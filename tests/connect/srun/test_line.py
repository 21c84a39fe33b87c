"""What stands in place of a line: every shell of a login node passes it on, and here it is the same program."""

import subprocess
from pathlib import Path

import pytest

from asyncdeploy.connect.srun.line import local_words, login_line
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.interpreter import _SCRIPT_LINE, _WORKER_LINE
from tests.support.tools import need

NODE = Node("gpu1", jump="login", slurm_job=42)
LINES = [_WORKER_LINE.format(nonce="n", pythons="python3"), _SCRIPT_LINE.format(nonce="n")]


@pytest.fixture
def srun(tmp_path: Path) -> dict[str, str]:
    """An environment whose srun prints its words, and what it was not to see."""
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@" "${SSH_CONNECTION-gone}" "$ASYNCDEPLOY_STEP"\n')
    (tmp_path / "srun").chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "SSH_CONNECTION": "1 2 3 4"}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "tcsh", "mksh"])
def test_a_line_reaches_srun_whole_by_any_shell(shell: str, line: str, srun: dict[str, str]) -> None:
    need(shell)
    said = subprocess.run([shell, "-c", login_line(NODE, line)], env=srun, capture_output=True, text=True, check=True)
    here = subprocess.run(local_words(NODE, line), env=srun, capture_output=True, text=True, check=True)
    words = said.stdout.splitlines()
    assert words[:2] == ["--jobid=42", "--nodelist=gpu1"]
    assert words[-5:-3] == ["/bin/sh", "-c"]
    assert words[-3] == line.removeprefix("exec /bin/sh -c '").removesuffix("'")
    assert words[-2:] == ["gone", "1"]
    assert here.stdout == said.stdout
