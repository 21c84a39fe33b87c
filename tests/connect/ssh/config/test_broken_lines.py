"""Lines of known_hosts that are no key: they mean nobody, as in ssh, and no machine has "changed" because of them."""

import os

import pytest

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from tests.support.beds.beside_ssh import BesideSsh, where
from tests.support.beds.sshd_node import SshdNode

BROKEN = {
    "of SSH 1": "{where} 1024 35 1234567890123456789012345678901234567890",
    "cut": "{where} {cut}",
    "no base64": "{where} ssh-ed25519 ???",
    "no letters of base64": "{where} ssh-ed25519 cl\u00e9",
    "another kind": "{where} ssh-rsa {blob}",
    "a kind that is none": "{where} ssh-none {blob}",
    "more behind it": "{where} {other}AAAA",
    "options, as in authorized_keys": "{where} no-pty {other}",
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
async def test_k1_a_line_that_is_no_key_is_skipped_as_in_ssh(
    sshd: SshdNode, beside: BesideSsh, keys: dict[str, str], line: str
) -> None:
    places = {"cut": keys["other"][:-8], "blob": keys["ed25519"].split()[1], "other": keys["other"]}
    beside.write(sshd)
    beside.known.write_text(line.format(where=where(sshd), **places) + "\n")
    strict, accept_new = HostKeys.strict(), HostKeys.accept_new()
    assert not await beside.ssh_gets_in(strict)
    assert await beside.ssh_gets_in(accept_new)
    error = await beside.refusal(strict)
    assert error is not None
    assert error.reason == "unknown"
    assert await beside.refusal(accept_new) is None
    assert await beside.refusal(strict) is None, "it was recorded"
    assert accept_new.forget(Node("box"), config_path=beside.config) == 2


async def test_k1_a_known_hosts_that_gives_nothing_is_one_that_cannot_be_read(
    sshd: SshdNode, beside: BesideSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncdeploy.connect.ssh.known_hosts.files.FILE_S", 0.2)
    beside.write(sshd)
    os.mkfifo(beside.known)
    for rule in (HostKeys.strict(), HostKeys.accept_new()):
        error = await beside.refusal(rule)
        assert error is not None
        assert f"cannot be read, and it may say otherwise: {beside.known}: it gave nothing" in error.message
        os.close(os.open(beside.known, os.O_WRONLY))  # the thread that reads it ends with its writer
