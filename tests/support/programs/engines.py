"""Real engines over real nodes: what drivers and tasks are made of, and what must not be left."""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import attrs

import asyncdeploy as ad
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Site
from tests.support import tools
from tests.support.beds.sshd_node import SshdNode
from tests.support.examples import OurPython
from tests.support.waiting import eventually

RAY = "ray==2.60.0"
OTHER_PYTHON = """#!/bin/sh
case $1 in -) cat >/dev/null; echo '%s'; exit;; esac
exec %s/python3 "$@"
"""
STAYS = """\
import os, subprocess, time

def stay(folder):
    \"\"\"A task that never ends, with a child in a session of its own.\"\"\"
    child = subprocess.Popen(["sleep", "987"], start_new_session=True)
    with open(os.path.join(folder, "child.part"), "w") as file:
        file.write(str(child.pid))
    os.rename(os.path.join(folder, "child.part"), os.path.join(folder, "child"))
    time.sleep(987)
"""


SQUARES = """\
from distributed import Client
from parts import square

with Client() as client:
    names = sorted(str(each["name"]) for each in client.scheduler_info(n_workers=-1)["workers"].values())
    print(sum(client.gather(client.map(square, range(10)))), *names, flush=True)
"""
BUSY = """\
import os, sys, time
from distributed import Client
from parts import stay

client = Client()
future = client.submit(stay, os.getcwd())
while not os.path.exists("child"):
    time.sleep(0.05)
print("busy", flush=True)
future.result()
"""


@attrs.frozen
class OtherPython(ad.SystemEnv):
    """A Python whose programs lie in a folder; the nodes are on this machine."""

    folder: str = ""

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        return super().enter(command.with_env({"PATH": f"{self.folder}:{os.environ['PATH']}"}), site, facts)


@functools.cache
def python_with(where: Path, *packages: str) -> OtherPython:
    """An environment with these packages, made by uv, which keeps their wheels in its cache (Ray's has 79 MB)."""
    uv = str(Path(sys.executable).parent / "uv")
    words = ["pip", "install", "-q", "--python", str(where / "bin" / "python"), *packages]
    for each in (["venv", "-q", "--python", sys.executable, str(where)], words):
        made = subprocess.run([uv, *each], capture_output=True, text=True)
        if made.returncode:
            tools.missing(f"needs {', '.join(packages)}: {made.stderr[-500:]}")
    return OtherPython(str(where / "bin"))


@attrs.frozen
class FromHome(OurPython):
    """The same Python; programs in the home's folder "first" come before it: some nodes are not as the others."""

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        entered = super().enter(command, site, facts)
        path = dict(entered.env)["PATH"]
        return attrs.evolve(entered, env={**dict(entered.env), "PATH": f"{facts.home}/first:{path}"})


def dask_project(folder: Path) -> Path:
    """Fill a folder with two drivers, and a module that their tasks come from."""
    (folder / "parts.py").write_text(f"{STAYS}\n\ndef square(x):\n    return x * x\n")
    (folder / "driver.py").write_text(SQUARES)
    (folder / "busy.py").write_text(BUSY)
    return folder


def put_first(sshd: SshdNode, name: str, script: str) -> Path:
    """Put a program before all others of a node."""
    folder = sshd.home / "first"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def folders(launch: ad.Launch) -> list[Path]:
    """What engines of a launch keep on this machine, which is all nodes'."""
    return list(Path("/tmp").glob(f"ad-{launch.id.rpartition('-')[2]}-*"))


async def nothing_left(sshds: Iterable[SshdNode], launch: ad.Launch) -> None:
    """Wait until no process of a launch's engine runs on these nodes; fail if one stays, or a folder does."""
    ours = re.compile(rf"{launch.id}|dask|distributed|ray::|raylet|gcs_server|sleep 987")
    await eventually(
        lambda: [line for sshd in sshds for line in sshd.processes().values() if ours.search(line)] == [],
        f"nothing of {launch.id} runs",
        within_s=5,
    )
    assert folders(launch) == []


def pids_of(sshd: SshdNode, words: str) -> list[int]:
    """The processes of a node whose arguments hold these words."""
    return [pid for pid, line in sshd.processes().items() if words in line]
