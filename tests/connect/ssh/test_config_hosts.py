"""Hosts that an ssh_config does not tell apart are asked about once, and get what each would have got by itself."""

import os
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.ssh.config.ask import ask_ssh
from asyncdeploy.connect.ssh.config.hosts import UNNAMED, NamedHosts
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from tests.support.tools import need

HOSTS = ["203.0.113.7", "gpu-1", "gpu-2.lab", "other", "bastion"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    need("ssh")
    return tmp_path / "config"


@pytest.mark.parametrize(
    "text,named",
    [
        ("", []),
        ("Host *\n  User ml\n  Port 2222\n", []),
        ("Host gpu-* !gpu-1\n  User ml\nHost *\n  Port 7\n", ["gpu-1", "gpu-2.lab"]),
        ('host="bastion"\n  ProxyJump other\n', ["bastion"]),
        ("HOST 203.0.113.*\n  User x\n", ["203.0.113.7"]),
        ("# Host other\nHost nobody # Match\n  User y\n", []),
        ("Host *\n  Hostname %h.internal\n", []),
        ("Host *\n  HostKeyAlias key-of-%h\n", []),
        ("Match host gpu-1\n  User z\n", HOSTS),
        ('Match exec "false"\n  User z\n', HOSTS),
        ("CanonicalizeHostname yes\nCanonicalDomains lab\n", HOSTS),
        ('Host "unclosed\n', HOSTS),
    ],
)
async def test_what_is_said_of_all_is_what_each_would_hear(config: Path, text: str, named: Sequence[str]) -> None:
    config.write_text(text)
    found = NamedHosts.read(config)
    assert [host for host in HOSTS if found.tell_apart(host)] == list(named)
    for host in set(HOSTS) - set(named):
        of_all = await ask_ssh(UNNAMED, node="n", user=None, port=None, file=config)
        if not of_all.by_name:
            itself = await ask_ssh(host, node="n", user=None, port=None, file=config)
            assert attrs.evolve(of_all, host=host) == attrs.evolve(itself, by_name=False)


async def test_each_is_asked_about_where_its_name_is_part_of_the_answer(config: Path) -> None:
    config.write_text("Host *\n  Hostname %h.internal\n  IdentityFile /keys/%h\n")
    connector = AsyncsshConnector(HostKeys.strict(), config_path=config)
    routes = [await connector.resolve(Node(host)) for host in HOSTS]
    assert [route.host for route in routes] == [f"{host}.internal" for host in HOSTS]
    await connector.close()


async def test_many_hosts_cost_one_question(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("Host gpu-1\n  Port 7\nHost *\n  Port 8\n")
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\necho asked >>{tmp_path}/log\nPATH={os.environ["PATH"]} exec ssh "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    connector = AsyncsshConnector(HostKeys.strict(), config_path=config)
    routes = [await connector.resolve(Node(f"10.0.0.{number}")) for number in range(20)]
    assert {route.port for route in routes} == {8}
    assert routes[7].host == "10.0.0.7"
    assert (await connector.resolve(Node("gpu-1"))).port == 7
    assert (tmp_path / "log").read_text() == "asked\n" * 2
    await connector.close()


def test_included_files_count_and_loops_are_left_to_ssh(config: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a").write_text("Host gpu-1\n  User x\n")
    config.write_text(f"Include {tmp_path}/more/*\n")
    found = NamedHosts.read(config)
    assert [host for host in HOSTS if found.tell_apart(host)] == ["gpu-1"]
    (tmp_path / "more" / "b").write_text(f"Include {tmp_path}/more/*\n")
    assert NamedHosts.read(config).patterns is None
    config.write_text("Include ~/somewhere\n")
    assert NamedHosts.read(config).patterns is None
