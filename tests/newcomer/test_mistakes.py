"""The usual mistakes of the first day: what is said is short, and says what to type."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.newcomer import Newcomer, aliases, newcomer

AT_A_SHELL = {
    "no node": ("asyncdeploy run -- uname", 2, "no nodes: name them (asyncdeploy VERB root@gpu[01-08])"),
    "no --": (
        "asyncdeploy run gpu1 uname",
        2,
        "a command was expected behind --: asyncdeploy run gpu[01-08] -- nvidia-smi",
    ),
    "a flag and no --": (
        "asyncdeploy run gpu1 uname -a",
        2,
        "Unknown option: -a. What is not for us stands behind --: asyncdeploy run [NODES] -- CMD",
    ),
    "a script's flag and no --": (
        "asyncdeploy launch train.py --lr 3e-4 -n gpu1",
        2,
        "What is not for us stands behind --: asyncdeploy launch SCRIPT -- ARGS",
    ),
    "a tool of the project": (
        "asyncdeploy run gpu1 -- pytset -q",
        127,
        "hint: --deploy runs it in the project's environment",
    ),
    "a verb with a slip": ("asyncdeploy lanuch train.py", 2, 'Did you mean "launch"?'),
    "a flag with a slip": ("asyncdeploy run gpu1 --timout 3 -- uname", 2, "Did you mean --timeout?"),
    "half a range": ("asyncdeploy run gpu[1- -- uname", 2, "'gpu[1-': a '[' without its partner; expected gpu[01-08]"),
    "a name that nobody has": ("asyncdeploy run gpu9 -- uname", 255, "check the name, or give an address"),
    "a script that is not there": (
        "asyncdeploy launch trian.py -n gpu1 --env system",
        2,
        "'trian.py' is not among the files that are sent of ",
    ),
    "an extra where no project is": (
        "asyncdeploy deploy gpu1 --extra test",
        2,
        "UvEnv: 'test' was asked for, and there is no pyproject.toml in ",
    ),
    "a flag of the project without one": (
        "asyncdeploy run gpu1 --env docker -- uname",
        2,
        "--deploy runs the command in it",
    ),
    "a node where a run is meant": (
        "asyncdeploy wait gpu1",
        2,
        "this home remembers no run 'gpu1': there is none; -n root@gpu[01-08] asks its nodes",
    ),
    "a node behind a script": ("asyncdeploy launch train.py gpu1", 2, "not expected: gpu1. Usage: asyncdeploy launch"),
    "a name that no job can have": ("asyncdeploy start gpu1 --name a/b -- true", 2, "job name 'a/b': at most 64"),
    "days that would be seconds": (
        "asyncdeploy clean gpu1 --older-than 5",
        2,
        "--older-than: a unit was expected, as in 5d or 5h, got '5'",
    ),
    "a program that is not there": (
        "asyncdeploy run gpu1 -- nvidia-smy",
        127,
        "was looked for on the PATH of the login",
    ),
    "a key with a slip": (
        "echo 'nodse = [\"gpu1\"]' >asyncdeploy.toml; asyncdeploy run -- uname",
        2,
        "unknown key: 'nodse'; did you mean 'nodes'?",
    ),
}
HEAD = "import asyncio\nimport asyncdeploy as ad\n"
IN_A_SCRIPT = {
    "words for a line": (
        'print(asyncio.run(ad.run_all("gpu1", ["uname", "-s"])))\n',
        "Command.of('uname', '-s') quotes each word",
    ),
    "a failure that is not looked for": (
        'print(asyncio.run(ad.run_all("gpu[1-2]", "exit 3")).unwrap())\n',
        "2 of 2 nodes failed: gpu[1-2]: command exited 3: exit 3",
    ),
}


@pytest.mark.parametrize("line,code,says", AT_A_SHELL.values(), ids=AT_A_SHELL)
def test_at_a_shell(line: str, code: int, says: str, person: Newcomer) -> None:
    said = person.types(line, reads=4)
    assert said.code == code
    assert says in said.err


def test_an_extra_with_a_slip(person: Newcomer) -> None:
    text = '[project]\nname = "a"\n[project.optional-dependencies]\ntest = []\n'
    (person.ad.folder / "pyproject.toml").write_text(text)
    said = person.types("asyncdeploy deploy gpu1 --extra tset", reads=2)
    assert said.code == 2
    assert "pyproject.toml has no extra 'tset'; did you mean 'test'?" in said.err


@pytest.mark.parametrize("script,says", IN_A_SCRIPT.values(), ids=IN_A_SCRIPT)
def test_in_a_script(script: str, says: str, person: Newcomer) -> None:
    said = person.runs(HEAD + script, writes=3, reads=4)
    assert said.code == 1
    assert says in said.err


def test_a_node_that_was_never_met(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    person = newcomer(tmp_path, aliases(sshd_nodes), sshd_nodes)
    (person.ad.home / ".ssh" / "known_hosts").unlink()
    said = person.types("asyncdeploy run gpu1 -- uname", reads=4)
    assert said.code == 255
    assert "--accept-new" in said.err
    said = person.types("asyncdeploy run gpu1 --accept-new -- uname", reads=3)
    assert said.code == 0, said.err
