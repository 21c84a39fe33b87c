"""`ssh` and `forward`: the way to a node of a run, for people and their tools."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from asyncdeploy import Node
from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts
from tests.support.waiting import eventually_sync


@pytest.fixture
def run(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> Iterator[str]:
    """A run on two nodes that goes on."""
    listed = ", ".join(f'"{host}"' for host in hosts(sshd_nodes[:2]))
    (ad.folder / "asyncdeploy.toml").write_text(f'nodes = [{listed}]\n[env]\ntype = "system"\n')
    yield ad("launch", "sleep 600", "--launcher", "ranks", "--name", "train", "--grace", "1", "-d").out.strip()
    ad("stop", "last")


def in_shell(ad: CommandLine, words: Sequence[str], given: str) -> str:
    """What a line of ssh prints for a script that somebody types there."""
    line = [words[0], "-F", str(ad.home / ".ssh" / "config"), *words[1:]]
    options = ["-o", f"UserKnownHostsFile={ad.home}/.ssh/known_hosts", "-o", f"IdentityFile={ad.home}/.ssh/id_ed25519"]
    line[1:1] = options
    (ad.home / ".ssh" / "config").touch()
    done = subprocess.run(
        [word for word in line if word != "-t"], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


def test_a_shell_on_the_node_of_a_rank_in_the_projects_folder(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode], run: str
) -> None:
    for rank, sshd in enumerate(sshd_nodes[:2]):
        said = ad("ssh", f"{run}/{rank}", "--print")
        assert said.code == 0, said.err
        assert in_shell(ad, shlex.split(said.out), "pwd") == f"{sshd.home / 'project'}\n"
    assert ad("ssh", f"{run}/2", "--print").code == 2
    assert "node of" in ad("ssh", f"{run}/gpu", "--print").err


def test_host_entries_for_other_tools(ad: CommandLine, sshd_nodes: Sequence[SshdNode], run: str) -> None:
    said = ad("ssh", run, "--ssh-config")
    assert said.code == 0, said.err
    config = ad.home / ".ssh" / "config"
    config.write_text(said.out)
    options = ["-F", str(config), "-o", f"UserKnownHostsFile={ad.home}/.ssh/known_hosts"]
    key = ["-i", str(ad.home / ".ssh" / "id_ed25519")]
    done = subprocess.run(["ssh", *options, *key, f"{run}-1", "echo ~"], capture_output=True, text=True, check=False)
    assert done.stdout == f"{sshd_nodes[1].home}\n", done.stderr


def test_a_port_of_a_node_until_ctrl_c(ad: CommandLine, sshd_nodes: Sequence[SshdNode], run: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = subprocess.Popen(
            ad.words("forward", f"{run}/1", str(port)),
            cwd=ad.folder,
            env=ad.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        with process:
            assert process.stdout is not None
            url = re.fullmatch(r"http://localhost:(\d+)\n", process.stdout.readline())
            assert url is not None
            server.accept()[0].close()  # the one that proves that somebody listens
            with socket.create_connection(("127.0.0.1", int(url[1]))) as browser:
                browser.sendall(b"hello")
                with server.accept()[0] as there:
                    assert there.recv(5) == b"hello"
            os.kill(process.pid, signal.SIGINT)
            process.communicate(timeout=30)
            assert process.returncode == 130
    eventually_sync(lambda: process.poll() is not None, within_s=5)


def test_a_variable_that_says_false_is_no_true_of_the_file(ad: CommandLine, run: str) -> None:
    """Host keys are as strict for the system's ssh as for us."""
    settings = ad.folder / "asyncdeploy.toml"
    settings.write_text(f"accept_new = true\n{settings.read_text()}")
    loose = "StrictHostKeyChecking=accept-new"
    assert loose in ad("ssh", run, "--print").out
    strict = ad("ssh", run, "--print", ASYNCDEPLOY_ACCEPT_NEW="false")
    assert (strict.code, loose in strict.out) == (0, False)
    settings.write_text(settings.read_text().replace("accept_new = true", "accept_new = false"))
    assert loose not in ad("ssh", run, "--print").out
    assert loose in ad("ssh", run, "--print", "--accept-new").out


def test_the_way_through_a_jump_host_whose_key_is_its_own(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode], run: str, tmp_path: Path
) -> None:
    """The key lies where no ssh finds it by itself: the hop's entry says it, and the line of --print too."""
    key = tmp_path / "elsewhere"
    (ad.home / ".ssh" / "id_ed25519").rename(key)
    bastion = hosts(sshd_nodes)[2]
    (path,) = (ad.home / ".local" / "state" / "asyncdeploy" / "runs").glob("*.json")
    kept = json.loads(path.read_text())
    hop = Node.parse(bastion, key_path=key)
    nodes = [attrs.evolve(Node.from_dict(each), key_path=key, jump=hop) for each in kept["nodes"]]
    path.write_text(json.dumps(kept | {"nodes": [node.to_dict() for node in nodes], "deployments": []}))
    said = ad("ssh", run, "--ssh-config")
    assert said.code == 0, said.err
    config = ad.home / ".ssh" / "config"
    config.write_text(f"{said.out}Host *\n    UserKnownHostsFile {ad.home}/.ssh/known_hosts\n    IdentityFile none\n")
    for words in (["ssh", f"{run}-1"], shlex.split(ad("ssh", f"{run}/1", "--print").out)[:-1]):
        own = [word.replace("=ssh ", f"=ssh -F {config} ") for word in words[1:] if word != "-t"]
        line = [words[0], "-F", str(config), *own, "echo ~"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == f"{sshd_nodes[1].home}\n", (line, done.stderr)
