"""Nodes with addresses of their own: network namespaces on a bridge, as N machines on one private network.

    this machine 10.x.y.1 -- bridge -- veth -- node 0 10.x.y.2
                                    -- veth -- node 1 10.x.y.3 ...

Each node also has pids and a host name of its own. Names carry our pid, so that what a killed run left is swept by the
next.
"""

import contextlib
import itertools
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.beds.sshd import Place, SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import is_alive

# What it is (bridge, cable's end, namespace), whose (our pid and a letter), which; a device name has 15 characters.
NAMES = re.compile(r"ad(?P<kind>[bvn])(?P<mark>(?P<pid>\d+)[a-z])\d*")
_letters = itertools.cycle("abcdefghijklmnopqrstuvwxyz")


class Network:
    """A private network and its nodes; `close` removes all of it.

    Faults: `cut` lets every packet of a node vanish without a word, `block` only those between two nodes, `hide` takes
    our own way to a node away, `heal` ends all three; `limit` slows a node's line.
    """

    def __init__(self, bed: SshdBed) -> None:
        tools.need_root()
        tools.need("ip", "nft", "tc", "nsenter")
        sweep()
        self._bed = bed
        self._mark = f"{os.getpid()}{next(_letters)}"
        self._bridge = f"adb{self._mark}"
        self._prefix = _free_prefix()
        self.nodes: list[SshdNode] = []
        _ip(
            f"link add {self._bridge} type bridge",
            f"addr add {self._prefix}.1/24 dev {self._bridge}",
            f"link set {self._bridge} up",
        )

    def start(self, name: str, *, config: dict[str, object] | None = None, trap: bool = False) -> SshdNode:
        """Start a node with the next address; its sshd listens on port 22 there.

        trap: it has a docker0 as well, whose address every such node has and no other node reaches, first in order.
        """
        number = len(self.nodes)
        space, cable, address = self._space(number), f"adv{self._mark}{number}", f"{self._prefix}.{number + 2}"
        _ip(
            f"netns add {space}",
            f"link add {cable} type veth peer name eth0 netns {space}",
            f"link set {cable} master {self._bridge} up",
        )
        bridge = ("link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up")
        _ip(
            "link set lo up",
            *(bridge if trap else ()),
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {self._prefix}.1",
            space=space,
        )
        place = Place(address, 22, _enter(space))
        sshd = self._bed.start(name, config=config, place=place, own_pids=True)
        self.nodes.append(sshd)
        return sshd

    def start_behind(self, gate: SshdNode, name: str, address: str) -> SshdNode:
        """Start a node at an address that is reached from one other node alone; its sshd listens on port 22 there."""
        space = self._space(self.nodes.index(gate))
        _ip(f"addr add {address}/32 dev lo", space=space)
        return self._bed.start(name, place=Place(address, 22, _enter(space)), own_pids=True)

    def enter(self, sshd: SshdNode) -> tuple[str, ...]:
        """The words that run a program of this machine with the node's network."""
        return _enter(self._space(self.nodes.index(sshd)))

    def address(self, sshd: SshdNode) -> str:
        """The node's address on the network."""
        return f"{self._prefix}.{self.nodes.index(sshd) + 2}"

    def cut(self, sshd: SshdNode) -> None:
        """Let everything to and from the node vanish, as when its cable is pulled: no reset, no answer."""
        self.filter(sshd, "iifname eth0 drop", "oifname eth0 drop")

    def block(self, sshd: SshdNode, other: SshdNode) -> None:
        """Let everything between two nodes vanish; each is still there for everybody else."""
        address = self.address(other)
        self.filter(sshd, f"ip saddr {address} drop", f"ip daddr {address} drop")

    def hide(self, sshd: SshdNode) -> None:
        """Take our own way to a node away; the other nodes reach it, and what runs there runs on."""
        self.filter(sshd, f"ip saddr {self._prefix}.1 tcp dport 22 reject with tcp reset", "accept")

    def heal(self, sshd: SshdNode) -> None:
        """End what `cut`, `block` or `hide` did to this node."""
        with contextlib.suppress(subprocess.CalledProcessError):  # nothing was wrong with it
            self._nft(sshd, "delete table inet faults")

    def limit(self, sshd: SshdNode, rate: str) -> None:
        """Slow what the node sends, and what we send to it, to a rate such as "256kbit"."""
        number = self.nodes.index(sshd)
        # The burst must hold one packet of 64 KiB, or the kernel cuts all of them.
        words = ["root", "tbf", "rate", rate, "burst", "128k", "latency", "100ms"]
        _run("tc", "-n", self._space(number), "qdisc", "replace", "dev", "eth0", *words)
        _run("tc", "qdisc", "replace", "dev", f"adv{self._mark}{number}", *words)

    def close(self) -> None:
        """Remove what the network is made of; the bed ends the nodes."""
        _remove(self._mark)

    def filter(self, sshd: SshdNode, incoming: str, outgoing: str) -> None:
        """Let a rule each, in the words of nft, decide about what comes in and goes out."""
        self.heal(sshd)
        self._nft(
            sshd,
            "table inet faults {\n"
            f"  chain in {{ type filter hook input priority 0; {incoming}; }}\n"
            f"  chain out {{ type filter hook output priority 0; {outgoing}; }}\n"
            "}",
        )

    def _nft(self, sshd: SshdNode, rules: str) -> None:
        space = self._space(self.nodes.index(sshd))
        words = ["nsenter", f"--net=/run/netns/{space}", "nft", "-f", "-"]
        subprocess.run(words, input=rules, text=True, check=True, capture_output=True)

    def _space(self, number: int) -> str:
        return f"adn{self._mark}{number}"


def sweep() -> None:
    """Remove the networks of runs that are no more."""
    for match in list(left_on_machine()):
        if not is_alive(int(match["pid"])):
            _remove(match["mark"])


def left_on_machine() -> Iterator[re.Match[str]]:
    """Everything of any network of ours, dead or alive, by its name."""
    for folder in ("/sys/class/net", "/run/netns"):
        for entry in Path(folder).iterdir() if Path(folder).exists() else ():
            if match := NAMES.fullmatch(entry.name):
                yield match


def _remove(mark: str) -> None:
    for match in [match for match in left_on_machine() if match["mark"] == mark]:
        # A namespace lives a moment longer than its last process, and its cable with it: our end is taken by hand.
        words = ("netns", "del") if match["kind"] == "n" else ("link", "del")
        with contextlib.suppress(subprocess.CalledProcessError):  # gone meanwhile, with its other end
            _run("ip", *words, match[0])


def _enter(space: str) -> tuple[str, ...]:
    return ("nsenter", f"--net=/run/netns/{space}")


def _free_prefix() -> str:
    taken = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    for _ in range(100):
        prefix = f"10.{random.randrange(64, 250)}.{random.randrange(1, 250)}"
        if f" {prefix}." not in taken:
            return prefix
    raise RuntimeError("no free private network in a hundred tries")


def _ip(*lines: str, space: str | None = None) -> None:
    words = ["ip", *(["-n", space] if space else []), "-batch", "-"]
    done = subprocess.run(words, input="\n".join(lines), text=True, check=False, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip: {done.stderr.strip()}")


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def network(sshd_test_bed: SshdBed) -> Iterator[Network]:
    """A private network without nodes yet: `network.start(name)`; root only."""
    network = Network(sshd_test_bed)
    try:
        yield network
    finally:
        for sshd in network.nodes:  # before their namespaces, which they hold
            sshd.stop()
            sshd.sweep()
        network.close()


@pytest.fixture
def start_machines(network: Network) -> Callable[[int], list[SshdNode]]:
    """`start_machines(4)`: that many nodes with addresses, pids and host names of their own."""
    return lambda count: [network.start(f"machine-{number}") for number in range(count)]
