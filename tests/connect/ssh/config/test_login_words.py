"""Words of ssh_config that decide with what we log in: ours offers what OpenSSH's own client does."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import AuthError, ConnectError
from tests.support.beds.beside_ssh import BesideSsh
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need

StartSshd = Callable[..., SshdNode]


@attrs.frozen
class Case:
    """What is said, and whether it logs in with the key at {key}; {folder}: where the tokens' files lie."""

    word: str
    lines: str
    gets_in: bool


CASES = [
    Case("User", "User {user}\nIdentityFile {key}", True),
    Case("User", "User nobody-here\nIdentityFile {key}", False),
    Case("IdentityFile", "IdentityFile {key}", True),
    Case("IdentityFile", "IdentityFile %d/{up}{key}", True),
    Case("IdentityFile", "IdentityFile ${{AD_KEYS}}/key", True),
    Case("IdentityFile", "IdentityFile {folder}/%h-%p-%r", True),
    Case("IdentityFile", "IdentityFile {folder}/%n-%u-%i", True),
    Case("IdentityFile", "IdentityFile {folder}/%k-%L-%l", True),
    Case("IdentityFile", "IdentityFile {folder}/100%%", True),
    Case("IdentityFile", "IdentityFile {folder}/%C", True),
    Case("IdentityFile", 'IdentityFile "{folder}/a key of %n"', True),
    Case("IdentityFile", "IdentityFile {folder}/absent\nIdentityFile {folder}/%n-%u-%i", True),
    Case("IdentityFile", "IdentityFile none", False),
    Case("IdentityFile", "IdentityFile {folder}/absent", False),
    Case("IdentityFile", "IdentityFile {folder}/%z", False),
    Case("IdentityFile", "IdentityFile ${{AD_NO_SUCH_VARIABLE}}/key", False),
    Case("PubkeyAuthentication", "PubkeyAuthentication no\nIdentityFile {key}", False),
    Case("PubkeyAuthentication", "PubkeyAuthentication host-bound\nIdentityFile {key}", True),
    Case("PreferredAuthentications", "PreferredAuthentications password\nIdentityFile {key}", False),
    Case("PreferredAuthentications", "PreferredAuthentications password,publickey\nIdentityFile {key}", True),
    Case("PreferredAuthentications", "PreferredAuthentications none\nIdentityFile {key}", False),
    Case("PubkeyAcceptedAlgorithms", "PubkeyAcceptedAlgorithms rsa-*\nIdentityFile {key}", False),
    Case("PubkeyAcceptedAlgorithms", "PubkeyAcceptedAlgorithms rsa-sha2-512\nIdentityFile {rsa}", True),
    Case("PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes -ssh-ed25519\nIdentityFile {key}", False),
    Case("RequiredRSASize", "RequiredRSASize 2048\nIdentityFile {rsa}", True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.word}-{'in' if case.gets_in else 'out'}")
async def test_k3_a_word_about_keys_is_followed_as_ssh_does(
    sshd: SshdNode, beside: BesideSsh, case: Case, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AD_KEYS", keys["folder"])
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    beside.write(sshd, case.lines.format(**keys), key=False)
    if "%C" in case.lines:
        said = beside.answer("box", f"ControlPath={keys['folder']}/%C")
        shutil.copy(keys["key"], said["controlpath"])
    rule = HostKeys.strict(sshd.known_hosts)
    assert (beside.ssh("box", "echo in", *knows(sshd)).stdout == "in\n") is case.gets_in
    error = await beside.refusal(rule)
    assert (error is None) is case.gets_in, error
    assert error is None or isinstance(error, AuthError | ConnectError)


async def test_k3_a_token_that_ssh_does_not_know_is_named(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd, "IdentityFile /keys/%n\nIdentityFile /keys/%z", key=False)
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert isinstance(error, ConnectError)
    assert error.reason == "config"
    assert "IdentityFile /keys/%z" in error.message
    assert "%z" in error.evidence


async def test_k3_a_variable_that_is_not_set_is_named(sshd: SshdNode, beside: BesideSsh) -> None:
    beside.write(sshd, "CertificateFile ${AD_NO_SUCH_VARIABLE}/cert.pub")
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert isinstance(error, ConnectError)
    assert "AD_NO_SUCH_VARIABLE" in f"{error.message} {error.evidence}"


async def test_k3_a_key_that_is_not_there_is_named_when_the_login_fails(
    sshd: SshdNode, beside: BesideSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    beside.write(sshd, "IdentityFile /keys/of-%n", key=False)
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert isinstance(error, AuthError)
    assert "/keys/of-box" in error.message


@pytest.mark.parametrize(
    "lines", ["PubkeyAuthentication no", "PreferredAuthentications hostbased,password", "PKCS11Provider /lib/card.so"]
)
async def test_k3_a_word_that_keeps_keys_back_is_named_when_the_login_fails(
    sshd: SshdNode, beside: BesideSsh, lines: str, tmp_path: Path
) -> None:
    beside.write(sshd, f"{lines}\nIdentityFile {make_key(tmp_path / 'stranger')}", key=False)
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert isinstance(error, AuthError)
    assert lines in error.message


# -- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture
def certified(start_sshd: StartSshd, tmp_path: Path) -> SshdNode:
    """A node that lets in whom an authority has certified, and no key by itself."""
    make_key(tmp_path / "ca")
    return start_sshd(
        "certified",
        config={"TrustedUserCAKeys": tmp_path / "ca.pub", "AuthorizedKeysFile": "none"},
    )


def certify(key: Path, user: str, to: Path) -> Path:
    """Let the authority beside it certify a key for a user, and put the certificate where it is wanted."""
    words = ["ssh-keygen", "-q", "-s", str(key.parent / "ca"), "-I", "me", "-n", user, "-V", "+1h", f"{key}.pub"]
    subprocess.run(words, check=True)
    return Path(shutil.move(key.with_name(f"{key.name}-cert.pub"), to))


@pytest.mark.parametrize("place", ["{folder}/mine-cert.pub", "${{AD_CERTS}}/%n.pub", "{folder}/elsewhere %r.pub"])
async def test_k2_a_certificate_file_is_offered_with_its_key(
    certified: SshdNode, beside: BesideSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    key, user = make_key(tmp_path / "mine"), certified.account.name
    monkeypatch.setenv("AD_CERTS", str(tmp_path))
    written = place.format(folder=tmp_path)
    path = written.replace("${AD_CERTS}", str(tmp_path)).replace("%n", "box").replace("%r", user)
    beside.write(certified, f'IdentityFile {key}\nIdentitiesOnly yes\nCertificateFile "{written}"', key=False)
    rule = HostKeys.strict(certified.known_hosts)
    assert isinstance(await beside.refusal(rule), AuthError), "the key alone does not do"
    certify(key, user, Path(path))
    assert beside.ssh("box", "echo in", *knows(certified)).stdout == "in\n"
    assert await beside.refusal(rule) is None
    node = Node("box", key_path=str(key))
    assert await beside.refusal(rule, node) is None, "also with the key that the node names"


async def test_k2_a_certificate_beside_its_key_is_offered_unless_another_is_named(
    certified: SshdNode, beside: BesideSsh, tmp_path: Path
) -> None:
    key, user = make_key(tmp_path / "mine"), certified.account.name
    certify(key, user, tmp_path / "mine-cert.pub")
    beside.write(certified, f"IdentityFile {key}\nIdentitiesOnly yes", key=False)
    rule = HostKeys.strict(certified.known_hosts)
    assert beside.ssh("box", "echo in", *knows(certified)).stdout == "in\n"
    assert await beside.refusal(rule) is None
    beside.write(certified, f"IdentityFile {key}\nIdentitiesOnly yes\nCertificateFile {tmp_path}/none", key=False)
    assert beside.ssh("box", "echo in", *knows(certified)).returncode == 255
    error = await beside.refusal(rule)
    assert isinstance(error, AuthError)
    assert f"{tmp_path}/none: no certificate" in error.message


async def test_k2_a_certificate_for_a_key_that_an_agent_holds(
    certified: SshdNode, beside: BesideSsh, tmp_path: Path, agent: str
) -> None:
    key, user = make_key(tmp_path / "mine"), certified.account.name
    certificate = certify(key, user, tmp_path / "cert.pub")
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    key.unlink()
    rule = HostKeys.strict(certified.known_hosts)
    for lines in (f"IdentityFile {key}\nIdentitiesOnly yes", f"IdentityFile none\nIdentityAgent {agent}"):
        beside.write(certified, f"{lines}\nCertificateFile {certificate}", key=False)
        assert beside.ssh("box", "echo in", *knows(certified)).stdout == "in\n"
        assert await beside.refusal(rule) is None
    shutil.copy(certificate, f"{key}-cert.pub")
    beside.write(certified, f"IdentityFile {key}\nIdentitiesOnly yes", key=False)
    assert beside.ssh("box", "echo in", *knows(certified)).stdout == "in\n"
    assert await beside.refusal(rule) is None


# -- agents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line,gets_in",
    [
        ("IdentityAgent {agent}", True),
        ("IdentityAgent $AD_AGENT", True),
        ("IdentityAgent ${{AD_FOLDER}}/agent", True),
        ("IdentityAgent {folder}/%n-%u", True),
        ("IdentityAgent SSH_AUTH_SOCK", True),
        ("", True),
        ("IdentityAgent none", False),
        ("IdentityAgent $AD_NO_SUCH_VARIABLE", False),
        ("IdentityAgent {folder}/absent", False),
    ],
)
async def test_k3_the_agent_that_ssh_config_names_is_asked(
    sshd: SshdNode, beside: BesideSsh, agent: str, monkeypatch: pytest.MonkeyPatch, line: str, gets_in: bool
) -> None:
    folder = Path(agent).parent
    subprocess.run(["ssh-add", "-q", str(sshd.node.key_path)], check=True)
    monkeypatch.setenv("AD_AGENT", agent)
    monkeypatch.setenv("AD_FOLDER", str(folder))
    if "SOCK" not in line and line:
        monkeypatch.delenv("SSH_AUTH_SOCK")
    (folder / f"box-{pwd.getpwuid(os.getuid()).pw_name}").symlink_to(agent)
    beside.write(sshd, f"IdentityFile none\n{line.format(agent=agent, folder=folder)}", key=False)
    assert (beside.ssh("box", "echo in", *knows(sshd)).stdout == "in\n") is gets_in
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert (error is None) is gets_in, error


async def test_k3_an_agent_that_was_left_out_is_told_when_the_login_fails(
    sshd: SshdNode, beside: BesideSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncdeploy.connect.ssh.keys.AGENT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "hung"))
        hung.listen()
        beside.write(sshd, f"IdentityFile none\nIdentityAgent {tmp_path}/hung", key=False)
        error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert isinstance(error, AuthError)
    assert f"ssh-agent at {tmp_path}/hung left out: no answer" in error.message
    assert any("left out" in note for note in beside.notes)


async def test_k3_the_note_on_an_agent_is_told_also_where_nothing_can_be_offered(
    sshd: SshdNode, beside: BesideSsh, tmp_path: Path
) -> None:
    locked = make_key(tmp_path / "locked", "secret")
    beside.write(sshd, f"IdentityAgent {tmp_path}/absent")
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts), Node("box", key_path=str(locked)))
    assert isinstance(error, AuthError)
    assert "left out" in error.message
    assert any("left out" in note for note in beside.notes)


@pytest.mark.parametrize("only,gets_in", [("yes", False), ("no", True)])
async def test_k3_identities_only_keeps_the_agents_other_keys_back(
    sshd: SshdNode, beside: BesideSsh, agent: str, tmp_path: Path, only: str, gets_in: bool
) -> None:
    subprocess.run(["ssh-add", "-q", str(sshd.node.key_path)], check=True)
    stranger = make_key(tmp_path / "stranger")
    beside.write(sshd, f"IdentitiesOnly {only}\nIdentityFile {stranger}\nIdentityAgent {agent}", key=False)
    assert (beside.ssh("box", "echo in", *knows(sshd)).stdout == "in\n") is gets_in
    error = await beside.refusal(HostKeys.strict(sshd.known_hosts))
    assert (error is None) is gets_in


async def test_k3_a_key_of_which_only_the_public_half_lies_here_is_the_agents(
    sshd: SshdNode, beside: BesideSsh, agent: str, tmp_path: Path
) -> None:
    subprocess.run(["ssh-add", "-q", str(sshd.node.key_path)], check=True)
    shutil.copy(f"{sshd.node.key_path}.pub", tmp_path / "mine.pub")
    beside.write(sshd, f"IdentitiesOnly yes\nIdentityFile {tmp_path}/mine\nIdentityAgent {agent}", key=False)
    assert beside.ssh("box", "echo in", *knows(sshd)).stdout == "in\n"
    assert await beside.refusal(HostKeys.strict(sshd.known_hosts)) is None


# -- what the tests share --------------------------------------------------------------------------------------------


def knows(sshd: SshdNode) -> list[str]:
    """Let OpenSSH's client know the node's keys."""
    return [f"UserKnownHostsFile={sshd.known_hosts}", "StrictHostKeyChecking=yes"]


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """Make a key."""
    need("ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


@pytest.fixture
def sshd(start_sshd: StartSshd) -> SshdNode:
    """A node that the bed's key opens."""
    return start_sshd("machine")


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RSA key, which takes a second to make."""
    return make_key(tmp_path_factory.mktemp("rsa") / "rsa", kind="rsa")


@pytest.fixture
def keys(sshd: SshdNode, rsa: Path, tmp_path: Path) -> dict[str, str]:
    """Where keys lie that the node lets in, by what they are called in `Case`; copies under names of all tokens."""
    folder = tmp_path / "keys"
    folder.mkdir()
    user, host, node = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname(), sshd.node
    names = [f"{node.host}-{node.port}-{node.user}", f"box-{user}-{os.getuid()}", "100%", "a key of box", "key"]
    names.append(f"box-{host.partition('.')[0]}-{host}")
    for name in names:
        shutil.copy(str(node.key_path), folder / name)
    with (sshd.folder.parent / "authorized_keys").open("a") as stream:
        stream.write(Path(f"{rsa}.pub").read_text())
    home = pwd.getpwuid(os.getuid()).pw_dir
    up = "/".join([".."] * len([part for part in home.split("/") if part]))
    return {"key": str(node.key_path), "rsa": str(rsa), "folder": str(folder), "user": str(node.user), "up": up}


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real ssh-agent, which SSH_AUTH_SOCK names: its socket."""
    need("ssh-agent", "ssh-add")
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as running:
        while not _listens(path):  # its name is there before it listens
            assert running.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        yield path
        running.terminate()
