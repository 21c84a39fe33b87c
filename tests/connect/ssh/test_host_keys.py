"""Who may answer: host keys under name and address, over files as people have them and over real sshd."""

import asyncio
import base64
import fcntl
import hashlib
import hmac
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.config.answer import Trust
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.known_hosts.edit import forget_names, record_key
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.shown_key import ShownKey
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import HostKeyError
from asyncdeploy.values.events import Event, Noted
from tests.support.beds.sshd import HOST_KEYS
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]


def new_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519").convert_to_public()


def line(hosts: str, key: asyncssh.SSHKey, marker: str = "") -> str:
    return f"{marker + ' ' if marker else ''}{hosts} {key.export_public_key().decode().strip()}\n"


def our_line(hosts: str, key: asyncssh.SSHKey) -> str:
    """A line as we write it."""
    return line(hosts, key).replace("\n", " asyncdeploy\n")


def hashed(name: str) -> str:
    salt = bytes(range(20))  # the same in every process: the line is a case's name
    digest = hmac.digest(salt, name.encode(), hashlib.sha1)
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


async def judge(rule: HostKeys, who: Identity, key: asyncssh.SSHKey) -> HostKeyError | None:
    checker = HostKeyChecker(rule)
    await checker.load(who)
    return checker.judge(who, ShownKey(key))


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


BOX = Identity("box", "198.51.100.7", 41234)


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hosts",
    [
        "box",
        "[198.51.100.7]:41234",
        "other,[198.51.100.7]:41234",
        hashed("box"),
        hashed("[198.51.100.7]:41234"),
        "BOX",
        "b?x",
        "[198.51.100.*]:41234",
        "198.51.100.7",
    ],
)
async def test_a_node_is_found_as_openssh_would_find_it(known: Path, hosts: str) -> None:
    key = new_key()
    known.write_text(line(hosts, key))
    assert await judge(HostKeys.strict(known), BOX, key) is None


@pytest.mark.parametrize(
    "hosts", ["boxer", "[198.51.100.7]:22", "box,!b*", hashed("198.51.100.8"), "[198.51.100.7]:4123?5"]
)
async def test_a_node_is_not_found_under_other_names(known: Path, hosts: str) -> None:
    key = new_key()
    known.write_text(line(hosts, key))
    error = await judge(HostKeys.strict(known), BOX, key)
    assert error is not None
    assert error.reason == "unknown"


async def test_a_port_keeps_machines_behind_one_address_apart(known: Path) -> None:
    one, two = new_key(), new_key()
    known.write_text(line("[h]:1", one) + line("[h]:2", two) + line("h", one))
    assert await judge(HostKeys.strict(known), Identity("h", "h", 2), two) is None
    error = await judge(HostKeys.strict(known), Identity("h", "h", 2), one)
    assert error is not None
    assert error.reason == "changed"


async def test_one_bad_line_costs_nobody_his_hosts(known: Path) -> None:
    key = new_key()
    bad = ["justone", "@what box ssh-ed25519 AAAA", "|1|nonsense ssh-ed25519 AAAA", "|9|x|y ssh-ed25519 A", "a b"]
    known.write_bytes("\n".join([*bad, "# comment", "", line("box", key)]).encode() + b"\xff\xfe\n")
    checker = HostKeyChecker(HostKeys.strict(known))
    notes = await checker.load(BOX)
    assert [f"{known}:{number}:" in note for number, note in zip(range(1, 6), notes, strict=False)] == [True] * 5
    assert checker.judge(BOX, ShownKey(key)) is None
    assert await checker.load(BOX) == [], "told once"


async def test_a_key_of_a_kind_we_cannot_use_is_no_obstacle(known: Path) -> None:
    key = new_key()
    known.write_text("box ssh-quantum QUFBQQ==\n" + line("box", key))
    assert await judge(HostKeys.strict(known), BOX, key) is None


async def test_a_changed_file_is_read_again(known: Path) -> None:
    key = new_key()
    checker = HostKeyChecker(HostKeys.strict(known))
    await checker.load(BOX)
    assert checker.judge(BOX, ShownKey(key)) is not None
    known.write_text(line("box", key))
    await checker.load(BOX)
    assert checker.judge(BOX, ShownKey(key)) is None


# -- the verdict -----------------------------------------------------------------------------------------------------


async def test_a10_an_unknown_key_is_told_with_the_way_to_accept_it(known: Path) -> None:
    key = new_key()
    error = await judge(HostKeys.strict(known), BOX, key)
    assert error is not None
    assert (error.reason, error.node, error.offered) == ("unknown", "box", key.get_fingerprint())
    assert key.get_fingerprint() in error.message
    assert "ssh-keyscan -p 41234 198.51.100.7" in error.hint
    assert "HostKeys.accept_new()" in error.hint


async def test_a9_a_changed_key_is_told_with_both_fingerprints_and_the_line(known: Path) -> None:
    old, new = new_key(), new_key()
    known.write_text("# mine\n" + line("box", old))
    for rule in (HostKeys.strict(known), HostKeys.accept_new(known)):
        error = await judge(rule, BOX, new)
        assert error is not None
        assert (error.reason, error.offered, error.expected) == (
            "changed",
            new.get_fingerprint(),
            (old.get_fingerprint(),),
        )
        assert error.source == f"{known}:2"
        assert all(text in error.describe() for text in (old.get_fingerprint(), new.get_fingerprint(), f"{known}:2"))


async def test_b8_a_recycled_address_is_noticed_under_another_name(known: Path) -> None:
    old, new = new_key(), new_key()
    known.write_text(line("old-box,[198.51.100.7]:41234", old))
    error = await judge(HostKeys.accept_new(known), attrs.evolve(BOX, node="new-box"), new)
    assert error is not None
    assert error.reason == "changed"


async def test_b8_a_known_name_at_a_new_address_must_have_its_own_key(known: Path) -> None:
    mine, other = new_key(), new_key()
    known.write_text(our_line("box", mine) + line("[203.0.113.1]:22", other) + line("203.0.113.1", other))
    moved = Identity("box", "203.0.113.1", 22)
    assert await judge(HostKeys.accept_new(known), moved, mine) is None
    error = await judge(HostKeys.accept_new(known), moved, other)
    assert error is not None
    assert error.reason == "changed"


async def test_a12_a_revoked_key_is_refused_even_where_it_is_known(known: Path) -> None:
    key = new_key()
    known.write_text(line("box", key) + line("*", key, "@revoked"))
    error = await judge(HostKeys.accept_new(known), BOX, key)
    assert error is not None
    assert (error.reason, error.source) == ("revoked", f"{known}:2")


async def test_pins_read_no_file_and_know_name_and_host() -> None:
    key, other = new_key(), new_key()
    for name in ("box", "198.51.100.7", "[198.51.100.7]:41234"):
        rule = HostKeys.pinned({name: [other.get_fingerprint(), key.get_fingerprint() + "="]})
        assert rule.files_of(Trust()) == ()
        assert await judge(rule, BOX, key) is None
    error = await judge(HostKeys.pinned({"box": other.get_fingerprint()}), BOX, key)
    assert error is not None
    assert (error.reason, error.expected) == ("changed", (other.get_fingerprint(),))
    error = await judge(HostKeys.pinned({}), BOX, key)
    assert error is not None
    assert error.reason == "unknown"


async def test_pins_beside_files_count_alone_for_the_nodes_that_they_name(known: Path) -> None:
    pinned, filed, box = new_key(), new_key(), attrs.evolve(BOX, node="rented")
    known.write_text(line("rented", filed) + line("[198.51.100.7]:41234", filed) + line("box", filed))
    for base in (HostKeys.strict(known), HostKeys.accept_new(known)):
        rule = base.with_pins({"rented": pinned.get_fingerprint()})
        assert await judge(rule, box, pinned) is None
        error = await judge(rule, box, filed)
        assert error is not None
        assert (error.source, error.expected) == ("HostKeys.pinned", (pinned.get_fingerprint(),))
        assert await judge(rule, BOX, filed) is None, "another node is judged by the files as before"
        assert await judge(rule, BOX, pinned) is not None
        checker = HostKeyChecker(rule)
        await checker.load(box)
        assert checker.algorithms_left(box, ("ssh-ed25519", "rsa-sha2-512"), [ShownKey(filed)]) == ("rsa-sha2-512",)
        assert await checker.record(box, pinned) is None
    assert pinned.export_public_key().decode().split()[1] not in known.read_text()
    more = HostKeys.strict().with_pins({"a": pinned.get_fingerprint()}).with_pins({"b": [filed.get_fingerprint()]})
    assert dict(more.pins) == {"a": pinned.get_fingerprint(), "b": filed.get_fingerprint()}
    with pytest.raises(ValueError, match="with_pins"):
        HostKeys.strict().with_pins({"box": "MD5:00"})


async def test_the_first_name_that_is_pinned_counts_alone() -> None:
    mine, other = new_key(), new_key()
    rule = HostKeys.pinned({"box": mine.get_fingerprint(), "198.51.100.7": other.get_fingerprint()})
    assert await judge(rule, BOX, mine) is None
    assert await judge(rule, BOX, other) is not None
    assert await judge(rule, attrs.evolve(BOX, node="box-2"), other) is None


@pytest.mark.parametrize("pin", ["", "SHA256:", "MD5:" + "a" * 43, "SHA256:" + "a" * 42, None, "SHA256:" + "é" * 43])
def test_what_is_no_fingerprint_is_refused(pin: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        HostKeys.pinned({"box": pin})


def test_rules_are_values() -> None:
    assert HostKeys.strict("/a") == HostKeys.strict("/a")
    assert len({HostKeys.strict(), HostKeys.strict(), HostKeys.accept_new()}) == 2


# -- recording and forgetting ----------------------------------------------------------------------------------------


async def test_accept_new_records_name_and_address_once_and_pins(tmp_path: Path) -> None:
    known, key = tmp_path / "new" / "known_hosts", new_key()
    checker = HostKeyChecker(HostKeys.accept_new(known))
    await checker.load(BOX)
    assert checker.judge(BOX, ShownKey(key)) is None
    assert checker.judge(BOX, ShownKey(new_key())) is not None, "pinned before anything was written"
    assert await checker.record(BOX, key) is None
    assert await checker.record(BOX, key) is None
    assert known.read_text() == our_line("box,[198.51.100.7]:41234", key)
    assert known.stat().st_mode & 0o777 == 0o600
    assert await judge(HostKeys.strict(known), attrs.evolve(BOX, node="b2"), key) is None


async def test_accept_new_adds_the_name_of_a_node_known_by_address(known: Path) -> None:
    key = new_key()
    known.write_text(line("[198.51.100.7]:41234", key).rstrip("\n"))
    checker = HostKeyChecker(HostKeys.accept_new(known))
    await checker.load(BOX)
    assert checker.judge(BOX, ShownKey(key)) is None
    await checker.record(BOX, key)
    assert known.read_text() == line("[198.51.100.7]:41234", key) + our_line("box", key)


async def test_another_process_that_recorded_another_key_is_noticed(known: Path) -> None:
    key, other = new_key(), new_key()
    checker = HostKeyChecker(HostKeys.accept_new(known))
    await checker.load(BOX)
    assert checker.judge(BOX, ShownKey(key)) is None
    known.write_text(line("box", other))
    error = await checker.record(BOX, key)
    assert error is not None
    assert error.reason == "changed"
    assert "box " not in known.read_text().replace(line("box", other), "")


def test_recording_waits_for_the_lock_and_loses_no_line(known: Path) -> None:
    keys = [new_key() for _ in range(20)]

    def record(number: int) -> None:
        kind, blob = keys[number].export_public_key().decode().split()[:2]
        record_key(known, [f"h{number}"], kind, blob)
        forget_names(known, [f"nobody-{number}"])

    threads = [threading.Thread(target=record, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(known.read_text().splitlines(keepends=True)) == sorted(
        our_line(f"h{number}", key) for number, key in enumerate(keys)
    )


def test_a_lock_that_is_held_for_ever_is_an_error(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdeploy.connect.ssh.known_hosts.edit.LOCK_S", 0.05)
    known.write_text("")
    with known.open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="lock"):
            record_key(known, ["h"], "ssh-ed25519", "AAAA")


def test_forget_takes_out_name_and_address_and_leaves_the_rest(known: Path) -> None:
    key = new_key()
    kept = (
        "# comment\n" + line("*.example", key) + line("box", key, "@revoked") + line("[198.51.100.7]:1", key) + "bad\n"
    )
    gone = line("box,else", key) + line("[198.51.100.7]:41234", key) + line(hashed("box"), key)
    known.write_text(gone + kept)
    known.chmod(0o640)
    node = Node("198.51.100.7", port=41234, name="box")
    assert HostKeys.accept_new(known).forget(node) == 3
    assert known.read_text() == kept
    assert known.stat().st_mode & 0o777 == 0o640
    assert HostKeys.strict(known).forget(node) == 0
    assert os.listdir(known.parent) == [known.name]  # noqa: PTH208  hidden ones too
    with pytest.raises(ValueError, match="pinned"):
        HostKeys.pinned({}).forget(node)


async def test_k1_forget_holds_for_pools_that_are_open(known: Path) -> None:
    key, rule = new_key(), HostKeys.accept_new(known)
    checker = HostKeyChecker(rule)
    for fresh in (key, new_key()):
        await checker.load(BOX)
        assert checker.judge(BOX, ShownKey(fresh)) is None
        assert await checker.record(BOX, fresh) is None
        assert checker.judge(BOX, ShownKey(new_key())) is not None
        assert rule.forget(Node("198.51.100.7", port=41234, name="box")) == 1


def test_forget_without_a_file_forgets_nothing(known: Path) -> None:
    assert HostKeys.strict(known).forget(Node("h")) == 0
    assert not known.exists()


# -- over real sshd --------------------------------------------------------------------------------------------------


async def connect(rule: HostKeys, node: Node, **options: Any) -> None:
    async with Pool(host_keys=rule, **options) as pool:
        channel = await pool.at(node).open("true")
        await channel.wait()
        await channel.close()


async def test_a10_twenty_at_once_record_a_new_key_once(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd, known = start_sshd("box"), tmp_path / "known_hosts"
    rule = HostKeys.accept_new(known)
    async with Pool(host_keys=rule) as pool:
        nodes = [attrs.evolve(sshd.node, name=f"n{number}") for number in range(20)]
        for channel in await asyncio.gather(*(pool.at(node).open("true") for node in nodes)):
            await channel.close()
    written = [name for text in known.read_text().splitlines() for name in text.split()[0].split(",")]
    assert sorted(written) == sorted([f"[127.0.0.1]:{sshd.node.port}", *(node.name for node in nodes)])
    await connect(HostKeys.strict(known), sshd.node)


async def test_a9_a_changed_key_is_refused_at_once_and_no_login_is_tried(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd, known = start_sshd("box", config={"LogLevel": "DEBUG1"}), tmp_path / "known_hosts"
    known.write_text(line("box", new_key()))
    events: list[Event] = []
    with pytest.raises(HostKeyError) as caught:
        await connect(HostKeys.accept_new(known), sshd.node, observer=events.append)
    assert (caught.value.reason, caught.value.source) == ("changed", f"{known}:1")
    assert not any(isinstance(event, Noted) for event in events), "it is not tried again"
    assert "userauth-request" not in sshd.log(), "no byte of a login was sent"
    HostKeys.accept_new(known).forget(sshd.node)
    await connect(HostKeys.accept_new(known), sshd.node)
    assert "userauth-request" in sshd.log()


async def test_a10_no_byte_of_a_login_goes_to_an_unknown_key(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd = start_sshd("box", config={"LogLevel": "DEBUG1"})
    for rule in (HostKeys.strict(tmp_path / "none"), HostKeys.pinned({})):
        with pytest.raises(HostKeyError) as caught:
            await connect(rule, sshd.node)
        assert caught.value.reason == "unknown"
    assert "userauth-request" not in sshd.log()


@pytest.mark.parametrize("kind", HOST_KEYS)
async def test_the_node_shows_the_kind_of_key_that_is_known(start_sshd: StartSshd, known: Path, kind: str) -> None:
    sshd = start_sshd("box")
    known.write_text(f"box {sshd.public_key(kind).read_text()}")
    await connect(HostKeys.strict(known), sshd.node)
    await connect(HostKeys.strict(sshd.known_hosts), sshd.node)


async def test_a12_a_host_certificate_counts_only_for_its_names_and_while_its_authority_is_trusted(
    start_sshd: StartSshd, tmp_path: Path
) -> None:
    def keygen(*words: str) -> None:
        subprocess.run(["ssh-keygen", "-q", *words], check=True, cwd=tmp_path)

    keygen("-t", "ed25519", "-N", "", "-f", "ca")
    keygen("-t", "ed25519", "-N", "", "-f", "host")
    keygen("-s", "ca", "-I", "box", "-h", "-n", "127.0.0.1", "-V", "+1h", "host.pub")
    config = {"HostKey": tmp_path / "host", "HostCertificate": tmp_path / "host-cert.pub"}
    sshd, known = start_sshd("box", config=config), tmp_path / "known_hosts"
    authority = (tmp_path / "ca.pub").read_text().strip()
    known.write_text(f"@cert-authority * {authority}\n")
    await connect(HostKeys.strict(known), sshd.node)
    await connect(HostKeys.accept_new(known), sshd.node)
    known.write_text(f"@cert-authority * {authority}\n@revoked * {authority}\n")
    with pytest.raises(HostKeyError) as caught:
        await connect(HostKeys.strict(known), sshd.node)
    assert caught.value.reason == "revoked"
    keygen("-s", "ca", "-I", "box", "-h", "-n", "elsewhere", "-V", "+1h", "host.pub")
    sshd.restart()
    known.write_text(f"@cert-authority * {authority}\n")
    with pytest.raises(HostKeyError, match="certificate"):
        await connect(HostKeys.strict(known), sshd.node)


async def test_a_file_that_cannot_be_written_is_told_and_costs_no_connection(
    start_sshd: StartSshd, tmp_path: Path
) -> None:
    sshd, known = start_sshd("box"), tmp_path / "known_hosts"
    (tmp_path / "file").write_text("")
    events: list[Event] = []
    await connect(HostKeys.accept_new(tmp_path / "file" / "known_hosts"), sshd.node, observer=events.append)
    assert any(isinstance(event, Noted) and "could not be recorded" in event.text for event in events)
    assert not known.exists()
