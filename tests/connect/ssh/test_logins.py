"""Logging in: what a server may say meanwhile, accounts that need no key or more than one, why nobody gets in."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import attrs
import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import AuthError, ConnectError
from tests.support.beds.openssh import run_ssh
from tests.support.beds.pools import run_line
from tests.support.beds.sshd_node import Account, SshdNode
from tests.support.tools import need, need_root

StartSshd = Callable[..., SshdNode]
USER = Account("adlogin", 61_999)
PASSES = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"


@asynccontextmanager
async def keyless(rule: HostKeys, folder: Path) -> AsyncIterator[Pool]:
    """A pool whose ssh_config names no key files: an agent's keys are all it has, if there is an agent."""
    config = folder / "ssh_config"
    config.write_text("IdentityFile none\n")
    limits = Limits(connect_timeout_s=1, connect_deadline_s=3)
    connector = AsyncsshConnector(rule, config_path=config, connect_timeout_s=limits.connect_timeout_s)
    try:
        async with Pool(connector=connector, limits=limits) as pool:
            yield pool
    finally:
        await connector.close()


@asynccontextmanager
async def trusting(sshd: SshdNode, node: Node | None) -> AsyncIterator[Pool]:
    rule = HostKeys.strict(sshd.known_hosts)
    async with Pool(host_keys=rule) if node is None or node.key_path else keyless(rule, sshd.folder) as pool:
        yield pool


async def gets_in(sshd: SshdNode, node: Node | None = None) -> bool:
    async with trusting(sshd, node) as pool:
        return (await run_line(pool, node or sshd.node, "echo in"))[0] == b"in\n"


async def refusal(sshd: SshdNode, node: Node | None = None) -> AuthError:
    async with trusting(sshd, node) as pool:
        with pytest.raises(AuthError) as caught:
            await pool.at(node or sshd.node).open("true")
    return caught.value


def where(sshd: SshdNode) -> str:
    return f"{sshd.node.host} port {sshd.node.port}"


# -- K7: what a server may say ------------------------------------------------------------------------------------

BANNERS = {
    "latin-1": "Zutritt nur für Befugte: Müller\n".encode("latin-1"),
    "utf-16": "\ufeffOnly for us\n".encode("utf-16"),
    "escapes": b"\x1b[2J\x1b]0;owned\x07\x9b31m\x00\n",
    "long": b"the law says much\n" * 10_000,
}


@pytest.mark.parametrize("kind", BANNERS)
async def test_k7_a_banner_is_no_reason_to_stay_outside(kind: str, start_sshd: StartSshd, tmp_path: Path) -> None:
    (tmp_path / "banner").write_bytes(BANNERS[kind])
    sshd = start_sshd("banner", config={"Banner": tmp_path / "banner"})
    assert run_ssh(sshd, "echo in").stdout == "in\n"
    assert await gets_in(sshd)


async def test_k7_a_banner_is_evidence_where_nobody_gets_in_cut_and_cleaned(
    start_sshd: StartSshd, tmp_path: Path, key_path: str
) -> None:
    (tmp_path / "banner").write_bytes(b"law\n" * 50 + "visit \x1b[31mhttps://login.example/\xfc\n".encode("latin-1"))
    sshd = start_sshd("banner", config={"Banner": tmp_path / "banner"})
    error = await refusal(sshd, attrs.evolve(sshd.node, key_path=key_path))
    assert error.evidence == "law\nlaw\nlaw\nlaw\nvisit https://login.example/\N{REPLACEMENT CHARACTER}"


# -- K9: accounts that need no key -------------------------------------------------------------------------------


@pytest.fixture
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have one."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.mark.usefixtures("no_agent")
async def test_k9_an_account_without_a_password_needs_no_key(start_sshd: StartSshd) -> None:
    need_root()
    config = {"PermitEmptyPasswords": "yes", "PasswordAuthentication": "yes", "PubkeyAuthentication": "no"}
    sshd = start_sshd("open", account=attrs.evolve(USER, password=""), config=config)
    assert await gets_in(sshd, attrs.evolve(sshd.node, key_path=None))


class Open(asyncssh.SSHServer):
    """Lets everybody in who asks for nothing, as Tailscale's sshd does."""

    def begin_auth(self, username: str) -> bool:
        return False


class Asking(asyncssh.SSHServer):
    """Takes keyboard-interactive alone, and asks what the test wants."""

    prompts: tuple[tuple[str, bool], ...] = ()

    def public_key_auth_supported(self) -> bool:
        return False

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "Hello", "", list(self.prompts)

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return not self.prompts


class Code(Asking):
    """Asks for a code."""

    prompts = (("Verification code: ", False),)


class Deaf(asyncssh.SSHServer):
    """Lets nobody in before a person has looked at a page, and says where that is."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._gone = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()

    async def begin_auth(self, username: str) -> bool:
        self._conn.send_auth_banner("# To authenticate, visit: https://login.example/a1b2\n")
        await self._gone.wait()
        return True


@asynccontextmanager
async def server(factory: Callable[[], asyncssh.SSHServer], **options: Any) -> AsyncIterator[Node]:
    """An SSH server in this process that runs nothing but says "in"."""

    def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("in\n")
        process.exit(0)

    key = asyncssh.generate_private_key("ssh-ed25519")
    async with await asyncssh.listen(
        "127.0.0.1", 0, server_factory=factory, server_host_keys=[key], process_factory=answer, config=None, **options
    ) as acceptor:
        yield Node("127.0.0.1", user="root", port=acceptor.get_port(), name="inner")


def accepting(tmp_path: Path) -> AbstractAsyncContextManager[Pool]:
    return keyless(HostKeys.accept_new(tmp_path / "known"), tmp_path)


@pytest.mark.usefixtures("no_agent")
@pytest.mark.parametrize("factory", [Open, Asking])
async def test_k9_who_asks_for_nothing_is_asked_without_a_key(factory: Any, tmp_path: Path) -> None:
    async with server(factory) as node, accepting(tmp_path) as pool:
        assert (await run_line(pool, node, "anything"))[0] == b"in\n"


@pytest.mark.usefixtures("no_agent")
async def test_k9_no_key_where_one_is_needed_says_so(start_sshd: StartSshd) -> None:
    sshd = start_sshd("closed")
    error = await refusal(sshd, attrs.evolve(sshd.node, key_path=None))
    assert error.describe() == (
        f"closed: login as 'root' at {where(sshd)} was refused; no private key was found to log in with; "
        "it would take publickey\n"
        "hint: give the node a key_path, or start an ssh-agent"
    )


# -- K10: more than a key, of which nothing is asked -------------------------------------------------------------


async def test_k10_keyboard_interactive_that_asks_nothing_is_answered(start_sshd: StartSshd) -> None:
    need_root()
    config = {
        "UsePAM": "yes",
        "KbdInteractiveAuthentication": "yes",
        "AuthenticationMethods": "publickey,keyboard-interactive",
    }
    sshd = start_sshd("pam", account=USER, config=config, files={"/etc/pam.d/sshd": PASSES})
    assert await gets_in(sshd)


async def test_k10_a_key_is_wanted_behind_something_else(start_sshd: StartSshd) -> None:
    """The first key is signed unasked, refused because it is not its turn, and wanted then."""
    need_root()
    config = {
        "UsePAM": "yes",
        "KbdInteractiveAuthentication": "yes",
        "AuthenticationMethods": "keyboard-interactive,publickey",
    }
    sshd = start_sshd("pam", account=USER, config=config, files={"/etc/pam.d/sshd": PASSES})
    assert await gets_in(sshd)


async def test_k10_two_keys_that_are_both_wanted(
    start_sshd: StartSshd, make_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch, agent: "Agent"
) -> None:
    second = make_key("second")
    sshd = start_sshd("two", config={"AuthenticationMethods": "publickey,publickey"})
    keys = f"{sshd.node.key_path.with_suffix('.pub').read_text()}{Path(f'{second}.pub').read_text()}"  # type: ignore[union-attr]
    (sshd.folder.parent / "authorized_keys").write_text(keys)
    agent.add(str(sshd.node.key_path), second)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    assert await gets_in(sshd, attrs.evolve(sshd.node, key_path=None))


# -- K11: why nobody is let in -----------------------------------------------------------------------------------


@attrs.frozen
class Agent:
    """An ssh-agent of the test's own."""

    socket: Path

    def add(self, *keys: str, words: tuple[str, ...] = ()) -> None:
        self.run(*words, *keys)

    def run(self, *words: str, stdin: str = "") -> None:
        env = {**os.environ, "SSH_AUTH_SOCK": str(self.socket), "SSH_ASKPASS_REQUIRE": "never"}
        subprocess.run(["ssh-add", *words], env=env, input=stdin, check=True, capture_output=True, text=True)


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    need("ssh-agent", "ssh-add")
    socket = tmp_path_factory.mktemp("agent") / "s"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
            os.sched_yield()
        yield Agent(socket)
    finally:
        process.terminate()
        process.wait()


async def test_k11_a_second_factor_is_named(start_sshd: StartSshd) -> None:
    config = {"PasswordAuthentication": "yes", "AuthenticationMethods": "publickey,password"}
    sshd = start_sshd("two", config=config)
    error = await refusal(sshd)
    assert error.describe() == (
        f"two: login as 'root' at {where(sshd)} was refused; tried {sshd.node.key_path} (accepted); "
        "password is still wanted\n"
        "hint: we log in by keys alone: let sshd ask this user or address for no more (Match, AuthenticationMethods)"
    )


async def test_k11_a_code_that_is_asked_for_is_named(tmp_path: Path, key_path: str) -> None:
    async with server(Code) as node, accepting(tmp_path) as pool:
        with pytest.raises(AuthError) as caught:
            await pool.at(attrs.evolve(node, key_path=key_path)).open("true")
    assert caught.value.describe() == (
        f"inner: login as 'root' at 127.0.0.1 port {node.port} was refused; not tried: {key_path}; "
        "it would take keyboard-interactive; it asks 'Verification code:'\n"
        "  | Hello\n"
        "hint: we log in by keys alone: let sshd ask this user or address for no more (Match, AuthenticationMethods)"
    )


async def test_k11_a_person_is_waited_for(tmp_path: Path, key_path: str) -> None:
    async with server(Deaf) as node, accepting(tmp_path) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(attrs.evolve(node, key_path=key_path)).open("true")
    assert caught.value.message == f"127.0.0.1 port {node.port} did not answer the login as 'root' in time"
    assert caught.value.evidence == "# To authenticate, visit: https://login.example/a1b2"


async def test_k11_an_agent_that_does_not_sign_is_named(
    start_sshd: StartSshd, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that wants to be confirmed by a person, of whom there is none."""
    sshd = start_sshd("agent")
    agent.add(str(sshd.node.key_path), words=("-c",))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    error = await refusal(sshd, attrs.evolve(sshd.node, key_path=None))
    assert error.describe() == (
        f"agent: login as 'root' at {where(sshd)} was refused; tried agent: bed (accepted there, but not signed here: "
        "Unable to sign with requested key); it would take publickey\n"
        "hint: look at the ssh-agent (`ssh-add -l`): is it locked, must a person confirm? or give the node a key_path"
    )


LISTED = "is the public key in ~root/.ssh/authorized_keys there, and may root log in from here (PermitRootLogin)?"
REFUSING = {
    "not among those allowed": ("AllowUsers", "somebody", "", LISTED),
    "from this address": ("DenyUsers", "root@127.0.0.1", "", LISTED),
    "root": ("PermitRootLogin", "no", "", LISTED),  # the hint names it: signed at once, a key is not said to be known
}


@pytest.mark.parametrize("kind", REFUSING)
async def test_k11_a_key_that_is_refused_says_what_may_be_the_cause(kind: str, start_sshd: StartSshd) -> None:
    need_root()
    keyword, value, told, hint = REFUSING[kind]
    sshd = start_sshd("strict", config={keyword: value})
    assert (await refusal(sshd)).describe() == (
        f"strict: login as 'root' at {where(sshd)} was refused; tried {sshd.node.key_path}{told}; "
        f"it would take publickey\nhint: {hint}"
    )


async def test_k11_an_account_that_is_shut_says_that_its_key_was_right(start_sshd: StartSshd) -> None:
    need_root()
    shut = PASSES.replace("account required pam_permit.so", "account required pam_deny.so")
    sshd = start_sshd("shut", account=USER, config={"UsePAM": "yes"}, files={"/etc/pam.d/sshd": shut})
    error = await refusal(sshd)
    assert error.describe() == (
        f"shut: login as 'adlogin' at {where(sshd)} was refused; tried {sshd.node.key_path} "
        "(known there, but not enough)\n"
        "hint: may adlogin log in at all (expired, locked, no logins while it boots)? sshd's log there says why"
    )


async def test_k11_too_many_keys_are_named(
    start_sshd: StartSshd, agent: Agent, make_key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [make_key(f"key{number}") for number in range(4)]
    sshd = start_sshd("few", config={"MaxAuthTries": 2})
    agent.add(*keys, str(sshd.node.key_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    error = await refusal(sshd, attrs.evolve(sshd.node, key_path=None))
    assert error.message.startswith(f"login as 'root' at {where(sshd)} was refused; tried agent: ")
    assert error.message.endswith("; it said 'Too many authentication failures'")
    assert "; not tried: agent: " in error.message
    assert error.hint == "sshd stops after a few keys: give the node a key_path, or set IdentitiesOnly in ssh_config"


@pytest.mark.parametrize("most", [1, 2])
async def test_one_key_that_is_refused_is_not_too_many(start_sshd: StartSshd, key_path: str, most: int) -> None:
    """Nothing is tried behind it that would make it too many; a goodbye at once does not make it known there."""
    sshd = start_sshd("strict", config={"MaxAuthTries": most})
    error = await refusal(sshd, attrs.evolve(sshd.node, key_path=key_path))
    assert f"tried {key_path};" in error.message
    assert "known there" not in error.message
    assert error.hint.startswith("is the public key in ~root/.ssh/authorized_keys there")


async def test_a_server_that_goes_away_before_the_login_has_refused_nobody(tmp_path: Path, key_path: str) -> None:
    """It may be booting, or have too much to do: it is asked again."""

    class Gone(asyncssh.SSHServerConnection):
        def process_packet(self, pkttype: int, pktid: int, packet: Any) -> Any:
            if pkttype == 5:  # SSH_MSG_SERVICE_REQUEST
                self.abort()
                return True
            return super().process_packet(pkttype, pktid, packet)

    host_key, loop = asyncssh.generate_private_key("ssh-ed25519"), asyncio.get_running_loop()
    options = asyncssh.SSHServerConnectionOptions(server_host_keys=[host_key], server_factory=asyncssh.SSHServer)
    async with await loop.create_server(lambda: Gone(loop, options), "127.0.0.1", 0) as server:
        node = Node("127.0.0.1", port=server.sockets[0].getsockname()[1], name="gone", user="root", key_path=key_path)
        limits = Limits(connect_timeout_s=2, connect_deadline_s=3)
        async with Pool(host_keys=HostKeys.pinned({"gone": host_key.get_fingerprint()}), limits=limits) as pool:
            with pytest.raises((ConnectError, AuthError)) as caught:
                await pool.at(node).open("true")
    assert isinstance(caught.value, ConnectError)
