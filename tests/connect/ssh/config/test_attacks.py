"""What would get another machine's key trusted: each is tried, and nobody gets in whom ssh would keep out."""

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import HostKeyError
from tests.support.beds.beside_ssh import BesideSsh, where
from tests.support.beds.sshd_node import SshdNode

RULES = {"strict": HostKeys.strict(), "accept_new": HostKeys.accept_new()}

ATTACKS = [
    # another machine was once known by the name that is an alias now; ssh looks for the address alone
    ("box {ed25519}\n{where} {other}", False),
    ("box {ed25519}\n{where} {rsa}", True),
    ("box {rsa}\n{where} {ed25519}", True),
    ("box {other}\n{where} {rsa}", True),
    ("box,{where} {other}\n{where} {ed25519}", False),
    ("{where} {other}", False),
    # patterns are written for addresses, which ssh looks up
    ("* {other}\n{where} {ed25519}", True),
    ("b?x {other}\n{where} {rsa}", True),
    ("* {ed25519}\n{where} {other}", True),
    ("b?x {ed25519}\n{where} {other}", False),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("known,gets_in", ATTACKS)
async def test_k1_a_line_for_the_nodes_own_name_outweighs_none_for_its_address(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str], known: str, *, gets_in: bool, rule: str
) -> None:
    beside.write(sshd)
    beside.known.write_text(known.format(**keys, where=where(sshd)) + "\n")
    error = await beside.refusal(RULES[rule])
    assert (error is None) is gets_in, error
    assert gets_in is False or await beside.ssh_gets_in(RULES[rule])
    if error is not None:
        assert RULES[rule].forget(Node("box"), config_path=beside.config) >= 1
        assert await beside.refusal(HostKeys.accept_new()) is None


async def test_k1_what_one_file_is_told_is_not_known_to_another(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str]
) -> None:
    node = sshd.node
    beside.write(sshd)
    careful = f"Host careful\n HostName {node.host}\n Port {node.port}\n StrictHostKeyChecking yes\n"
    careful += f" UserKnownHostsFile {beside.folder}/mine\n User {node.user}\n IdentityFile {node.key_path}\n"
    beside.config.write_text(careful + beside.config.read_text())
    connector = AsyncsshConnector(HostKeys.accept_new(), config_path=beside.config)
    async with Pool(connector=connector) as pool:
        await (await pool.at(Node("box")).open("true")).close()
        with pytest.raises(HostKeyError, match="not known"):
            await pool.at(Node("careful")).open("true")
    await connector.close()


async def test_k1_an_alias_that_would_mean_every_host_is_not_written_down(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd, "HostKeyAlias *")
    assert await beside.refusal(HostKeys.accept_new()) is None
    assert not beside.known.exists()
    assert any("would mean other hosts" in note for note in beside.notes)


async def test_k1_a_file_that_cannot_be_read_may_pin_another_key(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside.write(sshd, f"UserKnownHostsFile {beside.folder}/known_hosts {beside.folder}/large")
    (beside.folder / "large").write_text(f"{where(sshd)} {keys['other']}\n" * 20)
    beside.known.write_text(f"{where(sshd)} {keys['ed25519']}\n")
    monkeypatch.setattr("asyncdeploy.connect.ssh.known_hosts.entries.MAX_BYTES", 1000)
    for text in (beside.known.read_text(), ""):
        beside.known.write_text(text)
        error = await beside.refusal(HostKeys.accept_new())
        assert isinstance(error, HostKeyError)
        assert f"{beside.folder}/large" in error.message


async def test_k1_the_hint_of_a_key_in_the_systems_file_is_to_take_it_out_there(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str]
) -> None:
    beside.write(sshd, f"GlobalKnownHostsFile {beside.folder}/more")
    (beside.folder / "more").write_text(f"{where(sshd)} {keys['other']}\n")
    error = await beside.refusal(HostKeys.accept_new())
    assert isinstance(error, HostKeyError)
    assert f"take the old key out of {beside.folder}/more" in error.hint
    assert "forget" not in error.hint
