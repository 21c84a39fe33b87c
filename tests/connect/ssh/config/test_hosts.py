"""Hosts that an ssh_config does not tell apart are asked about once, and get what each would have got by itself."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import attrs
import pytest

from asyncdeploy.connect.ssh.config import patterns
from asyncdeploy.connect.ssh.config.ask import Question, ask_ssh
from asyncdeploy.connect.ssh.config.files import UNNAMED, WrittenWords
from asyncdeploy.connect.ssh.config.hosts import SshConfigs, canonical
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS
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
        ("Host *\n  UserKnownHostsFile /keys/%C\n", HOSTS),
        ("Host *\n  ControlPath /run/%C\n", []),
        ("Host *\n  IdentityFile /keys/%n\n", []),
        ("Match all\n  User z\n", []),
        ("Match final all\n  User z\n", []),
        ("Match host gpu-1\n  User z\n", HOSTS),
        ('Match exec "false"\n  User z\n', HOSTS),
        ("CanonicalizeHostname yes\nCanonicalDomains lab\n", HOSTS),
        ('Host "unclosed\n', HOSTS),
        ("Host a*\n  User z\n", HOSTS),
        ("Host *-host\n  HostKeyAlias evil\n", HOSTS),
        ("Host !*-host gpu-1\n  HostKeyAlias evil\n", HOSTS),
    ],
)
async def test_what_is_said_of_all_is_what_each_would_hear(config: Path, text: str, named: Sequence[str]) -> None:
    config.write_text(text)
    found = WrittenWords.read(config)
    assert [host for host in HOSTS if found.tell_apart(host)] == list(named)
    for host in set(HOSTS) - set(named):
        of_all = await ask_ssh(Question(UNNAMED, "n", file=config))
        if not of_all.by_name:
            itself = await ask_ssh(Question(host, "n", file=config))
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


async def test_tokens_that_do_not_depend_on_the_host_leave_the_answer_to_all(config: Path) -> None:
    config.write_text("Host *\n  IdentityFile %d/.ssh/%u-key\n  ControlPath /run/%r@%h:%p\n")
    configs = SshConfigs(config)
    answers = {(await configs.ask(Node(f"10.0.0.{number}"))).keys for number in range(3)}
    assert len(answers) == 1
    assert "%" not in str(answers.pop().paths[0])


def test_included_files_count_and_loops_are_left_to_ssh(config: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a").write_text("Host gpu-1\n  User x\n")
    config.write_text(f"Include {tmp_path}/more/*\n")
    found = WrittenWords.read(config)
    assert [host for host in HOSTS if found.tell_apart(host)] == ["gpu-1"]
    for text in (f"Include {tmp_path}/more/*\n", "Include ${HOME}/more\n"):
        (tmp_path / "more" / "b").write_text(text)
        assert all(map(WrittenWords.read(config).tell_apart, HOSTS))
        assert WrittenWords.read(config).of("other") >= KEYWORDS.keys()


@pytest.mark.parametrize(
    "text,words",
    [
        ("User x\nHost gpu-1\n  Port 7\nHost *\n  ciphers=aes\n", {"user", "ciphers"}),
        ("Host gpu-* oth?r !other\n  Port 7\nHost !gpu-1 *\n MACs x\n", {"macs"}),
        ('Match exec "x"\n  PubkeyAcceptedKeyTypes x\nHost gpu-1\n  Match all\n', {"pubkeyacceptedalgorithms"}),
        ("Host gpu-1\n  Include {more}\n", {"user"}),
        ("Host gpu-1\n  Include {more}\n Port 7\nHost *\n IdentityFile x\n", {"user", "identityfile"}),
        ("Host other\n HostName x\nHost gpu-1\n Port 7\nMatch final all\n", {"hostname", "port"}),
        ("Host gpu-1\n Port 7\nMatch final all\n Ciphers x\n", {"ciphers"}),
        ("CanonicalizeHostname yes\nHost gpu-1\n Port 7\n", {"canonicalizehostname", "port"}),
        ("NoSuchWord x\n", {"nosuchword"}),
        # as ssh reads them: no list with commas, "!" minds case, "#" and "=" within a word are letters
        ("Host * !other,gpu-1\n Port 7\nHost gpu-1,other\n MACs x\n", {"port"}),
        ("Host * !OTHER\n Port 7\n", {"port"}),
        ("Host a#b other # gpu-1\n Port 7\n", {"port"}),
        ("Host\tother\n\tPort\t7\n", {"port"}),
        ("Include {more}=1#2\n", {"user"}),
        ("Include={more}=1#2\n", {"user"}),
    ],
)
def test_the_words_that_may_be_meant_for_a_host(config: Path, tmp_path: Path, text: str, words: set[str]) -> None:
    more = tmp_path / "more"
    more.write_text("Port 9\nHost other\n  User y\n")
    (tmp_path / "more=1#2").write_text("Host o*r\n  User y\n")
    config.write_text(text.replace("{more}", str(more)))
    assert WrittenWords.read(config).of("other") == words


@pytest.mark.parametrize(
    "text",
    [
        '"Host"=# other\n Port 7\n',
        "Include {more}/[[:alpha:]]\n",
        "Include {more}/\\[x\n",
        'Host "#x" other\n Port 7\n',
        "%%\n",
    ],
)
def test_what_ssh_alone_can_read_is_left_to_it(config: Path, tmp_path: Path, text: str) -> None:
    config.write_text(text.replace("{more}", str(tmp_path)))
    assert WrittenWords.read(config).of("other") >= KEYWORDS.keys()
    assert WrittenWords.read(config).tell_apart("other")


async def test_k1_no_line_for_others_is_followed_for_a_node_that_nobody_names(config: Path) -> None:
    config.write_text("Host *-host\n  HostKeyAlias evil\n  UserKnownHostsFile /dev/null\n")
    assert (await SshConfigs(config).ask(Node("gpu-1"))).trust.alias is None


async def test_k1_a_host_name_that_is_said_of_all_leads_all_of_them_there(config: Path) -> None:
    config.write_text("Host !nobody *\n  HostName gate.internal\n")
    assert (await SshConfigs(config).ask(Node("gpu-1"))).host == "gate.internal"


async def test_k1_a_node_that_says_everything_gets_the_alias_of_its_line(config: Path) -> None:
    node = Node("203.0.113.7", user="u", port=22, key_path="/key")
    config.write_text("Host * !203.0.113.7,gpu-1\n  HostKeyAlias one\n")
    assert (await SshConfigs(config).ask(node)).trust.alias == "one"


async def test_k21_a_large_ssh_config_is_looked_through_off_the_loop(config: Path) -> None:
    config.write_text("".join(f"Host *a{number}b*c\n User q\n" for number in range(2_000)))
    seen: list[str] = []

    def look(frame: FrameType, _event: str, _arg: object) -> None:
        if frame.f_code.co_filename == patterns.__file__:
            seen.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(look)  # of this thread, which is the loop's
    try:
        answer = await SshConfigs(config).ask(Node("a7b-c"))
    finally:
        sys.settrace(before)
    assert answer.user == "q"
    assert seen == []


@pytest.mark.parametrize(
    "host,known", [("GPU-1", "gpu-1"), ("2001:DB8:0::1", "2001:db8::1"), ("fe80::0:1%eth0", "fe80::1%eth0")]
)
def test_a_host_is_known_as_ssh_writes_it(host: str, known: str) -> None:
    assert canonical(host) == known
