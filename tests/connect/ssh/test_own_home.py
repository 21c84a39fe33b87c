"""A user's own ~/.ssh: what ssh finds there is found by ours, without a word about files."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.world import run_in_world

StartSshd = Callable[..., SshdNode]

PROGRAM = """
import asyncio, subprocess, sys
from asyncdeploy import DeployError, HostKeys, Node, Pool
async def gets_in(rule):
    try:
        async with Pool(host_keys=rule) as pool:
            channel = await pool.at(Node("box")).open("true")
            await channel.close()
    except DeployError as error:
        return f"{type(error).__name__} {getattr(error, 'reason', '')}"
    return "in"
def ssh():
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no"]
    words = ["ssh", *(word for option in options for word in ("-o", option)), "box", "true"]
    return subprocess.run(words, stdin=subprocess.DEVNULL).returncode == 0
"""


@pytest.fixture
def world(start_sshd: StartSshd, tmp_path: Path) -> tuple[SshdNode, Path, dict[str, Path]]:
    """A node, the ~/.ssh of an account here that calls it "box", and the files of that account's machine."""
    sshd, home = start_sshd("machine"), tmp_path / "account"
    folder = home / ".ssh"
    folder.mkdir(parents=True, mode=0o700)
    shutil.copy(str(sshd.node.key_path), folder / "id_ed25519")
    text = f"Host box\n HostName {sshd.node.host}\n Port {sshd.node.port}\n User {sshd.node.user}\n"
    (folder / "config").write_text(text)
    rows = [row for row in Path("/etc/passwd").read_text().splitlines() if not row.startswith("root:")]
    (tmp_path / "passwd").write_text("\n".join([f"root:x:0:0::{home}:/bin/sh", *rows, ""]))
    return sshd, folder, {"/etc/passwd": tmp_path / "passwd"}


def key_of(sshd: SshdNode) -> str:
    """The node's key."""
    return " ".join(sshd.public_key("ecdsa").read_text().split()[:2])


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_k1_what_ssh_knows_is_known_wherever_home_is(
    world: tuple[SshdNode, Path, dict[str, Path]], tmp_path: Path, *, elsewhere: bool
) -> None:
    sshd, folder, files = world
    home = tmp_path / "elsewhere" if elsewhere else folder.parent
    home.mkdir(exist_ok=True)
    program = f"{PROGRAM}\nprint(ssh(), asyncio.run(gets_in(HostKeys.strict())))"
    (folder / "known_hosts").write_text(f"[{sshd.node.host}]:{sshd.node.port} {key_of(sshd)}\n")
    assert await run_in_world(files, program, HOME=str(home)) == "True in\n"
    (folder / "known_hosts").write_text("")
    assert await run_in_world(files, program, HOME=str(home)) == "False HostKeyError unknown\n"


async def test_k1_what_is_recorded_and_forgotten_stands_where_ssh_looks(
    world: tuple[SshdNode, Path, dict[str, Path]],
) -> None:
    _, folder, files = world
    program = f"""{PROGRAM}
rule = HostKeys.accept_new()
print(asyncio.run(gets_in(rule)), ssh(), rule.forget(Node("box")), ssh())
async def within():
    return await gets_in(rule), rule.forget(Node("box"))
print(asyncio.run(within()))
"""
    said = await run_in_world(files, program, HOME=str(folder.parent))
    assert said == "in True 1 False\n('in', 1)\n"
    assert (folder / "known_hosts").read_text() == ""


async def test_k1_the_file_that_gcloud_names_pins(
    world: tuple[SshdNode, Path, dict[str, Path]], tmp_path: Path
) -> None:
    _, folder, files = world
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    lines = " HostKeyAlias=compute.4711\n CheckHostIP=no\n UserKnownHostsFile=~/.ssh/google_compute_known_hosts\n"
    with (folder / "config").open("a") as stream:
        stream.write(lines)
    other = (tmp_path / "other.pub").read_text()
    (folder / "google_compute_known_hosts").write_text(f"compute.4711 {other}")
    program = (
        f"{PROGRAM}\nprint(ssh(), *(asyncio.run(gets_in(rule)) for rule in (HostKeys.strict(), HostKeys.accept_new())))"
    )
    said = await run_in_world(files, program, HOME=str(folder.parent))
    assert said == "False HostKeyError changed HostKeyError changed\n"
    assert not (folder / "known_hosts").exists()
