"""Ring 2: the text of a command stands in nobody's arguments (R3), and is run as `sh -c` runs it."""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.node_side import shell_text
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import read_log, start_job, wait_job
from asyncdeploy.values.command import Command
from tests.support.places import HOUSE, ROOT
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote

FINDS = "for f in /proc/[0-9]*/cmdline; do grep -aqs {mark} $f && tr '\\0' ' ' <$f && echo; done; : {mark}"
"""Looks for a mark in the arguments of all; those who look have it in theirs."""


@pytest.fixture(params=["python", "dash", "bash", "ash", "busybox"])
async def any_remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    home = tmp_path / "home"
    async with ShellRemote(home) if request.param == "python" else PlainRemote(home, request.param) as remote:
        yield remote


class OtherPython(ShellRemote):
    """A node whose /usr/bin/python3 is another program."""

    python_path = Path("/usr/bin/python3")

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        return await super().open(line.replace("/usr/bin/python3", str(self.python_path)), kind=kind)


def line_that_looks() -> str:
    """A line that prints the arguments of all who have it in theirs, but for those whom it starts to look."""
    return FINDS.format(mark=f"mark-{secrets.token_hex(8)}")


def found(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("grep -aqs ")]


async def test_r3_nobody_has_the_text_of_a_run_in_his_arguments(any_remote: ShellRemote) -> None:
    done = await run_command(any_remote, line_that_looks(), check=True)
    assert not found(done.text)


async def test_r3_nor_that_of_a_job(any_remote: ShellRemote) -> None:
    job = await start_job(any_remote, line_that_looks(), name="looks")
    assert (await wait_job(any_remote, job, timeout_s=30)).ok
    assert not found(await read_log(any_remote, job))


async def test_r3_nor_that_of_what_is_done_at_the_end(any_remote: ShellRemote) -> None:
    on_end = f"({line_that_looks()}) >~/seen 2>&1; read -r word || echo end >>~/seen"
    with pytest.raises(Exception, match="was not done within"):
        await run_command(any_remote, Command("sleep 60", timeout_s=2, on_end=on_end))
    assert found((any_remote.home / "seen").read_text()) == ["end"]


def test_r3_nor_that_of_a_rank(tmp_path: Path) -> None:
    runner = HOUSE / "node_side/launch/rank_runner.py"
    words = [sys.executable, str(runner), str(tmp_path / "logs"), "2", "0", "2"]
    line = f'{line_that_looks()}; echo "$0" $# "${{ASYNCDEPLOY_RANK_LINE-none}}"; ls -1 /proc/self/fd | wc -l'
    env = {**os.environ, "ASYNCDEPLOY_RANK_LINE": line, "PYTHONPATH": str(ROOT)}
    subprocess.run(words, env=env, capture_output=True, check=True)
    for rank in range(2):
        assert found((tmp_path / f"logs/{rank}/stdout.log").read_text()) == ["/bin/sh 0 none", "4"]


async def test_r3_pkill_of_a_word_in_its_own_text_does_not_end_a_command(any_remote: ShellRemote) -> None:
    word = f"train-{secrets.token_hex(8)}.py"
    done = await run_command(any_remote, f"pkill -f {word} || true; echo goes on, {word}")
    assert (done.status, done.text) == (0, f"goes on, {word}")


async def test_r3_its_name_parameters_input_and_descriptors_are_as_before(remote: ShellRemote) -> None:
    line = 'echo "$0" $#; set -- a "b c"; echo "$2" $#; read -r x; echo "$x"; cat; ls /proc/self/fd | wc -l; exit 3'
    done = await run_command(remote, Command(line, stdin=b"one\ntwo\n"))
    assert (done.status, done.text) == (3, "sh 0\nb c 2\none\ntwo\n4")
    lines = "cat <<end\n$((1 + 1))\nend\n# a comment\nf() { return 4; }\ntrap 'echo bye' EXIT\nf"
    done = await run_command(remote, lines)
    assert (done.status, done.text) == (4, "2\nbye")


@pytest.mark.parametrize("missing", ["memfd", "/dev/fd", "both"])
async def test_r3_a_node_without_files_in_memory_or_dev_fd(tmp_path: Path, missing: str) -> None:
    """What such a node lacks is taken away from the node's interpreter before our program comes."""
    lacks = {
        "memfd": "import os; del os.memfd_create",
        "/dev/fd": "import os; e0 = os.path.exists; os.path.exists = lambda p: b'/fd' not in os.fsencode(p) and e0(p)",
    }
    text = "\n".join(lacks.values()) if missing == "both" else lacks[missing]
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nfor word; do shift; [ \"$before\" = -c ] && word={shlex.quote(text)}'\n'$word; before=$word\n"
        f'set -- "$@" "$word"; done\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    async with OtherPython(tmp_path / "home") as remote:
        remote.python_path = python
        done = await run_command(remote, Command("read -r x; echo $x $0; ls /proc/self/fd | wc -l", stdin=b"in\n"))
        assert (done.status, done.text, done.stderr) == (0, "in sh\n4", b"")
        done = await run_command(remote, "exit 4")
        assert done.status == 4


@pytest.mark.parametrize(
    "line,signal",
    [
        ("sh -c 'kill -9 $$'", "KILL"),
        ("""python3 -c "import os; os.kill(os.getpid(), 9)" a 'b ; c'""", "KILL"),
        ("unset X; export Y\nexport PATH=/usr/bin:/bin${PATH:+:$PATH}\nsh -c 'kill -9 $$'", "KILL"),
        ("unset X; trap 'true' EXIT\nsh -c 'kill -9 $$'", None),
        ("export PATH=/usr/bin:/bin${PATH:+:$PATH}\nsh -c 'kill -9 $$' > out", "KILL"),
        ("kill -9 $$", "KILL"),
        ("sh -c 'kill -9 $$'; exit $?", None),
    ],
)
async def test_how_one_program_died_is_seen_through_its_shell(
    remote: ShellRemote, line: str, signal: str | None
) -> None:
    done = await run_command(remote, line)
    assert (done.signal, done.status) == (signal, None if signal else 137)


@pytest.mark.parametrize(
    "text,is_one",
    [
        (b"python a.py", True),
        (b"  ./a.sh 'x; y' \"a & b\" $HOME ${X} *.py", True),
        (b"python -c 'a\nb'", True),
        (b"export PATH=a:$PATH\npython a.py", True),
        (b"a; b", False),
        (b"a & b", False),
        (b"a && b", False),
        (b"a | b", False),
        (b"a\nb", False),
        (b"a `b`", False),
        (b"a $(b)", False),
        (b'a "$(b "c; d" e)"', False),
        (b"a 'b", False),
        (b"a \\\nb", False),
        (b"A=1 b", False),
        (b"$A b", False),
        (b"cd /tmp", False),
        (b"exec a", False),
        (b"if a", False),
        (b"{ a", False),
        (b"! a", False),
        (b"module load", False),
        (b"a" * 9000, False),
        (b"", False),
    ],
)
def test_what_is_one_program(text: bytes, is_one: bool) -> None:
    assert (shell_text.direct(text, {b"BASH_FUNC_module%%": b"() { :; }"}) != text) is is_one


async def test_r12_python_prints_line_by_line_unless_somebody_wants_otherwise(any_remote: ShellRemote) -> None:
    async def said(command: Command) -> list[str]:
        job = await start_job(any_remote, command, name="says")
        assert (await wait_job(any_remote, job, timeout_s=30)).ok
        return [(await run_command(any_remote, command, check=True)).text, (await read_log(any_remote, job)).strip()]

    line = 'echo "<${PYTHONUNBUFFERED-unset}>"'
    assert await said(Command(line)) == ["<1>", "<1>"]
    assert await said(Command(line, env={"PYTHONUNBUFFERED": ""})) == ["<>", "<>"]
    any_remote.env["PYTHONUNBUFFERED"] = "0"
    for _, channel in any_remote.idle:
        await channel.close()
    assert await said(Command(line)) == ["<0>", "<0>"]
