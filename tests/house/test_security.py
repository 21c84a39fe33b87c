"""What docs/security.md says and no other test shows: what nodes are sent, what is never run, whom nobody asks."""

import ast
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from asyncdeploy.cli.sbom import LICENCE, bill
from asyncdeploy.node_side.launch import flight_recorder
from asyncdeploy.remote.frames import MAX_FRAME, Session
from asyncdeploy.remote.programs import needed, program_source
from asyncdeploy.values.errors import ProtocolError
from tests.support.places import HOUSE, ROOT
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need_root

NODE_SIDE = HOUSE / "node_side"
SOURCES = sorted(HOUSE.rglob("*.py"))
# Whoever calls these makes code of data. What is allowed: our own annotations are read, our own programs compiled here
# and run on the node, and there torch's recorder is read by an unpickler that makes plain data only.
MAKES_CODE = {"eval", "exec", "compile", "load", "loads", "__import__", "system", "popen", "Unpickler", "unsafe_load"}
MODULES = {"pickle", "marshal", "shelve", "dill", "yaml", "os"}
WORDS = re.compile(
    r"\b(?:pickle|marshal|shelve|dill|yaml|eval|exec|compile|__import__|os\.(?:system|popen)|shell=True)\b"
)
ALLOWED = {
    "values/face.py: eval",
    "remote/programs.py: compile",
    "node_side/worker.py: marshal.loads",
    "node_side/worker.py: compile",
    "node_side/worker.py: exec",
    "node_side/worker.py: __import__",
    "node_side/envs/made_note.py: exec",
}
# Whom the package may ask unasked: providers of machines, by whoever has named one. The rest are names, not places.
HOSTS = {"api.runpod.io", "cloud.lambda.ai", "console.vast.ai", "api.primeintellect.ai"}
NAMES = {"cyclonedx.org", "git-lfs.github.com", "www.w3.org", "localhost"}


def calls(tree: ast.AST) -> set[str]:
    """The calls in a file that may make code of data, by their names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in MAKES_CODE - {"load", "loads"}:
                found.add(node.func.id)
            elif (
                isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in MODULES
                and node.func.attr in MAKES_CODE
            ):
                found.add(f"{node.func.value.id}.{node.func.attr}")
            found |= {
                "shell=True"
                for word in node.keywords
                if word.arg == "shell" and isinstance(word.value, ast.Constant) and word.value.value is True
            }
    return found


def test_nothing_makes_code_of_what_somebody_sent() -> None:
    found = {
        f"{path.relative_to(HOUSE)}: {call}"
        for path in SOURCES
        if "demo_project" not in path.parts
        for text in [path.read_text()]
        if WORDS.search(text)
        for call in calls(ast.parse(text))
    }
    assert found <= ALLOWED
    assert {"node_side/worker.py: exec", "remote/programs.py: compile"} <= found, "the look sees what is there"


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.proof}",)


def test_a_recorders_file_runs_nothing(tmp_path: Path) -> None:
    data = pickle.dumps({"entries": [Evil(tmp_path / "ran")]})
    assert flight_recorder.last_entry(data) is None
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)
    assert (tmp_path / "ran").exists(), "who reads it otherwise runs it"


def test_a_recorders_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    """Anybody may put one into /tmp, where torch leaves its own; nor is a link followed, or a pipe waited for."""
    need_root()
    own, his = tmp_path / "own", tmp_path / "his"
    for path in (own, his):
        path.write_bytes(b"data")
    os.chown(his, 12345, 12345)
    (tmp_path / "link").symlink_to(own)
    os.mkfifo(tmp_path / "pipe")
    read = {path.name: flight_recorder.own_file(str(path), 0) for path in tmp_path.iterdir()}
    assert read == {"own": b"data", "his": b"", "link": b"", "pipe": b""}


class Says:
    """A channel on which this is said."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read(self, limit: int = 262144) -> bytes:
        data, self.data = self.data[:limit], self.data[limit:]
        return data


@pytest.mark.parametrize("size", [MAX_FRAME + 1, 2**32 - 1])
async def test_a_frame_larger_than_ours_is_not_listened_to(size: int) -> None:
    session = Session(ShellRemote(Path("/nowhere")), Says(b"D" + size.to_bytes(4, "big") + bytes(100)))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="frame"):
        await session.receive()


def test_no_host_is_asked_that_nobody_named() -> None:
    files = [*SOURCES, *HOUSE.rglob("*.sh")]
    found = {host for path in files for host in re.findall(r"(?<![\w$])https?://([\w.-]*\w)", path.read_text())}
    assert found <= HOSTS | NAMES
    assert found >= HOSTS


# --- what nodes are sent


def listed() -> dict[str, str]:
    """The files of the bill, with their hashes."""
    return {part["name"]: part["hashes"][0]["content"] for part in bill()["components"] if part["type"] == "file"}


def test_the_bill_holds_each_program_that_a_node_may_be_sent() -> None:
    names = listed()
    for path in sorted(NODE_SIDE.rglob("*.py")):
        program = ".".join(path.relative_to(NODE_SIDE).with_suffix("").parts).removesuffix(".__init__")
        if path.name != "__init__.py":
            for module in needed(program):
                name = f"node_side/{module.replace('.', '/')}.py"
                assert names[name] == hashlib.sha256(program_source(module)).hexdigest(), f"{program} brings {name}"
    shells = {str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*.sh")}
    named = {
        name
        for path in SOURCES
        for name in re.findall(r'"((?:node_side|envs|sources)/[\w/]+\.(?:sh|py))"', path.read_text())
    }
    assert shells | named <= set(names)
    assert all((HOUSE / name).is_file() for name in names)


def test_the_bill_is_one_of_cyclonedx_and_says_the_licences() -> None:
    words = [sys.executable, "-W", "error", "-m", "asyncdeploy.cli.sbom"]
    first, second = (subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout for _ in range(2))
    assert first == second
    said = json.loads(first)
    assert (said["bomFormat"], said["specVersion"]) == ("CycloneDX", "1.6")
    assert said["metadata"]["component"]["name"] == "asyncdeploy"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == LICENCE
    for part in said["components"]:
        assert part["licenses"][0]["expression"] == ("MIT OR Apache-2.0" if part["name"] == "uv" else LICENCE)
        assert re.fullmatch("[0-9a-f]{64}", part["hashes"][0]["content"])
    assert [part["purl"].partition("@")[0] for part in said["components"] if "purl" in part] == ["pkg:pypi/uv"]
