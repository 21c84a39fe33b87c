"""What a server says before SSH begins: whatever listens there is named within 10 s, and nothing else is blamed."""

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.connect.pool import Limits, Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import ConnectError
from asyncdeploy.values.events import Event, Noted
from tests.support.beds.servers.speakers import Speak, babble, echo, flood, saying, speaker
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need


async def failure_of(node: Node, limits: Limits | None = None) -> tuple[ConnectError, list[Event]]:
    """Why a node cannot be connected to, and what was told meanwhile."""
    events: list[Event] = []
    async with Pool(host_keys=HostKeys.pinned({}), observer=events.append, limits=limits) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(node).open("true")
    return caught.value, events


HTTP = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>400</html>"
STRANGERS: dict[str, tuple[Speak, str]] = {
    "http": (saying(after=HTTP), "'HTTP/1.1 400 Bad Request  Server: nginx    <html>400</html>'"),
    "tls": (saying(after=b"\x15\x03\x03\x00\x02\x02\x46"), r"'\x15\x03\x03\x00\x02\x02F'"),
    "smtp": (saying(b"220 mail ESMTP ready\r\n", stay=True), "'220 mail ESMTP ready'"),
    "telnet": (saying(b"\xff\xfd\x18\xff\xfd\x20login: ", stay=True), r"'\xff\xfd\x18\xff\xfd login:'"),
    "vnc": (saying(b"RFB 003.008\n", stay=True), "'RFB 003.008'"),
    "escapes": (saying(b"\x1b[2J\x1b]0;mine\x07hello\r\n"), r"'\x1b[2J\x1b]0;mine\x07hello'"),
    "half a version": (saying(b"SSH-2.0-Half", stay=True), "'SSH-2.0-Half'"),
    "babble": (babble, "'la la la"),
    "flood": (flood, r"'\xff\x00\xff\x00"),
}


@pytest.mark.parametrize("kind", STRANGERS)
async def test_k8_what_is_no_sshd_is_named_by_what_it_said(kind: str, key_path: str) -> None:
    speak, said = STRANGERS[kind]
    async with asyncio.timeout(15), speaker(speak, key_path) as node:
        error, events = await failure_of(node)
    assert (error.reason, error.attempts) == ("protocol", 1)
    assert error.message.startswith(f"what listens at 127.0.0.1 port {node.port} does not speak SSH: it said {said}")
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert error.hint == "is an SSH server listening on this port?"
    assert not any(isinstance(event, Noted) for event in events), "it is not tried again"


async def test_k8_a_real_tls_server_is_no_sshd(tmp_path: Path, key_path: str) -> None:
    need("openssl")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", "/CN=x", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        node = Node("127.0.0.1", user="root", port=server.sockets[0].getsockname()[1], key_path=key_path)
        error, _ = await failure_of(node, Limits(connect_deadline_s=1))
    # Whether it says why in TLS's own bytes is OpenSSL's; without a word it may be an sshd that is too busy.
    assert error.reason in ("protocol", "throttled")
    assert "does not speak SSH: it said" in error.message or "closed the connection without a word" in error.message


async def test_k8_an_echo_is_no_sshd(key_path: str) -> None:
    async with speaker(echo, key_path) as node:
        error, _ = await failure_of(node)
    assert (error.reason, error.attempts) == ("protocol", 1)
    assert error.message == (
        f"what listens at 127.0.0.1 port {node.port} does not speak SSH: it says again what it is told"
    )


async def test_k8_one_that_closes_without_a_word_may_be_a_busy_sshd(key_path: str) -> None:
    async with speaker(saying(), key_path) as node:
        error, events = await failure_of(node, Limits(connect_deadline_s=1))
    assert error.reason == "throttled"
    assert error.attempts > 1
    assert error.message == f"127.0.0.1 port {node.port} closed the connection without a word"
    assert any(isinstance(event, Noted) and "tried again" in event.text for event in events)


async def test_k8_one_that_says_nothing_is_told_without_blaming_many_startups(key_path: str) -> None:
    async with speaker(saying(stay=True), key_path) as node:
        error, _ = await failure_of(node, Limits(connect_timeout_s=0.2, connect_deadline_s=0.5))
    assert error.reason == "timeout"
    assert error.message == (f"127.0.0.1 port {node.port} accepts connections but does not speak SSH: it said nothing")
    assert "MaxStartups" not in error.hint


@pytest.mark.parametrize(
    "said,meant",
    [
        (b"Exceeded MaxStartups\r\n", "sshd there has as many logins under way as it allows (MaxStartups)"),
        (b"Not allowed at this time\r\n", "sshd there shuts this address out for a while (PerSourcePenalties)"),
    ],
)
async def test_k8_what_sshd_says_before_it_closes_is_understood(said: bytes, meant: str, key_path: str) -> None:
    async with speaker(saying(said), key_path) as node:
        error, _ = await failure_of(node, Limits(connect_deadline_s=0.5))
    assert (error.reason, error.message) == ("throttled", f"127.0.0.1 port {node.port}: {meant}")


@pytest.mark.parametrize(
    "line,meant",
    [
        (b"SSH-2.0-Caf\xe9_1.0\r\n", r"speaks another SSH than ours: it said 'SSH-2.0-Caf\xe9_1.0'"),
        (b"SSH-2.0-\xff\r\n", r"speaks another SSH than ours: it said 'SSH-2.0-\xff'"),
        (b"SSH-1.5-Cisco-1.25\r\n", "speaks another SSH than ours: it said 'SSH-1.5-Cisco-1.25'"),
        (b"SSH-3.0-Future\r\n", "speaks another SSH than ours: it said 'SSH-3.0-Future'"),
    ],
)
async def test_k22_a_version_line_that_is_none_of_ours(line: bytes, meant: str, key_path: str) -> None:
    async with speaker(saying(line, stay=True), key_path) as node:
        error, _ = await failure_of(node)
    assert (error.reason, error.attempts) == ("protocol", 1)
    assert error.message == f"127.0.0.1 port {node.port} {meant}"


async def test_k7_lines_before_the_version_are_no_reason_to_stay_outside(
    start_sshd: Callable[..., SshdNode], key_path: str
) -> None:
    """RFC 4253 lets a server say something first; here a real sshd stands behind it."""
    sshd = start_sshd("behind")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Authorised use only.\r\nSSHh: \xe4\xf6\xfc \x1b[31m\r\n")
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", sshd.node.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.write_eof()

        try:
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            inner_writer.close()
            await inner_writer.wait_closed()

    node = sshd.node
    async with speaker(relay, node.key_path) as outer:
        async with Pool(host_keys=HostKeys.accept_new(Path(key_path).parent / "known")) as pool:
            channel = await pool.at(outer).open("echo in")
            assert await channel.read() == b"in\n"
            await channel.close()
