"""Commands and tests on many nodes, one of them dead, one without python3, some behind a bastion."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.envs import write_project
from tests.support.links import free_port
from tests.support.people.newcomer import Newcomer, aliases, newcomer

StartSshd = Callable[..., SshdNode]

UNAME = """\
import asyncio
import asyncdeploy as ad

print(asyncio.run(ad.run_all("gpu[1-8]", "uname")))
"""


def test_uname_on_eight_with_one_dead(start_sshd: StartSshd, tmp_path: Path) -> None:
    nodes = [start_sshd(f"gpu{number}") for number in range(1, 8)]
    dead = f"Host gpu8\n  HostName 127.0.0.1\n  Port {free_port()}\n  User root\n"
    person = newcomer(tmp_path, aliases(nodes) + dead, nodes)
    said = person.types("asyncdeploy run gpu[1-8] -- uname", reads=5)
    assert said.code == 1
    assert said.out == "gpu[1-7] (7): Linux\n"
    assert "gpu8" in said.err
    assert "refuses connections" in said.err
    said = person.runs(UNAME, writes=3, reads=12)
    assert said.code == 0, said.err
    assert said.out.count("Linux") == 7
    assert "refuses connections" in said.out


def test_the_tests_of_a_uv_project_on_three(person: Newcomer, sshd_nodes: Sequence[SshdNode]) -> None:
    folder = person.ad.folder
    write_project(folder, ("greeter",))
    (folder / "test_it.py").write_text(
        "import unittest, greeter\n\n\nclass TestIt(unittest.TestCase):\n"
        "    def test_it(self):\n        self.assertEqual(greeter.NAME, 'greeter')\n"
    )
    line = "asyncdeploy run gpu[1-3] --deploy -- python -m unittest -q"
    said = person.types(line, reads=18)
    assert said.code == 0, said.err
    assert said.err.count("OK") == 1, "what three say alike is said once"
    (folder / "test_it.py").write_text("import greeter\nassert greeter.NAME == 'somebody'\n")
    said = person.types(line, reads=36)
    assert said.code == 1, said.err
    assert "AssertionError" in said.err
    assert said.err.endswith("error: 3 of 3 nodes failed: gpu[1-3]: command exited 1: python -m unittest -q\n")


@pytest.mark.long
def test_a_node_without_python3(plain_sshd: SshdNode, tmp_path: Path) -> None:
    person = newcomer(tmp_path, aliases([plain_sshd]), [plain_sshd])
    (person.ad.folder / "hello.sh").write_text("echo hello; mkdir -p results; echo 1 >results/a\n")
    said = person.types("asyncdeploy start gpu1 --name hello --env system -- sh hello.sh", reads=12)
    assert said.code == 0, said.err
    assert "no python3 from 3.8 on starts there, so plain sh does what it can" in said.err
    said = person.types("asyncdeploy wait hello\nasyncdeploy logs hello\nasyncdeploy collect hello", writes=3, reads=8)
    assert said.code == 0, said.err
    assert "gpu1: hello\n" in said.out
    assert "gpu1 is done: exit status 0\n" in said.err
    assert "gpu1 is at home, in results\n" in said.err
    assert [path.read_text() for path in person.ad.folder.glob("results/*/a")] == ["1\n"]


def test_through_a_bastion_by_aliases(start_sshd: StartSshd, tmp_path: Path) -> None:
    bastion, *nodes = [start_sshd(name) for name in ("bastion", "gpu1", "gpu2")]
    known = f"Host bastion\n  HostName 127.0.0.1\n  Port {bastion.node.port}\n  User root\n"
    person = newcomer(tmp_path, known + aliases(nodes, more="  ProxyJump bastion\n"), nodes)
    said = person.types("asyncdeploy run gpu[1-2] --accept-new -- uname", reads=6)
    assert said.code == 0, said.err
    assert said.out == "gpu[1-2] (2): Linux\n"
    assert bastion.log().count("Accepted publickey") == 1, "both through one connection to it"
