"""The way to a node is part of whose key it is: gates, tunnels, and what OpenSSH recorded without knowing of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.config.answer import SshConfig
from asyncdeploy.connect.ssh.endpoint import identify
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.known_hosts.verdicts import unknown_error
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import DeployError, HostKeyError
from tests.support.beds.beside_ssh import BesideSsh
from tests.support.beds.network import Network
from tests.support.beds.sshd import Place
from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.world import run_in_world

StartSshd = Callable[..., SshdNode]
INNER = "10.99.0.5"


async def refusal(rule: HostKeys, *nodes: Node) -> list[DeployError | None]:
    """Why each node is not reached in one Pool; None where it is."""
    found: list[DeployError | None] = []
    async with Pool(host_keys=rule) as pool:
        for node in nodes:
            try:
                channel = await pool.at(node).open("true")
                await channel.close()
                found.append(None)
            except DeployError as error:
                found.append(error)
    return found


def key_of(sshd: SshdNode, kind: str = "ed25519") -> str:
    """A node's public key."""
    return " ".join(sshd.public_key(kind).read_text().split()[:2])


@attrs.frozen
class TwoSites:
    """Two gates, and behind each a machine at the same address."""

    gates: tuple[SshdNode, SshdNode]
    inner: tuple[SshdNode, SshdNode]

    def behind(self, number: int, name: str | None = None) -> Node:
        """The machine behind a gate."""
        return attrs.evolve(self.inner[number].node, name=name, port=None, jump=self.gates[number].node)


@pytest.fixture
def sites(network: Network) -> TwoSites:
    """Two sites that use the same private addresses."""
    gates = network.start("gate-0"), network.start("gate-1")
    return TwoSites(gates, (network.start_behind(gates[0], "a", INNER), network.start_behind(gates[1], "b", INNER)))


async def test_k13_one_address_behind_two_gates_is_two_machines(sites: TwoSites, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    assert await refusal(HostKeys.accept_new(known), sites.behind(0, "a"), sites.behind(1, "b")) == [None, None]
    assert await refusal(HostKeys.strict(known), sites.behind(1, "b"), sites.behind(0, "a")) == [None, None]
    names = {line.split()[0] for line in known.read_text().splitlines()}
    assert {f"a,gate-0/{INNER}", f"b,gate-1/{INNER}"} <= names


async def test_k13_the_way_tells_machines_apart_that_have_no_names(sites: TwoSites, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    for _ in range(2):  # as two runs of a program, one for each site, do day after day
        for number in range(2):
            assert await refusal(HostKeys.accept_new(known), sites.behind(number)) == [None]
    for number in range(2):
        assert await refusal(HostKeys.strict(known), sites.behind(number)) == [None]


async def test_k13_another_machine_behind_a_gate_is_noticed(sites: TwoSites, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    gates = "".join(gate.known_hosts_lines for gate in sites.gates)
    known.write_text(f"{gates}gate-0/{INNER} {key_of(sites.inner[1])} asyncdeploy\n")
    (error,) = await refusal(HostKeys.accept_new(known), sites.behind(0))
    assert isinstance(error, HostKeyError)
    assert error.reason == "changed"
    assert HostKeys.accept_new(known).forget(sites.behind(0)) == 1
    assert await refusal(HostKeys.accept_new(known), sites.behind(0)) == [None]


async def test_k13_what_openssh_recorded_for_the_address_holds_behind_every_gate(
    sites: TwoSites, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    gates = "".join(gate.known_hosts_lines for gate in sites.gates)
    known.write_text(f"{gates}{INNER} {key_of(sites.inner[0], 'rsa')}\n")
    assert await refusal(HostKeys.strict(known), sites.behind(0)) == [None], "ssh gets in there"
    (error,) = await refusal(HostKeys.accept_new(known), sites.behind(1))
    assert isinstance(error, HostKeyError)
    assert error.reason == "changed"
    assert "HostKeyAlias" in error.hint


async def test_k13_a_host_key_alias_tells_apart_what_openssh_mixes_up(sites: TwoSites, beside: BesideSsh) -> None:
    text = ""
    for number in range(2):
        text += f"Host box-{number}\n HostName {INNER}\n HostKeyAlias site-{number}\n ProxyJump gate-{number}\n"
        text += f"Host gate-{number}\n HostName {sites.gates[number].node.host}\n"
    node = sites.gates[0].node
    text += f"Host *\n User root\n IdentityFile {node.key_path}\n UserKnownHostsFile {beside.known}\n"
    beside.config.write_text(text)
    beside.known.write_text(f"{INNER} {key_of(sites.inner[0])}\n")
    for number in range(2):
        assert await beside.refusal(HostKeys.accept_new(), Node(f"box-{number}")) is None
        assert await beside.ssh_gets_in(HostKeys.strict(), f"box-{number}"), "it knows the alias that we recorded"


async def test_k13_a_machine_reached_directly_and_one_behind_a_gate(
    network: Network, start_sshd: StartSshd, tmp_path: Path
) -> None:
    known, gate = tmp_path / "known_hosts", network.start("gate")
    inner = network.start_behind(gate, "inner", "127.0.0.9")
    direct = start_sshd("direct", place=Place("127.0.0.9", 22))
    behind = attrs.evolve(inner.node, name=None, port=None, jump=gate.node)
    nodes = attrs.evolve(direct.node, name=None, port=None), behind
    assert await refusal(HostKeys.accept_new(known), *nodes) == [None, None]
    assert await refusal(HostKeys.accept_new(known), *reversed(nodes)) == [None, None]
    assert await refusal(HostKeys.strict(known), *nodes) == [None, None]


async def test_k13_the_hint_records_the_key_for_the_way(sites: TwoSites, beside: BesideSsh) -> None:
    gate = sites.gates[0]
    beside.write(gate, "", alias="gate")
    beside.config.write_text(f"{beside.config.read_text()}Host box\n HostName {INNER}\n ProxyJump gate\n User root\n")
    beside.known.write_text(gate.known_hosts_lines)
    error = await beside.refusal(HostKeys.strict(beside.known), Node("box", key_path=gate.node.key_path))
    assert isinstance(error, HostKeyError)
    assert f"gate/{INNER}" in error.message
    command = error.hint.split("`")[1]
    assert command.startswith(f"ssh gate ssh-keyscan {INNER} | sed ")
    shell = f'ssh() {{ command ssh -F {beside.config} "$@"; }}; {command}'
    process = await asyncio.create_subprocess_exec("sh", "-c", shell)
    assert await process.wait() == 0
    assert f"gate/{INNER} ssh-ed25519" in beside.known.read_text()
    assert await beside.refusal(HostKeys.strict(beside.known), Node("box", key_path=gate.node.key_path)) is None


@pytest.mark.parametrize(
    "jump,words",
    [
        ("gate", "gate"),
        ("me@gate:2222", "-p 2222 me@gate"),
        ("a@first:1,[fe80::1]:2,gate", "-J a@first:1,[fe80::1]:2 gate"),
    ],
)
def test_k13_the_hint_goes_to_the_gate_as_ssh_does(jump: str, words: str) -> None:
    node = Node(INNER, jump=jump)
    who = identify(node, SshConfig(), node.jump)
    assert f"`ssh {words} ssh-keyscan {INNER} | sed" in unknown_error(who, b"", Path("/known")).hint


# -- tunnels ---------------------------------------------------------------------------------------------------------


async def test_k13_two_named_nodes_at_one_port_of_loopback_are_two_machines(
    start_sshd: StartSshd, tmp_path: Path
) -> None:
    known, one = tmp_path / "known_hosts", start_sshd("one")
    port = one.node.port
    assert port is not None
    assert await refusal(HostKeys.accept_new(known), one.node) == [None]
    one.stop()
    two = start_sshd("two", place=Place(port=port))
    assert await refusal(HostKeys.accept_new(known), two.node) == [None]
    assert await refusal(HostKeys.strict(known), two.node) == [None]
    (error,) = await refusal(HostKeys.accept_new(known), one.node)
    assert isinstance(error, HostKeyError), "the first one's name has its own key, and this is not it"
    assert error.reason == "changed"
    assert HostKeys.accept_new(known).forget(one.node) == 1
    assert await refusal(HostKeys.strict(known), two.node) == [None], "the other one is still known"


async def test_k13_what_openssh_recorded_at_loopback_holds_for_every_name(
    start_sshd: StartSshd, tmp_path: Path
) -> None:
    known, one, other = tmp_path / "known_hosts", start_sshd("one"), start_sshd("other")
    where = f"[127.0.0.1]:{one.node.port}"
    known.write_text(f"{where} {key_of(one)}\n")
    assert await refusal(HostKeys.strict(known), one.node) == [None]
    known.write_text(f"{where} {key_of(other)}\n")
    (error,) = await refusal(HostKeys.accept_new(known), one.node)
    assert isinstance(error, HostKeyError)
    assert (error.reason, "HostKeyAlias" in error.hint) == ("changed", True)
    assert HostKeys.accept_new(known).forget(one.node) == 1
    assert await refusal(HostKeys.accept_new(known), one.node) == [None]


# -- CheckHostIP -----------------------------------------------------------------------------------------------------

CHECK = """
import asyncio, sys
from pathlib import Path
from asyncdeploy import HostKeys
from tests.support.beds.beside_ssh import BesideSsh
async def main():
    beside = BesideSsh(Path(sys.argv[1]))
    refusal = await beside.refusal(HostKeys.strict())
    print(await beside.ssh_gets_in(HostKeys.strict()), refusal and refusal.describe())
asyncio.run(main())
"""


@pytest.mark.parametrize("word,gets_in", [("no", True), ("yes", False)])
async def test_k1_check_host_ip_looks_at_the_address_too(
    network: Network, beside: BesideSsh, tmp_path: Path, word: str, gets_in: bool
) -> None:
    sshd, hosts = network.start("machine"), tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{network.address(sshd)} machine.invalid\n")
    beside.write(sshd, f"HostName machine.invalid\nCheckHostIP {word}")
    beside.known.write_text(f"machine.invalid {key_of(sshd)}\n")
    assert await run_in_world({"/etc/hosts": hosts}, CHECK, str(beside.folder)) == "True None\n"
    with beside.known.open("a") as stream:
        stream.write(f"{network.address(sshd)} {key_of(network.start('other'))}\n")
    said = await run_in_world({"/etc/hosts": hosts}, CHECK, str(beside.folder))
    assert said.startswith(f"{gets_in} ")
    assert gets_in or "CheckHostIP" in said
