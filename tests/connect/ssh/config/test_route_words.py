"""Words of ssh_config that decide the way to a node, and by which cryptography: ours goes as OpenSSH's client does."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import attrs
import pytest

from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import ConnectError
from tests.support.beds.beside_ssh import BesideSsh
from tests.support.beds.sshd import Place
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]


@attrs.frozen
class Case:
    """What is said in the whole file, and what a line prints then ("" nobody gets in); {own}: the node's own lines."""

    word: str
    text: str
    prints: str = "in"


OWN = "Host box\n {own}\n"
SECOND = "Host box\n HostName 127.0.0.1\nMatch canonical originalhost box\n {own}\n"
CASES = [
    Case("HostName", OWN),
    Case("HostName", "Host box\n HostName %h.invalid\n {own}\n", ""),
    Case("Port", "Host box\n Port {closed}\n {own}\n", ""),
    Case("AddressFamily", "Host box\n HostName localhost\n AddressFamily inet\n HostKeyAlias {where}\n {own}\n"),
    Case("AddressFamily", "Host box\n HostName localhost\n AddressFamily inet6\n HostKeyAlias {where}\n {own}\n", ""),
    Case("BindAddress", "Host box\n BindAddress 127.0.0.9\n {own}\n", "127.0.0.9"),
    Case("BindAddress", "Host box\n BindAddress 198.51.100.9\n {own}\n", ""),
    Case("Host", "Host other\n Port {closed}\nHost b?x !bax\n {own}\n"),
    Case("Host", "Host b?x !box\n {own}\n", ""),
    Case("Match", "Match originalhost box user root\n {own}\n"),
    Case("Match", 'Match originalhost box exec "test %n = box"\n {own}\n'),
    Case("Match", 'Match originalhost box exec "false"\n Port {closed}\nHost *\n {own}\n'),
    Case("Include", "Include {folder}/more/*\n"),
    Case("Include", "Host other\n Include {folder}/more/*\n", ""),
    Case("IgnoreUnknown", "IgnoreUnknown NoSuch*\nNoSuchWord yes\n" + OWN),
    Case("CanonicalizeHostname", "CanonicalizeHostname yes\n" + SECOND),
    Case("CanonicalizeHostname", "CanonicalizeHostname no\n" + SECOND, ""),
    Case("CanonicalDomains", "CanonicalizeHostname yes\nCanonicalDomains invalid\n" + OWN),
    Case("CanonicalizeFallbackLocal", "CanonicalizeHostname yes\nCanonicalizeFallbackLocal no\nMatch all\n", ""),
    Case("CanonicalizeMaxDots", "CanonicalizeHostname yes\nCanonicalizeMaxDots 0\n" + OWN),
    Case("CanonicalizePermittedCNAMEs", "CanonicalizePermittedCNAMEs *.invalid:*.invalid\n" + OWN),
    Case("Ciphers", "Ciphers aes256-ctr\n" + OWN),
    Case("Ciphers", "Ciphers aes128-ctr\n" + OWN, ""),
    Case("Ciphers", "Ciphers -aes*\n" + OWN, ""),
    Case("MACs", "MACs hmac-sha2-256\n" + OWN),
    Case("MACs", "MACs hmac-sha2-512\n" + OWN, ""),
    Case("KexAlgorithms", "KexAlgorithms ecdh-sha2-nistp256\n" + OWN),
    Case("KexAlgorithms", "KexAlgorithms curve25519-sha256\n" + OWN, ""),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.word}-{case.prints or 'out'}")
async def test_a_word_about_the_way_is_followed_as_ssh_does(
    picky: SshdNode, beside: BesideSsh, case: Case, unused_port: int
) -> None:
    node = picky.node
    own = f"HostName {node.host}\n Port {node.port}\n User {node.user}\n IdentityFile {node.key_path}\n"
    own += f" IdentitiesOnly yes\n UserKnownHostsFile {picky.known_hosts}\n"
    (beside.folder / "more").mkdir()
    (beside.folder / "more" / "box").write_text(f"Host box\n {own}")
    places = {"own": own, "closed": unused_port, "folder": beside.folder, "where": f"[{node.host}]:{node.port}"}
    beside.config.write_text(case.text.format(**places))
    line = "echo ${SSH_CONNECTION%% *}" if case.prints.startswith("1") else "echo in"
    result = await asyncio.to_thread(beside.ssh, "box", line, "StrictHostKeyChecking=yes")
    assert result.stdout.strip() == case.prints, result.stderr
    try:
        printed = await beside.run(HostKeys.strict(), line=line)
    except ConnectError:
        printed = ""
    assert printed.strip() == case.prints


@pytest.mark.parametrize("source", ["198.51.100.9", "::1"])
async def test_an_address_that_is_not_ours_is_refused_at_once(picky: SshdNode, beside: BesideSsh, source: str) -> None:
    """A moment later it is not ours either: nothing is tried again."""
    beside.write(picky, f"BindAddress {source}")
    error = await beside.refusal(HostKeys.strict(picky.known_hosts))
    assert isinstance(error, ConnectError)
    assert (error.reason, error.attempts) == ("config", 1)
    assert f"BindAddress {source}: an address of this machine was expected" in error.message


@pytest.mark.parametrize("jump", ["gate", "root@gate", "%n-gate", "[%r-gate]"])
async def test_a_jump_host_is_used_as_ssh_does(start_sshd: StartSshd, beside: BesideSsh, jump: str) -> None:
    gate, box = start_sshd("gate", config={"LogLevel": "VERBOSE"}), start_sshd("box")
    beside.write(box, f"ProxyJump {jump}\nUserKnownHostsFile {box.known_hosts}")
    inner = beside.config.read_text()
    beside.write(gate, f"UserKnownHostsFile {box.known_hosts}", alias="gate box-gate root-gate")
    beside.config.write_text(inner + beside.config.read_text())
    assert await beside.ssh_gets_in(HostKeys.strict())
    begun = gate.log().count("Accepted publickey")
    assert begun == 1
    assert await beside.refusal(HostKeys.strict()) is None
    assert gate.log().count("Accepted publickey") == begun + 1


async def test_k1_a_jump_host_may_be_an_address_which_ssh_prints_in_brackets(
    start_sshd: StartSshd, beside: BesideSsh
) -> None:
    gate, box = start_sshd("gate", place=Place("127.0.0.2")), start_sshd("box")
    beside.write(box, f"ProxyJump {gate.node.user}@127.0.0.2:{gate.node.port}\nUserKnownHostsFile {box.known_hosts}")
    inner = beside.config.read_text()
    beside.write(gate, f"UserKnownHostsFile {box.known_hosts}", alias="127.0.0.2")
    beside.config.write_text(inner + beside.config.read_text())
    assert await beside.ssh_gets_in(HostKeys.strict())
    assert await beside.refusal(HostKeys.strict()) is None


@pytest.mark.parametrize(
    "lines,word",
    [
        ("ProxyCommand nc %h %p", "ProxyCommand"),
        ("BindInterface lo", "BindInterface"),
    ],
)
async def test_a_way_that_we_do_not_go_is_refused_by_name(
    picky: SshdNode, beside: BesideSsh, lines: str, word: str
) -> None:
    beside.write(picky, lines)
    error = await beside.refusal(HostKeys.accept_new())
    assert isinstance(error, ConnectError)
    assert error.reason == "config"
    assert word in error.message
    own_way = attrs.evolve(Node("box"), jump="gate")
    if word == "ProxyCommand":
        assert await resolved(beside, own_way) == (picky.node.host, picky.node.port)


async def test_a_node_that_says_everything_still_goes_the_way_that_ssh_config_says(
    picky: SshdNode, beside: BesideSsh, unused_port: int
) -> None:
    beside.write(picky, alias="198.51.100.*")
    node = attrs.evolve(picky.node, host="198.51.100.7", port=unused_port, name="a")
    assert await resolved(beside, node) == (picky.node.host, unused_port)
    beside.config.write_text("Host 198.51.100.*\n ProxyCommand nc %h %p\n")
    with pytest.raises(ConnectError, match="ProxyCommand"):
        await resolved(beside, node)


async def test_algorithms_that_nobody_here_knows_are_named(picky: SshdNode, beside: BesideSsh) -> None:
    beside.write(picky, "KexAlgorithms sntrup761x25519-sha512@openssh.com")
    error = await beside.refusal(HostKeys.strict(picky.known_hosts))
    assert isinstance(error, ConnectError)
    assert error.reason == "config"
    assert "KexAlgorithms" in error.message
    assert "sntrup761x25519-sha512@openssh.com" in error.message


async def resolved(beside: BesideSsh, node: Node) -> tuple[str, int]:
    """Where a node is."""
    route = await AsyncsshConnector(HostKeys.strict(), config_path=beside.config).resolve(node)
    return route.host, route.port


@pytest.fixture
def picky(start_sshd: StartSshd) -> SshdNode:
    """A node that knows one cipher, one MAC and one key exchange."""
    config = {"Ciphers": "aes256-ctr", "MACs": "hmac-sha2-256", "KexAlgorithms": "ecdh-sha2-nistp256"}
    return start_sshd("picky", config=config)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody begins to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
