"""Nodes that pass a push's blocks on: what the client uploads, and every way in which a link can fail."""

import collections
import contextlib
import os
import random
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

import anyio
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.push import push_all
from asyncdeploy.node_side.push.relay_link import MAX_INBOX, Bell, Child, Parent
from asyncdeploy.push.bundle.blocks import BLOCK
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.push.relay.tls import make_identity
from asyncdeploy.remote.programs import needed, program_source
from asyncdeploy.values.errors import ConnectionLost, DeployError
from asyncdeploy.values.events import BytesMoved, Event, StageFinished
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import details
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote
from tests.support.waiting import eventually_sync

MIB = 1 << 20
SIZE = 12 * MIB
HERE = "127.0.0.1 1 127.0.0.1 22"

Make = Callable[..., Awaitable[ShellRemote]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "proj"
    root.mkdir()
    (root / "big").write_bytes(random.Random(3).randbytes(SIZE))
    for number in range(50):
        (root / f"small-{number}").write_text(f"{number}\n" * 100)
    return root


@pytest.fixture(autouse=True)
def programs_travel_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As to a node whose Python is of another version than ours: ``ChangedRemote`` changes their words."""
    monkeypatch.setattr("asyncdeploy.remote.interpreter.BYTECODE", "")


class ChangedRemote(ShellRemote):
    """A node that runs another program than the one it was sent: some words of it are replaced, as many bytes long."""

    changes: tuple[bytes, bytes] = (b"", b"")

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        old, new = self.changes
        assert len(old) == len(new)
        assert not old or any(old in program_source(part) for part in needed("push.receiver"))
        send = channel.send

        def send_changed(data: bytes) -> None:
            if data[:1] == b"P" and old in data:
                data = data.replace(old, new)
            send(data)

        channel.send = send_changed
        return channel


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Make a node that is a folder and knows its address, as one reached by sshd does."""
    async with AsyncExitStack() as stack:

        async def make(name: str, old: bytes = b"", new: bytes = b"", address: str = HERE) -> ShellRemote:
            remote = await stack.enter_async_context(ChangedRemote(tmp_path / name, name=name))
            remote.changes = (old, new)
            remote.env["SSH_CONNECTION"] = address
            return remote

        yield make


async def push(remotes: Sequence[ShellRemote], source: Path, mode: str = "on") -> dict[str, DeployError]:
    """Push to all at once and return the failures."""
    failures = {}

    async def one(remote: ShellRemote) -> None:
        try:
            await push_code(remote, crew)
        except DeployError as error:
            failures[remote.node.name] = error

    async with pack_workspace(source) as bundle:
        crew = Crew(bundle, mode, [remote.node.name for remote in remotes], 32)
        async with anyio.create_task_group() as group:
            for remote in remotes:
                group.start_soon(one, remote)
    return failures


def check(remotes: Sequence[ShellRemote], source: Path) -> None:
    """Check that every node holds exactly the tree."""
    for remote in remotes:
        site = remote.home / "proj"
        found = {path.name: path.read_bytes() for path in site.iterdir() if path.name != ".asyncdeploy"}
        assert found == {path.name: path.read_bytes() for path in source.iterdir()}, remote.node.name
        assert list((site / ".asyncdeploy" / "staging").iterdir()) == []


# --- what the client uploads


async def test_nothing_is_sent_before_the_last_link_is_made(make: Make, source: Path) -> None:
    """Those behind a node that is slow to listen would miss what went by meanwhile."""
    old = b'family = socket.AF_INET6 if ":" in address else socket.AF_INET'
    new = b"family = time.sleep(1) or socket.AF_INET".ljust(len(old))
    remotes = [await make("node-0"), await make("node-1"), await make("node-2", old, new)]
    assert await push(remotes, source) == {}
    check(remotes, source)
    for remote in remotes[1:]:
        assert details(remote.events)[-1] == "51 files, 0 B, by other nodes"


async def test_the_client_uploads_once(make: Make, source: Path) -> None:
    remotes = [await make(f"node-{number}") for number in range(5)]
    assert await push(remotes, source) == {}
    check(remotes, source)
    assert "by other nodes" not in details(remotes[0].events)[-1]
    for remote in remotes[1:]:
        assert details(remote.events)[-1] == "51 files, 0 B, by other nodes"
        moved = [event for event in remote.events if isinstance(event, BytesMoved)]
        assert [event.done for event in moved] == sorted(event.done for event in moved)
        assert moved[-1].done <= moved[-1].total == SIZE + sum(len(f"{n}\n") * 100 for n in range(50))


async def test_no_look_at_all_blocks_is_taken_on_the_loop(make: Make, source: Path) -> None:
    """Of 200 GB there are 400,000: to hash them, to find out which nodes need the same, took 1.5 s of the loop."""
    remotes = [await make(f"node-{number}") for number in range(3)]
    calls = collections.Counter[str]()

    def note(frame: FrameType, what: str, _: object) -> None:
        if what == "call" and "push/bundle/blocks" in frame.f_code.co_filename:
            calls[frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(note)  # of this thread, which is the loop's
    try:
        assert await push(remotes, source) == {}
    finally:
        sys.setprofile(before)
    check(remotes, source)
    assert details(remotes[2].events)[-1] == "51 files, 0 B, by other nodes"
    assert calls["__getitem__"] <= 2 * (SIZE // BLOCK + 1), "each is sent once, and its digest told once"
    assert not calls.keys() & {"cut", "fingerprint", "__iter__"}


async def test_off_and_too_little_mean_directly(make: Make, source: Path) -> None:
    remotes = [await make(f"node-{number}") for number in range(3)]
    assert await push(remotes, source, "off") == {}
    assert all("12.6 MB" in details(remote.events)[-1] for remote in remotes)
    (source / "small-1").write_text("changed")
    assert await push(remotes, source, "auto") == {}
    assert all(details(remote.events)[-1] == "1 files, 8 B" for remote in remotes)
    check(remotes, source)


async def test_auto_relays_what_our_line_would_take_long_for(
    make: Make, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remotes = [await make(f"node-{number}") for number in range(4)]
    monkeypatch.setattr("asyncdeploy.push.relay.trial.WORTH_S", 60.0)
    assert await push(remotes[:3], source, "auto") == {}
    assert ["by other nodes" in details(remote.events)[-1] for remote in remotes[:3]] == [False] * 3
    for number in range(4):
        (source / f"new-{number}").write_bytes(os.urandom(8 * MIB))
    monkeypatch.setattr("asyncdeploy.push.relay.trial.WORTH_S", 0.0)
    monkeypatch.setattr("asyncdeploy.push.relay.trial.TRIAL_S", 0.01)
    monkeypatch.setattr("asyncdeploy.push.relay.trial.TRIAL_NODES", 2)
    assert await push(remotes, source, "auto") == {}
    check(remotes, source)
    # Of the three that lack the same blocks those two who had tried our uplink have more of it, and come last in the
    # chain; which two is the machine's to say. node-3 lacks what the others had.
    relayed = ["by other nodes" in details(remote.events)[-1] for remote in remotes]
    assert (sum(relayed[:3]), relayed[3]) == (2, False)


async def test_nodes_that_need_the_same_help_each_other(make: Make, source: Path) -> None:
    remotes = [await make(f"node-{number}") for number in range(4)]
    assert await push(remotes[1::2], source, "off") == {}
    with (source / "big").open("r+b") as file:
        file.write(os.urandom(MIB))
    assert await push(remotes, source) == {}
    check(remotes, source)
    assert [("by other nodes" in details(remote.events)[-1]) for remote in remotes] == [False, False, True, True]
    assert await push(remotes, source) == {}
    assert {details(remote.events)[-1] for remote in remotes} == {"= unchanged"}


async def test_nodes_that_share_a_disk_are_pushed_to_once(make: Make, source: Path, tmp_path: Path) -> None:
    remotes = [await make(f"node-{number}") for number in range(4)]
    for remote in remotes:
        remote.env["HOME"] = str(tmp_path / "node-0")
    assert await push(remotes, source) == {}
    check(remotes[:1], source)
    ends = [details(remote.events)[-1] for remote in remotes]
    assert ends.count("51 files, 12.6 MB") == 1
    late = "= unchanged"  # one whose shell came up when all was done
    assert {"= pushed through another node, which shares its disk", late} >= set(ends) - {"51 files, 12.6 MB"}


# --- G9: what goes wrong on the way


async def test_g9_a_node_that_cannot_listen_is_sent_all(make: Make, source: Path) -> None:
    """No such address here (a NAT): it is fed directly, and passes on to the next one all the same."""
    remotes = [await make("node-0"), await make("node-1", address="1 1 192.0.2.7 1"), await make("node-2")]
    assert await push(remotes, source) == {}
    check(remotes, source)
    assert "directly: " in details(remotes[1].events)[-1]
    assert "by other nodes" in details(remotes[2].events)[-1]


async def test_g9_a_node_without_ssl_is_sent_all(make: Make, source: Path) -> None:
    old, new = b"    import ssl\n\n    context", b"    import sxl\n\n    context"
    remotes = [await make("node-0"), await make("node-1", old, new), await make("node-2")]
    assert await push(remotes, source) == {}
    check(remotes, source)
    assert "directly: No module named 'sxl'" in details(remotes[1].events)[-1]


async def test_g9_a_relay_that_lies_is_found_by_the_next(make: Make, source: Path) -> None:
    old, new = b"child.put(self.next, bytes(block))", b"child.put(self.next, b'x'*(12)*34)"
    remotes = [await make("node-0"), await make("node-1", old, new), await make("node-2"), await make("node-3")]
    assert await push(remotes, source) == {}
    check(remotes, source)
    assert "directly: the node before this one sent a block that is not the client's" in details(remotes[2].events)[-1]
    assert "by other nodes" in details(remotes[3].events)[-1]


async def test_g9_a_relay_that_stalls_is_passed_over(make: Make, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen midway, and thawed only when the one behind it is done."""
    monkeypatch.setattr("asyncdeploy.push.relay.chain.STALL_S", 0.3)
    monkeypatch.setattr("asyncdeploy.push.relay.chain.LOOK_S", 0.05)
    remotes = [await make(f"node-{number}") for number in range(3)]

    def freeze(event: Event) -> None:
        remotes[1].events.append(event)
        if isinstance(event, BytesMoved) and event.done > 4 * MIB:
            remotes[1].emit = remotes[1].events.append
            remotes[1].channels[0].process.send_signal(signal.SIGSTOP)

    def thaw(event: Event) -> None:
        remotes[2].events.append(event)
        if isinstance(event, StageFinished):
            remotes[1].channels[0].process.send_signal(signal.SIGCONT)

    remotes[1].emit, remotes[2].emit = freeze, thaw
    assert await push(remotes, source) == {}
    check(remotes, source)
    assert "directly: nothing came from node-1 for 0." in details(remotes[2].events)[-1]


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_g9_a_relay_that_dies_costs_only_itself(make: Make, source: Path, victim: int) -> None:
    remotes = [await make(f"node-{number}") for number in range(4)]

    def emit(event: Event, remote: ShellRemote = remotes[victim]) -> None:
        remote.events.append(event)
        if isinstance(event, BytesMoved) and event.done > 4 * MIB and remote.channels[0].process.returncode is None:
            remote.channels[0].process.kill()

    remotes[victim].emit = emit
    failures = await push(remotes, source)
    assert list(failures) == [f"node-{victim}"]
    assert isinstance(failures[f"node-{victim}"], ConnectionLost)
    check([remote for remote in remotes if remote is not remotes[victim]], source)


async def test_a_cancelled_push_of_one_costs_the_others_nothing(make: Make, source: Path) -> None:
    remotes = [await make(f"node-{number}") for number in range(4)]
    async with pack_workspace(source) as bundle:
        crew = Crew(bundle, "on", [remote.node.name for remote in remotes], 32)
        scope = anyio.CancelScope()

        async def doomed() -> None:
            with scope:
                await push_code(remotes[1], crew)

        def emit(event: Event) -> None:
            if isinstance(event, BytesMoved):
                scope.cancel()

        remotes[1].emit = emit
        async with anyio.create_task_group() as group:
            group.start_soon(doomed)
            for remote in (remotes[0], *remotes[2:]):
                group.start_soon(push_code, remote, crew)
    assert scope.cancelled_caught
    check([remotes[0], *remotes[2:]], source)


async def test_over_real_sshd(sshd_nodes: Sequence[SshdNode], source: Path) -> None:
    events: list[Event] = []
    nodes = [sshd.node for sshd in sshd_nodes]
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts), observer=events.append) as pool:
        report = await push_all(nodes, Workspace(source), relay="on", pool=pool)
    assert report.ok, report.failures
    finished = {
        event.node: event.detail for event in events if isinstance(event, StageFinished) and event.stage == "push"
    }
    assert [("by other nodes" in finished[node.name]) for node in nodes] == [False, True, True, True]
    for sshd in sshd_nodes:
        assert (sshd.home / "proj" / "big").read_bytes() == (source / "big").read_bytes()
    with pytest.raises(ValueError, match="relay: 'auto', 'on' or 'off' was expected, got 'yes'"):
        await push_all(nodes, Workspace(source), relay="yes")  # type: ignore[arg-type]


# --- who may use a link


def test_only_the_peer_of_this_run_gets_in() -> None:
    parent, child, stranger = make_identity("parent"), make_identity("child"), make_identity("parent")
    bell = Bell()
    link = Parent("127.0.0.1", child.pem, parent.certificate, bell)
    try:
        with socket.create_connection(("127.0.0.1", link.port)) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            plain.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert not plain.recv(100).startswith(b"HTTP")
        wrong = Child("child", "127.0.0.1", link.port, stranger.pem, child.certificate, bell)
        wrong.put(0, b"not from here")
        eventually_sync(lambda: wrong.ended)
        fooled = Child("child", "127.0.0.1", link.port, parent.pem, stranger.certificate, bell)
        eventually_sync(lambda: fooled.ended)
        assert not fooled.linked
        right = Child("child", "127.0.0.1", link.port, parent.pem, child.certificate, bell)
        right.put(0, b"block")
        right.finish()
        eventually_sync(lambda: link.inbox)
        assert link.take() == (0, b"block")
        eventually_sync(lambda: link.ended)
        assert link.take() is None
    finally:
        link.end("done")
        bell.close()


def test_a_link_that_is_given_up_leaves_no_thread_behind() -> None:
    """Not one that waits for room either, in an inbox from which nobody takes any more."""
    before = threading.active_count()
    parent, child, bell = make_identity("parent"), make_identity("child"), Bell()
    link = Parent("127.0.0.1", child.pem, parent.certificate, bell)
    sender = Child("child", "127.0.0.1", link.port, parent.pem, child.certificate, bell)
    try:
        for number in range(MAX_INBOX + 1):
            sender.put(number, b"block")
        sender.finish()
        eventually_sync(lambda: sender.ended and len(link.inbox) == MAX_INBOX)
    finally:
        link.end("done")
        sender.end("done")
        eventually_sync(lambda: threading.active_count() == before)
        bell.close()


def test_an_identity_shows_no_key() -> None:
    identity = make_identity("node")
    assert "PRIVATE" in identity.pem
    assert "PRIVATE" not in repr(identity)
    assert ssl.PEM_cert_to_DER_cert(identity.certificate)
