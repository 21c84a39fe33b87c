"""What a node says of itself, by Python and by plain sh, and what is done with an answer that is none."""

import json
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asyncdeploy.nodes.facts import Gpu, NodeFacts
from asyncdeploy.remote.answers import Answer
from asyncdeploy.remote.probe import MAX_ANSWER, PROBE, _checked, _read_lines, describe_facts, probe_node
from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.events import StageFailed, StageFinished
from tests.support.remotes.shell_remote import ShellRemote, busybox_shell
from tests.support.tools import need
from tests.support.waiting import eventually, is_alive

SMI = """#!/bin/sh
echo '1, NVIDIA H100 80GB HBM3, 81559, 4, 550.54, GPU-b'
echo '0, NVIDIA H100 80GB HBM3, 81559, [N/A], 550.54, GPU-a'
"""


@pytest.fixture(params=["python", "sh", "busybox"])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    if request.param == "busybox":
        need("busybox")
    shell = busybox_shell() if request.param == "busybox" else ("sh", "-c")
    async with ShellRemote(tmp_path / "home", python=request.param == "python", shell=shell) as found:
        yield found


def write_tool(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


async def test_it_is_this_machine(remote: ShellRemote) -> None:
    facts = await probe_node(remote)
    assert (facts.home, facts.uid) == (str(remote.home), os.getuid())
    assert (facts.system, facts.arch, facts.hostname) == (platform.system(), platform.machine(), socket.gethostname())
    assert facts.libc == " ".join(platform.libc_ver())
    assert facts.tool("tar") == shutil.which("tar")
    assert facts.cpus >= 1
    assert facts.memory_bytes > 1 << 28
    assert facts.disks[0].path == facts.home
    assert abs(facts.disks[0].free_bytes - shutil.disk_usage(remote.home).free) < 1 << 30
    assert abs(facts.clock_offset_s) < 2
    assert bool(facts.python) is remote.python
    assert NodeFacts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts


async def test_both_ways_name_the_machine_alike(tmp_path: Path) -> None:
    async with ShellRemote(tmp_path / "home") as one, ShellRemote(tmp_path / "home", python=False) as two:
        first, second = await probe_node(one), await probe_node(two)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert first.identity == second.identity
    assert first.identity.split(":")[0] == boot
    assert dict(first.tools) == dict(second.tools)
    assert first.home_identity


async def test_addresses_are_those_that_others_can_reach(remote: ShellRemote) -> None:
    need("ip")

    def global_addresses() -> set[tuple[str, str]]:
        words = [line.split() for line in subprocess.check_output(["ip", "-o", "addr"], text=True).splitlines()]
        return {(word[1], word[3].split("/")[0]) for word in words if "global" in word}

    before = global_addresses()
    found = set((await probe_node(remote)).addresses)
    after = global_addresses()  # the beds of other tests come and go
    assert before & after <= found <= before | after


async def test_it_is_asked_once_a_connection(remote: ShellRemote) -> None:
    first = await probe_node(remote)
    opens = remote.opens
    assert await probe_node(remote) is first
    assert remote.opens == opens
    assert await probe_node(remote, fresh=True) is not first
    finished = [event for event in remote.events if isinstance(event, StageFinished)]
    assert [event.stage for event in finished] == ["probe", "probe"]
    remote.memory.clear()
    assert await probe_node(remote) is not first


async def test_gpus_and_tools_beside_path_are_seen(remote: ShellRemote) -> None:
    write_tool(remote.home / ".local/bin/uv", "#!/bin/sh\n")
    write_tool(remote.home / ".local/bin/nvidia-smi", SMI)
    remote.env["SSH_CONNECTION"] = "192.0.2.9 50000 192.0.2.1 22"
    # The venv that runs the tests may be first in PATH, with a uv of its own.
    remote.env["PATH"] = ":".join(part for part in remote.env["PATH"].split(":") if not Path(part, "uv").exists())
    facts = await probe_node(remote)
    assert facts.tool("uv") == f"{remote.home}/.local/bin/uv"
    assert facts.ssh_address == "192.0.2.1"
    assert facts.gpus == (
        Gpu(0, "NVIDIA H100 80GB HBM3", 81559 << 20, 0, "550.54", "GPU-a"),
        Gpu(1, "NVIDIA H100 80GB HBM3", 81559 << 20, 4 << 20, "550.54", "GPU-b"),
    )
    assert describe_facts(facts).startswith("2x NVIDIA H100 80GB HBM3, ")


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'NVIDIA-SMI has failed, no driver'\n"])
async def test_a_driver_in_trouble_is_no_gpu(remote: ShellRemote, text: str) -> None:
    write_tool(remote.home / ".local/bin/nvidia-smi", text)
    assert (await probe_node(remote)).gpus == ()


async def test_a_driver_that_hangs_is_not_waited_for(remote: ShellRemote) -> None:
    write_tool(remote.home / ".local/bin/nvidia-smi", "#!/bin/sh\necho $$ >~/pid\nexec sleep 1000\n")
    assert (await probe_node(remote)).gpus == ()
    await eventually(lambda: not is_alive(int((remote.home / "pid").read_text())))


# --- an answer is not trusted


def good() -> dict[str, object]:
    return {"home": "/root", "user": "root", "uid": 0}


def change(**fields: object) -> Callable[[], dict[str, object]]:
    return lambda: {**good(), **fields}


@pytest.mark.parametrize(
    "data",
    [
        change(home="relative"),
        change(home="/a/../b"),
        change(home="/a\nb"),
        change(home=3),
        change(user="me\x1b[2J"),
        change(hostname="x" * 5000),
        change(uid="0"),
        change(uid=-1),
        change(cpus=0),
        change(cpus=True),
        change(surprise=1),
        change(tools=[["uv", "bin/uv"]]),
        change(tools=[["uv", "~/uv"]]),
        change(tools=[["uv", "/uv\n"]]),
        change(tools="uv"),
        change(addresses=[["eth0", "somewhere"]]),
        change(addresses=[["eth0", "192.0.2.1"]] * 1000),
        change(ssh_address="localhost; rm"),
        change(gpus=[{"index": 0, "name": "a\x07"}]),
        change(gpus=[{"index": "0", "name": "a"}]),
        change(disks=[{"path": "tmp", "free_bytes": 1}]),
        change(identity="a\nb"),
        dict,
    ],
)
def test_facts_that_are_none_are_refused(data: Callable[[], dict[str, object]]) -> None:
    assert _checked(Answer("gpu-1", PROBE, good()), 0.0).home == "/root"
    with pytest.raises(ProtocolError, match="the answer to our probe is not what its program sends"):
        _checked(Answer("gpu-1", PROBE, data()), 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b'{"facts": 1, "clock": [0, 0]}',
        b'{"facts": {}, "clock": 0}',
        b"x" * (MAX_ANSWER + 1),
    ],
)
def test_an_answer_that_is_none_is_refused(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="the answer to our probe is not what its program sends"):
        _checked(Answer.read("gpu-1", PROBE, answer)["facts"], 0.0)
    with pytest.raises(ProtocolError, match="the answer to our probe is not what its program sends"):
        _checked(_read_lines("gpu-1", answer)["facts"], 0.0)


async def test_a_node_that_lies_is_named(tmp_path: Path) -> None:
    async with ShellRemote(tmp_path / "home", python=False) as remote:
        remote.env["SSH_CONNECTION"] = "a b not-an-address d"
        with pytest.raises(ProtocolError, match=r"here: the answer to our probe is .*'not-an-address'"):
            await probe_node(remote)
        assert [event.stage for event in remote.events if isinstance(event, StageFailed)] == ["probe"]
        assert "facts" not in remote.memory
