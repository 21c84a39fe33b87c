"""Words of ssh_config that decide whose keys are trusted: ours follows each as OpenSSH's own client does."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import ConnectError, HostKeyError
from tests.support.beds.beside_ssh import BesideSsh, where
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]

RULES = {"strict": HostKeys.strict(), "accept_new": HostKeys.accept_new()}


@attrs.frozen
class Case:
    """One word: what it says, what stands in the files, and who gets in.

    {where}: the node's address; {ed25519}, {ecdsa}, {rsa}: its keys; {other}: another machine's; {folder}: the files'.
    """

    word: str
    lines: str
    gets_in: bool
    known: str = ""
    more: str = ""
    rule: str = "strict"


CASES = [
    # the alias alone is looked up
    Case("HostKeyAlias", "HostKeyAlias compute.17", True, "compute.17 {ed25519}"),
    Case("HostKeyAlias", "HostKeyAlias compute.17", False, "{where} {ed25519}"),
    Case("HostKeyAlias", "HostKeyAlias compute.17", False, "compute.17 {other}", rule="accept_new"),
    Case("HostKeyAlias", "HostKeyAlias Compute.17", False, "compute.17 {other}\n{where} {ed25519}", rule="accept_new"),
    Case("HostKeyAlias", "HostKeyAlias key-%h", False, "key-%h {other}", rule="accept_new"),
    Case("HostKeyAlias", "HostKeyAlias none", False, "none {other}", rule="accept_new"),
    Case("HostKeyAlias", "HostKeyAlias none", True, "none {rsa}\n{where} {other}"),
    # several files, with tokens, with spaces
    Case("UserKnownHostsFile", "UserKnownHostsFile {folder}/none {folder}/more", True, more="{where} {rsa}"),
    Case("UserKnownHostsFile", "UserKnownHostsFile {folder}/none {folder}/more", False, "{where} {ed25519}"),
    Case("UserKnownHostsFile", "UserKnownHostsFile {folder}/%n {folder}/mor%%%%e", False, more="{where} {rsa}"),
    Case("UserKnownHostsFile", "UserKnownHostsFile {folder}/%n.more", True, more="{where} {rsa}"),
    Case("UserKnownHostsFile", "UserKnownHostsFile {folder}/%n.more", False, more="{where} {other}", rule="accept_new"),
    Case("UserKnownHostsFile", "UserKnownHostsFile {folder}/%C", True, "{where} {ed25519}", rule="accept_new"),
    Case("UserKnownHostsFile", 'UserKnownHostsFile "{folder}/with space" {folder}/none', True, more="{where} {rsa}"),
    Case("UserKnownHostsFile", "UserKnownHostsFile none", False, "{where} {ed25519}"),
    Case("UserKnownHostsFile", "UserKnownHostsFile none", False, "{where} {ed25519}", rule="accept_new"),
    Case("UserKnownHostsFile", "UserKnownHostsFile /dev/null", True, "{where} {other}", rule="accept_new"),
    Case("GlobalKnownHostsFile", "GlobalKnownHostsFile {folder}/more", True, more="{where} {ecdsa}"),
    Case(
        "GlobalKnownHostsFile", "GlobalKnownHostsFile {folder}/more", False, more="{where} {other}", rule="accept_new"
    ),
    Case("GlobalKnownHostsFile", "GlobalKnownHostsFile {folder}/%n.more", False, more="{where} {ecdsa}"),
    Case("RevokedHostKeys", "RevokedHostKeys {folder}/more", False, "{where} {ed25519}", more="{ed25519}"),
    Case("RevokedHostKeys", "RevokedHostKeys {folder}/more", True, "{where} {ed25519}", more="{other}"),
    Case("RevokedHostKeys", "RevokedHostKeys {folder}/absent", False, "{where} {ed25519}", more="{other}"),
    Case("RevokedHostKeys", "RevokedHostKeys {folder}/known_hosts", False, "{where} {ed25519}", rule="accept_new"),
    Case("HostKeyAlgorithms", "HostKeyAlgorithms rsa-sha2-512", True, "{where} {rsa}"),
    Case("HostKeyAlgorithms", "HostKeyAlgorithms rsa-sha2-512", False, "{where} {ed25519}"),
    Case("HostKeyAlgorithms", "HostKeyAlgorithms -ssh-ed25519*", False, "{where} {ed25519}"),
    Case("HostKeyAlgorithms", "HostKeyAlgorithms -ssh-ed25519*", True, "{where} {ecdsa}"),
    Case("RequiredRSASize", "RequiredRSASize 4096", False, "{where} {rsa}"),
    Case("RequiredRSASize", "RequiredRSASize 2048", True, "{where} {rsa}"),
    Case(
        "CheckHostIP", "CheckHostIP yes\nHostName localhost\nAddressFamily inet", True, "[localhost]:{port} {ed25519}"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.word}-{'in' if case.gets_in else 'out'}")
async def test_k1_a_word_about_host_keys_is_followed_as_ssh_does(
    sshd: SshdNode, beside: BesideSsh, case: Case, keys: dict[str, str]
) -> None:
    places = {**keys, "folder": str(beside.folder), "where": where(sshd), "port": str(sshd.node.port)}
    beside.write(sshd, case.lines.format(**places))
    beside.known.write_text(case.known.format(**places))
    for name in ("more", "box.more", "with space", "mor%e"):
        (beside.folder / name).write_text(case.more.format(**places))
    rule = RULES[case.rule]
    assert await beside.ssh_gets_in(rule) is case.gets_in
    error = await beside.refusal(rule)
    assert (error is None) is case.gets_in, error
    assert error is None or isinstance(error, HostKeyError)


# -- words that make nobody less strict than his HostKeys ------------------------------------------------------------


@pytest.mark.parametrize(
    "lines,known,idle",
    [
        ("StrictHostKeyChecking no", "", "StrictHostKeyChecking no"),
        ("StrictHostKeyChecking off", "", "StrictHostKeyChecking no"),
        ("StrictHostKeyChecking no", "{where} {other}", "StrictHostKeyChecking no"),
        ("StrictHostKeyChecking accept-new", "", ""),
        ("NoHostAuthenticationForLocalhost yes", "{where} {other}", "NoHostAuthenticationForLocalhost yes"),
    ],
)
async def test_k1_what_lets_ssh_in_lets_nobody_in_whom_strict_does_not(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str], lines: str, known: str, idle: str
) -> None:
    beside.write(sshd, lines)
    beside.known.write_text(known.format(**keys, where=where(sshd)))
    error = await beside.refusal(HostKeys.strict())
    assert isinstance(error, HostKeyError)
    assert idle in error.hint
    assert beside.ssh().stdout == "in\n", "ssh would have let it in"


@pytest.mark.parametrize("word", ["yes", "no", "off", "ask", "accept-new"])
async def test_k1_accept_new_takes_no_changed_key_whatever_ssh_config_says(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str], word: str
) -> None:
    beside.write(sshd, f"StrictHostKeyChecking {word}")
    beside.known.write_text(f"{where(sshd)} {keys['other']}\n")
    error = await beside.refusal(HostKeys.accept_new())
    assert isinstance(error, HostKeyError)
    assert error.reason == "changed"


async def test_k1_strict_host_key_checking_yes_holds_under_accept_new(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd, "StrictHostKeyChecking yes")
    error = await beside.refusal(HostKeys.accept_new())
    assert isinstance(error, HostKeyError)
    assert (error.reason, beside.ssh().returncode) == ("unknown", 255)
    assert "StrictHostKeyChecking yes" in error.hint
    assert not beside.known.exists()


async def test_k1_what_only_dns_vouches_for_is_not_known(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd, "VerifyHostKeyDNS yes")
    error = await beside.refusal(HostKeys.strict())
    assert isinstance(error, HostKeyError)
    assert "VerifyHostKeyDNS yes" in error.hint


# -- refused by name -------------------------------------------------------------------------------------------------


async def test_k1_a_known_hosts_command_is_refused_by_name_unless_host_keys_are_given(
    sshd: SshdNode, beside: BesideSsh
) -> None:
    beside.write(sshd, f"KnownHostsCommand /bin/cat {sshd.known_hosts}")
    assert await beside.ssh_gets_in(HostKeys.strict())
    for rule in (HostKeys.strict(), HostKeys.accept_new()):
        error = await beside.refusal(rule)
        assert isinstance(error, ConnectError)
        assert error.reason == "config"
        assert "KnownHostsCommand" in error.message
    assert await beside.refusal(HostKeys.strict(sshd.known_hosts)) is None


# -- the files that HostKeys name count alone ------------------------------------------------------------------------


async def test_k1_a_file_that_host_keys_name_counts_alone_and_the_alias_stays(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str]
) -> None:
    mine = beside.folder / "mine"
    beside.write(sshd, "HostKeyAlias compute.17")
    beside.known.write_text(f"compute.17 {keys['other']}\n")
    mine.write_text(f"compute.17 {keys['rsa']}\n")
    assert await beside.refusal(HostKeys.strict(mine)) is None
    mine.write_text(f"compute.17 {keys['other']}\n")
    error = await beside.refusal(HostKeys.accept_new(mine))
    assert isinstance(error, HostKeyError)
    assert (error.reason, error.source) == ("changed", f"{mine}:1")


# -- hints, and what is recorded and forgotten -----------------------------------------------------------------------


@pytest.mark.parametrize("lines", ["", "HostKeyAlias compute.17", 'UserKnownHostsFile "{folder}/with space"'])
async def test_k1_the_hint_records_the_key_where_it_is_looked_for(
    sshd: SshdNode, beside: BesideSsh, lines: str
) -> None:
    (beside.folder / "with space").touch()
    beside.write(sshd, lines.format(folder=beside.folder))
    error = await beside.refusal(HostKeys.strict())
    assert isinstance(error, HostKeyError)
    command = error.hint.split("`")[1]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert await beside.refusal(HostKeys.strict()) is None
    assert await beside.ssh_gets_in(HostKeys.strict())


@pytest.mark.parametrize("lines", ["", "HostKeyAlias compute.17"])
async def test_k1_what_accept_new_records_ssh_trusts(sshd: SshdNode, beside: BesideSsh, lines: str) -> None:
    beside.write(sshd, lines)
    assert await beside.refusal(HostKeys.accept_new()) is None
    assert await beside.refusal(HostKeys.strict()) is None
    assert await beside.ssh_gets_in(HostKeys.strict())


async def test_k1_dev_null_keeps_nothing_and_says_so(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd, "UserKnownHostsFile /dev/null")
    assert await beside.refusal(HostKeys.accept_new()) is None
    assert [note for note in beside.notes if "/dev/null keeps nothing" in note]


@pytest.mark.parametrize(
    "lines,name",
    [
        ("HostKeyAlias compute.17", "compute.17"),
        ("", "{where}"),
        ("UserKnownHostsFile {folder}/more {folder}/%n.more", "{where}"),
    ],
)
async def test_k1_forget_takes_out_what_the_error_named(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str], lines: str, name: str
) -> None:
    beside.write(sshd, lines.format(folder=beside.folder))
    text = f"# kept\n{name.format(where=where(sshd))} {keys['other']}\nelsewhere {keys['other']}\n"
    for file in (beside.known, beside.folder / "box.more"):
        file.write_text(text)
    rule = HostKeys.accept_new()
    error = await beside.refusal(rule)
    assert isinstance(error, HostKeyError)
    assert "HostKeys.forget(node)" in error.hint
    assert rule.forget(Node("box"), config_path=beside.config) == 1
    assert await beside.refusal(rule) is None
    named = Path(error.source.rpartition(":")[0]).read_text()
    assert named.startswith(f"# kept\nelsewhere {keys['other']}\n")
