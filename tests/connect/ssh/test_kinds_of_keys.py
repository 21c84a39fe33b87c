"""A machine has several host keys, and certificates: the right one gets through whichever of its keys is known."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.known_hosts.algorithms import host_key_algorithms
from asyncdeploy.values.errors import HostKeyError
from tests.support.beds.beside_ssh import BesideSsh
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]
KINDS = ("ed25519", "ecdsa", "rsa")


def public(sshd: SshdNode, kind: str) -> str:
    """A node's public key."""
    return " ".join(sshd.public_key(kind).read_text().split()[:2])


def fingerprint(sshd: SshdNode, kind: str) -> str:
    """Its fingerprint."""
    return asyncssh.read_public_key(sshd.public_key(kind)).get_fingerprint()


def where(sshd: SshdNode) -> str:
    """A node's address as known_hosts has it."""
    return f"[{sshd.node.host}]:{sshd.node.port}"


@pytest.fixture
def sshd(start_sshd: StartSshd) -> SshdNode:
    """A node with three kinds of keys."""
    return start_sshd("machine", config={"LogLevel": "DEBUG1"})


@pytest.mark.parametrize("kind", KINDS)
async def test_k12_the_right_machine_passes_whichever_of_its_keys_is_pinned(
    sshd: SshdNode, beside: BesideSsh, kind: str
) -> None:
    beside.write(sshd)
    assert await beside.refusal(HostKeys.pinned({"box": fingerprint(sshd, kind)})) is None


async def test_k12_another_machine_is_refused_with_all_its_keys_and_no_byte_of_a_login(
    sshd: SshdNode, start_sshd: StartSshd, beside: BesideSsh
) -> None:
    beside.write(sshd)
    pin = fingerprint(start_sshd("other"), "rsa")
    error = await beside.refusal(HostKeys.pinned({"box": pin}))
    assert isinstance(error, HostKeyError)
    assert (error.reason, error.expected) == ("changed", (pin,))
    assert all(fingerprint(sshd, kind) in error.message for kind in KINDS)
    assert "userauth-request" not in sshd.log()


async def test_k12_a_pinned_kind_is_remembered(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd)
    rule = HostKeys.pinned({"box": fingerprint(sshd, "rsa")})
    assert await beside.run(rule, times=2) == "in\n"
    assert sshd.log().count("Connection from") == 3 + 1, "three kinds were asked for once"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [HostKeys.strict(), HostKeys.accept_new()], ids=["strict", "accept_new"])
async def test_k12_the_right_machine_passes_whichever_of_its_keys_is_known(
    sshd: SshdNode, beside: BesideSsh, kind: str, rule: HostKeys
) -> None:
    beside.write(sshd)
    beside.known.write_text(f"{where(sshd)} {public(sshd, kind)}\n")
    assert await beside.ssh_gets_in(rule)
    assert await beside.refusal(rule) is None
    assert sshd.log().count("Connection from") == 2, "one of them ours: the known kind was asked for first"


async def test_k12_a_new_machine_is_known_by_the_key_that_ssh_prefers(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd)
    assert await beside.refusal(HostKeys.accept_new()) is None
    assert public(sshd, "ed25519") in beside.known.read_text()
    assert await beside.ssh_gets_in(HostKeys.strict())


async def test_k12_a_changed_key_of_a_known_kind_is_refused_though_other_kinds_match(
    sshd: SshdNode, start_sshd: StartSshd, beside: BesideSsh
) -> None:
    beside.write(sshd)
    wrong = public(start_sshd("other"), "ed25519")
    beside.known.write_text(f"{where(sshd)} {wrong}\n{where(sshd)} {public(sshd, 'rsa')}\n")
    assert not await beside.ssh_gets_in(HostKeys.strict())
    error = await beside.refusal(HostKeys.strict())
    assert isinstance(error, HostKeyError)
    assert error.reason == "changed"


def test_k12_the_order_is_openssh_s() -> None:
    asked = host_key_algorithms((), certified=False)
    assert asked[:4] == ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
    assert asked.index("rsa-sha2-512") < asked.index("rsa-sha2-256") < asked.index("ssh-rsa")
    assert host_key_algorithms({"ssh-rsa"}, certified=False)[0] == "rsa-sha2-512"
    assert host_key_algorithms({"ssh-rsa"}, certified=True)[0] == "ssh-ed25519-cert-v01@openssh.com"
    assert host_key_algorithms({"ssh-rsa"}, certified=True, allowed=["ssh-ed25519"]) == ("ssh-ed25519",)


# -- certificates ----------------------------------------------------------------------------------------------------


class Authority:
    """One who certifies hosts."""

    def __init__(self, folder: Path, name: str, kind: str = "ed25519") -> None:
        self.path = folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(self.path)], check=True)

    @property
    def public(self) -> str:
        """Its key."""
        return " ".join(self.path.with_suffix(".pub").read_text().split()[:2])

    def certify(self, key: Path, names: str = "127.0.0.1", *words: str) -> Path:
        """Certify a host's key; return the certificate."""
        words = words or ("-V", "+1h")
        command = ["ssh-keygen", "-q", "-s", str(self.path), "-I", "it", "-h", "-n", names, *words, str(key)]
        subprocess.run(command, check=True)
        return key.with_name(key.name.replace(".pub", "-cert.pub"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The one who certifies our hosts."""
    return Authority(tmp_path, "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another one."""
    return Authority(tmp_path, "strangers")


@pytest.fixture
def certified(start_sshd: StartSshd, authority: Authority, tmp_path: Path) -> SshdNode:
    """A node whose ed25519 key is certified."""
    sshd = start_sshd("certified", config={"HostCertificate": tmp_path / "cert.pub", "LogLevel": "DEBUG1"})
    shutil.move(authority.certify(sshd.public_key("ed25519")), tmp_path / "cert.pub")
    sshd.restart()
    return sshd


CERTIFIED = [
    ("@cert-authority * {ours}", True, True),
    ("@cert-authority 127.0.0.1 {ours}", True, True),  # without the port
    ("@cert-authority {where} {ours}", True, True),
    ("@cert-authority elsewhere {ours}", False, True),
    ("@cert-authority * {strangers}", False, True),
    ("@cert-authority * {strangers}\n{where} {ed25519}", True, True),
    ("@cert-authority * {ours}\n{where} {rsa}", True, True),
    ("@cert-authority box {ours}", False, True),  # the node's own name, which ssh does not look for
    ("@cert-authority box {ours}\n{where} {strangers}", False, False),
    ("@cert-authority * {ours}\n@revoked * {ours}", False, False),
    ("@cert-authority * {ours}\n@revoked * {ed25519}", False, False),
    ("@cert-authority * {strangers}\n@revoked * {ours}\n{where} {ed25519}", False, False),
]


@pytest.mark.parametrize("known,strict,accept_new", CERTIFIED, ids=[str(number) for number in range(len(CERTIFIED))])
async def test_k20_a_certificate_that_is_not_good_leaves_the_key_to_be_judged_as_ssh_does(
    certified: SshdNode,
    beside: BesideSsh,
    authority: Authority,
    stranger: Authority,
    known: str,
    strict: bool,
    accept_new: bool,
) -> None:
    places = {kind: public(certified, kind) for kind in KINDS}
    places |= {"ours": authority.public, "strangers": stranger.public, "where": where(certified)}
    beside.write(certified)
    beside.known.write_text(known.format(**places) + "\n")
    for rule, gets_in in ((HostKeys.strict(), strict), (HostKeys.accept_new(), accept_new)):
        assert await beside.ssh_gets_in(rule) is gets_in
        error = await beside.refusal(rule)
        assert (error is None) is gets_in, error


@pytest.mark.parametrize("kind", KINDS)
async def test_k20_a_plain_key_of_any_kind_does_beside_another_authority(
    certified: SshdNode, beside: BesideSsh, stranger: Authority, kind: str
) -> None:
    # OpenSSH's own client asks for a certificate first, and does not ask again: of these it knows ed25519 alone.
    beside.write(certified)
    beside.known.write_text(f"@cert-authority * {stranger.public}\n{where(certified)} {public(certified, kind)}\n")
    assert await beside.ssh_gets_in(HostKeys.strict()) is (kind == "ed25519")
    assert await beside.refusal(HostKeys.strict()) is None


@pytest.mark.parametrize(
    "names,words", [("elsewhere", ()), ("127.0.0.1", ("-V", "-2h:-1h")), ("127.0.0.1", ("-V", "+1h:+2h"))]
)
async def test_k20_a_certificate_for_another_name_or_time_is_none(
    certified: SshdNode, beside: BesideSsh, authority: Authority, tmp_path: Path, names: str, words: tuple[str, ...]
) -> None:
    shutil.move(authority.certify(certified.public_key("ed25519"), names, *words), tmp_path / "cert.pub")
    certified.restart()
    beside.write(certified)
    beside.known.write_text(f"@cert-authority * {authority.public}\n")
    assert not await beside.ssh_gets_in(HostKeys.strict())
    error = await beside.refusal(HostKeys.strict())
    assert isinstance(error, HostKeyError)
    assert "ertificate" in error.message
    with beside.known.open("a") as stream:
        stream.write(f"{where(certified)} {public(certified, 'ed25519')}\n")
    assert await beside.ssh_gets_in(HostKeys.strict())
    assert await beside.refusal(HostKeys.strict()) is None


async def test_k20_a_certificate_is_for_the_alias_where_there_is_one(
    certified: SshdNode, beside: BesideSsh, authority: Authority, tmp_path: Path
) -> None:
    shutil.move(authority.certify(certified.public_key("ed25519"), "compute.17"), tmp_path / "cert.pub")
    certified.restart()
    beside.known.write_text(f"@cert-authority compute.* {authority.public}\n")
    for alias, gets_in in (("compute.17", True), ("compute.18", False)):
        beside.write(certified, f"HostKeyAlias {alias}")
        assert await beside.ssh_gets_in(HostKeys.strict()) is gets_in
        assert (await beside.refusal(HostKeys.strict()) is None) is gets_in


async def test_a_certified_node_is_not_recorded(certified: SshdNode, beside: BesideSsh, authority: Authority) -> None:
    beside.write(certified)
    beside.known.write_text(f"@cert-authority * {authority.public}\n")
    assert await beside.refusal(HostKeys.accept_new()) is None
    assert beside.known.read_text() == f"@cert-authority * {authority.public}\n"


@pytest.mark.parametrize(
    "word,gets_in",
    [
        ("CASignatureAlgorithms ssh-ed25519", True),
        ("CASignatureAlgorithms rsa-sha2-512", False),
        ("CASignatureAlgorithms -ssh-ed25519", False),
    ],
)
async def test_an_authority_must_sign_as_ssh_config_wants(
    certified: SshdNode, beside: BesideSsh, authority: Authority, word: str, gets_in: bool
) -> None:
    beside.write(certified, word)
    beside.known.write_text(f"@cert-authority * {authority.public}\n")
    assert await beside.ssh_gets_in(HostKeys.strict()) is gets_in
    assert (await beside.refusal(HostKeys.strict()) is None) is gets_in


async def test_an_authority_that_signs_by_sha1_is_none(
    start_sshd: StartSshd, beside: BesideSsh, tmp_path: Path
) -> None:
    old = Authority(tmp_path, "old", "rsa")
    sshd = start_sshd("certified", config={"HostCertificate": tmp_path / "cert.pub"})
    for algorithm, gets_in in (("ssh-rsa", False), ("rsa-sha2-512", True)):
        shutil.move(old.certify(sshd.public_key("ed25519"), "127.0.0.1", "-t", algorithm), tmp_path / "cert.pub")
        sshd.restart()
        beside.write(sshd)
        beside.known.write_text(f"@cert-authority * {old.public}\n")
        assert await beside.ssh_gets_in(HostKeys.strict()) is gets_in
        assert (await beside.refusal(HostKeys.strict()) is None) is gets_in


@pytest.mark.parametrize("revoked,gets_in", [("certificate", False), ("other", True)])
async def test_k1_a_certificate_that_a_krl_revokes_is_refused(
    certified: SshdNode, beside: BesideSsh, authority: Authority, tmp_path: Path, revoked: str, gets_in: bool
) -> None:
    krl, spec = tmp_path / "krl", tmp_path / "spec"
    spec.write_text("id: it\n" if revoked == "certificate" else "id: another\n")
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(krl), "-s", f"{authority.path}.pub", str(spec)], check=True)
    beside.write(certified, f"RevokedHostKeys {krl}")
    beside.known.write_text(f"@cert-authority * {authority.public}\n")
    assert await beside.ssh_gets_in(HostKeys.strict()) is gets_in
    assert (await beside.refusal(HostKeys.strict()) is None) is gets_in
    pinned = HostKeys.pinned({"box": fingerprint(certified, "ed25519")})
    assert await beside.refusal(pinned) is None, "it is the certificate that was revoked, not the key"
