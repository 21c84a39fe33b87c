"""`ssh` and `forward`: the way to a node of a run, for people and their tools."""

import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence

import pytest

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
