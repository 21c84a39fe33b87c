"""What is taken over from ssh_config, and what never is; keys and agents."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.config.answer import Keys, SshConfig, Trust, read_answer, split_files, to_config
from asyncdeploy.connect.ssh.config.hosts import SshConfigs
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.keys import KeyRing
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import AuthError, ConnectError
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need

StartSshd = Callable[..., SshdNode]


async def said(rule: HostKeys, node: Node, config: Path, line: str = "env; tty") -> str:
    """Return what a line prints, over a connector that reads this ssh_config."""
    connector = AsyncsshConnector(rule, config_path=config)
    try:
        async with Pool(connector=connector) as pool:
            channel = await pool.at(node).open(line)
            out = b""
            while data := await channel.read():
                out += data
            await channel.close()
            return out.decode()
    finally:
        await connector.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    need("ssh")
    return tmp_path / "config"


# -- ssh -G ----------------------------------------------------------------------------------------------------------


def test_only_where_and_with_what_is_taken_over(tmp_path: Path) -> None:
    key = tmp_path / "id with space"
    text = f"""user u
hostname 198.51.100.7
port 2222
forwardagent yes
identityfile {key}
identityfile ~/.ssh/id_xmss
identityfile ~no-such-user-here/x
identityagent /run/agent
proxyjump a,b:2
hostkeyalias h
userknownhostsfile /dev/null
canonicalizePermittedcnames none
sendenv SECRET
"""
    assert to_config(read_answer(text), ()) == SshConfig(
        "198.51.100.7",
        "u",
        2222,
        "a,b:2",
        trust=Trust("h", (Path("/dev/null"),)),
        keys=Keys((key, Path("~no-such-user-here/x")), agent="/run/agent"),
    )
    assert to_config(read_answer("proxyjump none\nidentityagent SSH_AUTH_SOCK\n"), ()) == SshConfig()
    assert to_config(read_answer(""), ()) == SshConfig()


@pytest.mark.parametrize("value", ["/a b /c", "relative also"])
def test_names_of_files_that_cannot_be_told_apart_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="absolute names"):
        split_files(value)


def test_lists_that_nobody_wrote_are_ssh_s_own_and_ours_count() -> None:
    answer = read_answer("ciphers a,b\nhostkeyalgorithms c\nrequiredrsasize 2048\n")
    assert to_config(answer, ()) == SshConfig(trust=Trust(rsa_bits=2048))
    written = to_config(answer, ["ciphers", "hostkeyalgorithms"])
    assert written.cryptography.ciphers == ("a", "b")
    assert written.trust.algorithms == ("c",)


async def test_an_alias_is_followed(config: Path) -> None:
    config.write_text("Host gpu\n HostName 198.51.100.7\n Port 41234\n User me\n ProxyJump gate\nHost gate\n Port 9\n")
    connector = AsyncsshConnector(HostKeys.pinned({}), config_path=config)
    route = await connector.resolve(Node("gpu"))
    assert (route.host, route.port) == ("198.51.100.7", 41234)
    assert route.jump is not None
    gate = await connector.resolve(route.jump)
    assert (gate.host, gate.port, gate.jump) == ("gate", 9, None)
    own = await connector.resolve(Node("gpu", port=1, jump="mine"))
    assert (own.port, own.jump) == (1, Node("mine"))


async def test_a_jump_host_behind_itself_is_an_error_with_sshs_own_words(config: Path) -> None:
    config.write_text("Host *\n ProxyJump gate\n")
    connector = AsyncsshConnector(HostKeys.pinned({}), config_path=config)
    assert (await connector.resolve(Node("gpu"))).jump == Node("gate")
    with pytest.raises(ConnectError) as caught:
        await connector.resolve(Node("gate"))
    assert "loop" in caught.value.evidence


async def test_jump_hosts_in_a_circle_are_an_error_not_a_wait(config: Path) -> None:
    config.write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    async with Pool(connector=AsyncsshConnector(HostKeys.pinned({}), config_path=config)) as pool:
        async with asyncio.timeout(10):
            with pytest.raises(ConnectError, match="circle"):
                await pool.at(Node("a")).open("true")


async def test_a_proxy_command_is_refused_by_name(config: Path) -> None:
    config.write_text("Host gpu\n ProxyCommand nc %h %p\n")
    with pytest.raises(ConnectError, match="ProxyCommand") as caught:
        await AsyncsshConnector(HostKeys.pinned({}), config_path=config).resolve(Node("gpu"))
    assert caught.value.reason == "config"


async def test_a21_an_include_loop_is_an_error_with_sshs_own_words(config: Path) -> None:
    config.write_text(f"Include {config}\n")
    with pytest.raises(ConnectError) as caught:
        await SshConfigs(config).ask(Node("gpu"))
    assert caught.value.reason == "config"
    assert "recursive" in caught.value.evidence


async def test_a21_nothing_hostile_is_inherited(
    start_sshd: StartSshd, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd = start_sshd("box", config={"AcceptEnv": "*", "AllowAgentForwarding": "yes"})
    monkeypatch.setenv("LC_CANARY", "secret")
    config.write_text(
        "Host *\n RequestTTY force\n ForwardAgent yes\n SendEnv LC_*\n SetEnv CANARY=set\n"
        " RemoteCommand echo hijacked\n UserKnownHostsFile none\n StrictHostKeyChecking no\n"
        " Compression yes\n ControlMaster auto\n"
        f"Host box\n HostName 127.0.0.1\n Port {sshd.node.port}\n User {sshd.node.user}\n"
        f" IdentityFile {sshd.node.key_path}\n"
    )
    alias = Node("box")
    text = await said(HostKeys.strict(sshd.known_hosts), alias, config)
    assert "not a tty" in text
    assert not any(word in text for word in ("CANARY", "SSH_AUTH_SOCK", "hijacked"))
    with pytest.raises(Exception, match="not known"):
        await said(HostKeys.strict(config.parent / "none"), alias, config)


# -- no ssh client, or none that runs --------------------------------------------------------------------------------

ALL = Node("127.0.0.1", user="u", port=2, key_path="/k")


@pytest.fixture(params=["absent", "broken"])
def no_ssh(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """There is no ssh client, or one that does not run; returns which."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if request.param == "broken":
        (folder / "ssh").write_text("#!/bin/sh\necho ssh: error while loading shared libraries >&2\nexit 127\n")
        (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin/nowhere")
    return str(request.param)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Host *\n SendEnv LC_*\n HashKnownHosts yes\n ServerAliveInterval 9\n",
        "Host gpu\n HostName 198.51.100.7\n HostKeyAlias x\n UserKnownHostsFile /x\n",
        "Host *\n Port 7\n User me\n IdentityFile /x\n IdentitiesOnly yes\n",
        "Match final all\n Ciphers aes256-ctr\n IdentityAgent /x\nHost gpu\n ProxyJump a\n",
    ],
)
async def test_k5_a_node_that_says_everything_needs_no_ssh_client(config: Path, no_ssh: str, text: str) -> None:
    config.write_text(text)
    notes: list[str] = []
    config_of = SshConfigs(config, lambda _node, note: notes.append(note))
    assert (await config_of.ask(ALL)).host == "127.0.0.1"
    assert ("Ciphers" in text) == any("Ciphers, IdentityAgent not followed" in note for note in notes)


@pytest.mark.parametrize(
    "text,word",
    [
        ("Host 127.*\n HostKeyAlias x\n", "HostKeyAlias"),
        ("Host *\n UserKnownHostsFile /x\n", "UserKnownHostsFile"),
        ("Host * !other\n ProxyCommand nc %h %p\n", "ProxyCommand"),
        ('Match exec "true"\n HostName 198.51.100.7\n', "HostName"),
        ("Include ${HOME}/x\n", "what only ssh can tell"),
    ],
)
async def test_k5_a_word_that_decides_who_is_reached_is_not_overlooked_for_lack_of_an_ssh_client(
    config: Path, no_ssh: str, text: str, word: str
) -> None:
    config.write_text(text)
    with pytest.raises(ConnectError) as caught:
        await SshConfigs(config).ask(ALL)
    assert word in f"{caught.value.message} {caught.value.hint}"
    assert ("shared libraries" in caught.value.evidence) == (no_ssh == "broken")


async def test_k5_where_nothing_is_written_a_node_is_what_it_says(config: Path, no_ssh: str) -> None:
    config.write_text("Host other\n User x\n")
    said = await SshConfigs(config).ask(Node("GPU"))
    assert (said.host, said.user, said.port) == ("gpu", None, None)
    config.write_text("Host *\n User x\n")
    with pytest.raises(ConnectError, match=r"User|cannot read"):
        await SshConfigs(config).ask(Node("gpu"))
    assert (await SshConfigs(config).ask(Node("gpu", user="me"))).host == "gpu"


async def test_ssh_is_not_asked_about_a_node_that_says_everything(config: Path) -> None:
    config.write_text("NoSuchKeyword at all\n")
    connector = AsyncsshConnector(HostKeys.pinned({}), config_path=config)
    assert (await connector.resolve(ALL)).port == 2
    with pytest.raises(ConnectError):
        await connector.resolve(attrs.evolve(ALL, key_path=None))


# -- keys ------------------------------------------------------------------------------------------------------------


def make_key(path: Path, passphrase: str = "") -> Path:
    need("ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path


class Agent:
    """A real ssh-agent."""

    def __init__(self, folder: Path) -> None:
        need("ssh-agent", "ssh-add")
        self.path = str(folder / "agent")
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", self.path], stdout=subprocess.DEVNULL)

    def add(self, key: Path) -> None:
        env = {**os.environ, "SSH_AUTH_SOCK": self.path, "SSH_ASKPASS_REQUIRE": "force"}
        env["SSH_ASKPASS"] = str(key.with_name("askpass"))
        Path(env["SSH_ASKPASS"]).write_text("#!/bin/sh\necho secret\n")
        Path(env["SSH_ASKPASS"]).chmod(0o700)
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env, stdin=subprocess.DEVNULL)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    running = Agent(tmp_path)
    while not _listens(running.path):  # its name is there before it listens
        assert running.process.poll() is None
    monkeypatch.setenv("SSH_AUTH_SOCK", running.path)
    yield running
    running.close()


async def test_an_agent_logs_in_with_and_without_a_key_file(
    start_sshd: StartSshd, agent: Agent, config: Path, tmp_path: Path
) -> None:
    locked = make_key(tmp_path / "locked", "secret")
    sshd = start_sshd("box")
    (sshd.folder.parent / "authorized_keys").write_text(Path(f"{locked}.pub").read_text())
    agent.add(locked)
    config.write_text("Host *\n IdentityFile none\n")
    rule = HostKeys.strict(sshd.known_hosts)
    assert await said(rule, attrs.evolve(sshd.node, key_path=None), config, "echo in") == "in\n"
    assert await said(rule, attrs.evolve(sshd.node, key_path=str(locked)), config, "echo in") == "in\n"


async def test_a14_an_agent_with_eight_keys_says_what_to_do(
    start_sshd: StartSshd, agent: Agent, config: Path, tmp_path: Path
) -> None:
    for number in range(8):
        agent.add(make_key(tmp_path / f"key-{number}"))
    config.write_text("Host *\n IdentityFile none\n")
    sshd = start_sshd("box")
    with pytest.raises(AuthError) as caught:
        await said(HostKeys.strict(sshd.known_hosts), attrs.evolve(sshd.node, key_path=None), config)
    assert "key_path" in caught.value.hint
    (sshd.folder.parent / "authorized_keys").write_text((tmp_path / "key-7.pub").read_text())
    config.write_text(f"Host *\n IdentityFile {tmp_path}/key-7.pub\n IdentitiesOnly yes\n")
    (tmp_path / "key-7").unlink()
    assert (
        await said(HostKeys.strict(sshd.known_hosts), attrs.evolve(sshd.node, key_path=None), config, "echo in")
        == "in\n"
    )


async def test_a15_a_hung_agent_is_left_out_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdeploy.connect.ssh.keys.AGENT_S", 0.1)
    key = make_key(tmp_path / "key")
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "hung"))
        hung.listen()
        ring = KeyRing()
        login = await ring.login("box", Keys((key,), agent=str(tmp_path / "hung")))
        await ring.close()
    assert login.names == (str(key),)
    assert "no answer" in ring.take_notes()[0]


async def test_no_key_at_all_is_no_reason_not_to_ask(tmp_path: Path) -> None:
    """There are accounts that need none."""
    ring = KeyRing()
    login = await ring.login("n", Keys((tmp_path / "gone",), agent="none"))
    assert (login.pairs, login.problems) == ((), (f"{tmp_path}/gone: No such file or directory",))
    with pytest.raises(AuthError, match="gone: No such file"):
        await ring.login("n", Keys((tmp_path / "gone",), only=True, agent="none"), named=True)


async def test_keys_are_loaded_once_for_all_nodes(tmp_path: Path) -> None:
    key, ring = make_key(tmp_path / "key"), KeyRing()
    keys = Keys((key,), only=True, agent="none")
    first, *others = await asyncio.gather(*(ring.login(f"n{number}", keys) for number in range(10)))
    assert all(other is first for other in others)
