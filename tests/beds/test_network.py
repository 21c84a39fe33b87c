"""The bed's networks: nodes reach each other and us by address, faults are silent, nothing is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from tests.support.beds.network import Network, left_on_machine, sweep
from tests.support.beds.openssh import run_ssh, ssh
from tests.support.beds.sshd_node import SshdNode
from tests.support.places import ROOT

PING = "bash -c ': > /dev/tcp/{address}/22'"


def test_machines_have_addresses_names_and_homes(start_machines: Callable[[int], list[SshdNode]]) -> None:
    machines = start_machines(4)
    assert len({sshd.node.host for sshd in machines}) == 4
    for sshd in machines:
        assert ssh(sshd, "hostname; pwd").split() == [sshd.node.name, str(sshd.home)]
        for other in machines:
            ssh(sshd, PING.format(address=other.node.host))


def test_a_cut_is_silent_and_heals(network: Network) -> None:
    sshd = network.start("far")
    network.cut(sshd)
    said = run_ssh(sshd, "true", ConnectTimeout=1)
    assert (said.returncode, "timed out" in said.stderr) == (255, True)
    network.heal(sshd)
    assert ssh(sshd, "echo back") == "back"


def test_two_nodes_can_be_kept_apart(network: Network) -> None:
    first, second = network.start("first"), network.start("second")
    network.block(first, second)
    line = f"timeout 1 {PING.format(address=second.node.host)}"
    assert run_ssh(first, line).returncode == 124
    assert run_ssh(second, f"timeout 1 {PING.format(address=first.node.host)}").returncode == 124
    assert ssh(second, "echo here") == "here"
    network.heal(first)
    ssh(first, PING.format(address=second.node.host))


def test_a_slow_line_is_slow(network: Network) -> None:
    sshd = network.start("slow")
    network.limit(sshd, "1mbit")
    assert len(ssh(sshd, "head -c 60000 /dev/zero | tr '\\0' x")) == 60000
    rules = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
    assert "tbf" in rules
    assert "1Mbit" in rules


def test_what_a_killed_run_left_is_swept() -> None:
    program = (
        "import os, signal\n"
        "from tests.support.beds.network import Network, left_on_machine\n"
        "from tests.support.beds.sshd import SshdBed\n"
        "network = Network(SshdBed())\n"
        "network.start('doomed')\n"
        "pid = str(os.getpid())\n"
        "print(pid, *[match[0] for match in left_on_machine() if match['pid'] == pid], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    pid, *made = result.stdout.split()
    assert len(made) == 3, "a bridge, a cable and a namespace"
    sweep()  # a network of another test that starts just now may have been first
    assert not any(match["pid"] == pid for match in left_on_machine())


def test_nothing_is_left_of_ours() -> None:
    assert not any(match["pid"] == str(os.getpid()) for match in left_on_machine())
