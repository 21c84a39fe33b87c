"""Machines that boot: what they lack at first is waited for, what waiting must not mend is said at once."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.ready import wait_ready
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import AuthError, ConnectError, HostKeyError, NoShell
from tests.support.beds.pools import pool_for
from tests.support.beds.servers.speakers import saying, speaker
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually


async def test_wait_until_a_machine_has_booted(start_sshd: Callable[..., SshdNode]) -> None:
    """A23."""
    machine = start_sshd("booting")
    machine.stop()
    async with Pool(host_keys=HostKeys.strict(machine.known_hosts)) as pool:
        waiting = asyncio.create_task(wait_ready(machine.node, timeout_s=30, pool=pool))
        late = await wait_ready(machine.node, timeout_s=0.1, pool=pool)
        assert [outcome.state for outcome in late] == ["failed"]
        assert not waiting.done()
        machine.start()
        assert (await waiting).ok


async def test_waiting_does_not_mend_a_host_key(start_sshd: Callable[..., SshdNode], tmp_path: Path) -> None:
    machine = start_sshd("unknown")
    (tmp_path / "known_hosts").touch()
    async with Pool(host_keys=HostKeys.strict(tmp_path / "known_hosts")) as pool:
        report = await wait_ready(machine.node, timeout_s=60, pool=pool)
    assert isinstance(report["unknown"].error, HostKeyError)


async def test_k14_a_key_that_comes_late_is_waited_for(start_sshd: Callable[..., SshdNode]) -> None:
    machine = start_sshd("keyless", config={"LogLevel": "VERBOSE"})
    keys = machine.folder.parent / "authorized_keys"
    text = keys.read_text()
    keys.write_text("")
    async with pool_for(machine) as pool:
        waiting = asyncio.create_task(wait_ready(machine.node, timeout_s=60, pool=pool))
        await eventually(lambda: "Failed publickey" in machine.log() or "[preauth]" in machine.log(), "refused once")
        late = await wait_ready(machine.node, timeout_s=1, pool=pool)
        assert not waiting.done()
        keys.write_text(text)
        assert (await waiting).ok
    error = late["keyless"].error
    assert isinstance(error, AuthError)
    assert error.message.startswith("not ready within 1 s; last seen: login as 'root' at ")
    assert "authorized_keys" in error.hint


async def test_k14_a_key_that_comes_within_a_short_timeout_is_seen(start_sshd: Callable[..., SshdNode]) -> None:
    machine = start_sshd("keyless", config={"LogLevel": "VERBOSE"})
    keys = machine.folder.parent / "authorized_keys"
    text = keys.read_text()
    keys.write_text("")
    async with pool_for(machine) as pool:
        waiting = asyncio.create_task(wait_ready(machine.node, timeout_s=4, pool=pool))
        await eventually(lambda: "[preauth]" in machine.log(), "refused once")
        keys.write_text(text)
        assert (await waiting).ok


@pytest.mark.parametrize("after", ["", "; sleep 1"])
async def test_k14_a_forced_command_while_it_boots_is_waited_for(
    start_sshd: Callable[..., SshdNode], after: str
) -> None:
    """As cloud-init forbids root; sshd reads authorized_keys once a connection, so that a new one is needed."""
    machine = start_sshd("cloud")
    keys = machine.folder.parent / "authorized_keys"
    text = keys.read_text()
    keys.write_text(f'command="echo Please wait{after}; exit 142" {text}')
    async with pool_for(machine) as pool, pool_for(machine) as other:
        waiting = asyncio.create_task(wait_ready(machine.node, timeout_s=60, pool=pool))
        late = await wait_ready(machine.node, timeout_s=4, pool=other)
        assert not waiting.done()
        keys.write_text(text)
        assert (await waiting).ok
    error = late["cloud"].error
    assert isinstance(error, NoShell)
    assert "last seen: its login shell ended without running our line" in error.message
    assert "Please wait" in error.describe()


async def test_k14_a_login_that_stays_refused_is_not_tried_often(
    start_sshd: Callable[..., SshdNode], key_path: str
) -> None:
    """sshd since 9.8 shuts an address out that is refused three times in ten seconds."""
    machine = start_sshd("strict", config={"LogLevel": "VERBOSE"})
    async with pool_for(machine) as pool:
        report = await wait_ready(attrs.evolve(machine.node, key_path=key_path), timeout_s=8, pool=pool)
    assert isinstance(report["strict"].error, AuthError)
    assert machine.log().count("Connection from 127.0.0.1") == 2


async def test_k14_a_key_that_is_not_here_is_no_matter_of_waiting(
    start_sshd: Callable[..., SshdNode], tmp_path: Path
) -> None:
    machine = start_sshd("here")
    async with pool_for(machine) as pool, asyncio.timeout(20):
        report = await wait_ready(attrs.evolve(machine.node, key_path=tmp_path / "gone"), timeout_s=600, pool=pool)
    assert report["here"].error.describe() == (
        f"here: {tmp_path}/gone: No such file or directory\nhint: give another key_path, or load the key with `ssh-add`"
    )


async def test_k14_a_name_that_is_not_known_yet_is_waited_for(key_path: str) -> None:
    node = Node("fresh-box.invalid", user="root", port=22, key_path=key_path)
    async with Pool(host_keys=HostKeys.pinned({})) as pool:
        report = await wait_ready(node, timeout_s=3, pool=pool)
    error = report["fresh-box.invalid"].error
    assert isinstance(error, ConnectError)
    assert error.message.startswith("not ready within 3 s; last seen: the name")


async def test_k15_a_port_without_a_first_word_does_not_outlast_the_timeout(key_path: str) -> None:
    async with speaker(saying(stay=True), key_path) as node:
        async with Pool(host_keys=HostKeys.pinned({})) as pool, asyncio.timeout(15):
            report = await wait_ready(
                [node, attrs.evolve(node, name="other", user="other")], timeout_s=1, at_once=1, pool=pool
            )
    for outcome in report:
        assert outcome.state == "failed"
        assert isinstance(outcome.error, ConnectError)
        assert outcome.error.reason == "timeout"
    first = report["speaker"].error
    assert first is not None
    seen = f"127.0.0.1 port {node.port} accepts connections, no login yet"
    assert re.fullmatch(rf"not ready within 1 s; last seen: {seen}, \d\.\d s before", first.message)


async def test_k15_those_that_never_come_do_not_keep_the_others_waiting(
    sshd_nodes: tuple[SshdNode, ...], unused_tcp_port: int
) -> None:
    """One turn for all: a node that refuses gives it back between its tries."""
    dead = attrs.evolve(sshd_nodes[0].node, port=unused_tcp_port, name="dead")
    nodes = [dead, *(sshd.node for sshd in sshd_nodes)]
    async with pool_for(sshd_nodes[0], limits=Limits(connect_deadline_s=1)) as pool:
        report = await wait_ready(nodes, timeout_s=6, at_once=1, pool=pool)
    assert [outcome.state for outcome in report] == ["failed", "ok", "ok", "ok", "ok"]
    assert report["dead"].error is not None
    assert report["dead"].error.message == (
        f"not ready within 6 s; last seen: 127.0.0.1 port {unused_tcp_port} refuses connections"
    )


@pytest.mark.parametrize("known", [True, False], ids=["changed", "unknown"])
async def test_k14_a_host_key_is_never_waited_for(
    known: bool, start_sshd: Callable[..., SshdNode], tmp_path: Path
) -> None:
    machine, other = start_sshd("changed"), start_sshd("other")
    text = other.known_hosts_lines.replace(f"]:{other.node.port}", f"]:{machine.node.port}").replace("other", "changed")
    (tmp_path / "known_hosts").write_text(text if known else "")
    async with Pool(host_keys=HostKeys.strict(tmp_path / "known_hosts")) as pool, asyncio.timeout(20):
        report = await wait_ready(machine.node, timeout_s=600, pool=pool)
    assert isinstance(report["changed"].error, HostKeyError)
    assert report["changed"].error.reason == ("changed" if known else "unknown")
