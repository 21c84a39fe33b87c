"""A node that lies while we collect: the real worker, and in the sender's place a script that speaks its frames."""

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from asyncdeploy.collect.collect import _Collect, sync_results
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import MAX_LISTING_BYTES, Listing
from asyncdeploy.collect.target import Target
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import ConnectionLost, DeployError, ProtocolError
from asyncdeploy.values.workspace import Collected
from tests.support.remotes.shell_remote import ShellChannel, ShellRemote

LIES = '''
import hashlib, os

def entry(path, kind=b"f", size=3, mtime=10**18, target=b"", mode=0o100644):
    numbers = mode.to_bytes(4, "big") + size.to_bytes(8, "big") + mtime.to_bytes(12, "big", signed=True)
    return kind + numbers + len(path).to_bytes(2, "big") + path + len(target).to_bytes(2, "big") + target

def listed(worker, *entries):
    """Send a listing and return the numbers that are wanted, with the offsets."""
    worker.send(b"L", b"".join(entries))
    worker.send(b"M")
    wanted = b""
    while True:
        kind, payload = worker.receive()
        if kind == b"Y":
            return [(int.from_bytes(wanted[n:n + 4], "big"), int.from_bytes(wanted[n + 4:n + 12], "big"))
                    for n in range(0, len(wanted), 44)]
        wanted += payload

def begin(worker, number, offset=0):
    worker.send(b"B", number.to_bytes(4, "big") + offset.to_bytes(8, "big"))

def end(worker, content, mtime=10**18):
    worker.send(b"T", hashlib.sha256(content).digest() + mtime.to_bytes(12, "big", signed=True))

def file(worker, number, content=b"abc"):
    begin(worker, number)
    worker.send(b"D", content)
    end(worker, content)

def main(worker, args):
'''


class Liar(ShellRemote):
    """A node whose sender is the lines given, as the body of its ``main``."""

    def __init__(self, home: Path, lies: str, name: str = "liar") -> None:
        super().__init__(home, name=name)
        self.source = (LIES + "\n".join("    " + line for line in lies.strip().splitlines())).encode()

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        if not channel.reused:
            send = channel.send

            def swapped(data: bytes) -> None:
                if data[:1] == b"P" and data[5:].startswith(b"collect.sender\0"):
                    body = b"collect.sender\0" + self.source
                    data = b"P" + len(body).to_bytes(4, "big") + body
                send(data)

            channel.send = swapped  # type: ignore[method-assign]
        return channel


Lied = Callable[..., Coroutine[Any, Any, Collected]]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "home-coming" / "here"


@pytest.fixture
async def collect(tmp_path: Path, target: Path) -> AsyncIterator[Lied]:
    """`collect(lies, limits=None)`: collect from such a node; the traces around the target are looked for after it."""

    target.parent.mkdir()

    async def collected(lies: str, limits: CollectLimits | None = None) -> Collected:
        async with Liar(tmp_path / "liar", lies) as remote:
            return await sync_results(remote, "/data", target, limits=limits, allow_partial=True)

    yield collected
    assert set(target.parent.iterdir()) <= {target}  # nothing beside it
    assert not list(target.rglob(".asyncdeploy*"))  # nothing half-done in it
    assert not list((tmp_path / "liar").iterdir())


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- names


@pytest.mark.parametrize(
    "name", [b"../x", b"/abs", b"a/../../x", b"a/../x", b"..", b".", b"./x", b"a//x", b"a/", b"x\0y", b"", b"x" * 5000]
)
async def test_d5_a_name_that_leads_elsewhere_is_refused_with_its_node(
    collect: Lied, target: Path, name: bytes
) -> None:
    with pytest.raises(ProtocolError, match="which no file below a folder can have"):
        await collect(
            f'numbers = listed(worker, entry(b"a", b"d"), entry({name!r}), entry(b"b"))\n'
            "for number, _ in numbers: file(worker, number)"
        )
    assert names(target) == []


async def test_d5_a_name_twice_is_refused(collect: Lied, target: Path) -> None:
    with pytest.raises(ProtocolError, match="the name 'b' twice"):
        await collect('listed(worker, entry(b"b"), entry(b"c"), entry(b"b", b"d"))')
    assert names(target) == []


async def test_d5_names_that_the_disk_cannot_tell_apart_come_once(tmp_path: Path) -> None:
    """No disk here folds case; that one does is what Target finds out, and all that is told here."""
    async with Liar(
        tmp_path / "liar",
        'numbers = listed(worker, entry(b"A"), entry(b"a"), entry("\\u00c4".encode()), entry("\\u00e4".encode()))\n'
        "for number, _ in numbers: file(worker, number)",
    ) as remote:
        with Target(tmp_path / "here") as local:
            assert local.folds_case is False
            local.folds_case = True
            done = await _Collect(remote, "/data", local, CollectLimits()).run()
    assert names(tmp_path / "here") == ["A", "Ä"]
    assert [name for name, _ in done.skipped] == ["a", "ä"]


async def test_d5_the_others_go_on(tmp_path: Path) -> None:
    liar = Liar(tmp_path / "liar", 'listed(worker, entry(b"../../evil"))', name="liar")
    honest = ShellRemote(tmp_path / "honest", name="honest")
    async with liar, honest:
        (tmp_path / "honest" / "out").mkdir()
        (tmp_path / "honest" / "out" / "a").write_text("a")
        remotes = {"liar": liar, "honest": honest}

        async def work(node: Node) -> Collected:
            return await sync_results(remotes[str(node.name)], "~/out", tmp_path / "home" / str(node.name))

        report = await map_nodes([Node("127.0.0.1", name="liar", port=1), Node("127.0.0.1", name="honest")], work)
    assert [outcome.state for outcome in report] == ["failed", "ok"]
    assert isinstance(report["liar"].error, ProtocolError)
    assert (tmp_path / "home" / "honest" / "a").read_text() == "a"
    assert not (tmp_path / "evil").exists()


# --- links


async def test_d7_nothing_is_written_through_a_link(collect: Lied, target: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="which lies in no folder that it listed before"):
        await collect(
            'numbers = listed(worker, entry(b"a", b"l", target=b"sub"), entry(b"sub", b"d"), entry(b"a/x"))\n'
            "for number, _ in numbers: file(worker, number)"
        )
    with pytest.raises(ProtocolError, match="which lies in no folder that it listed before"):
        await collect('listed(worker, entry(b"a/x"), entry(b"a", b"l", target=b"sub"))')
    with pytest.raises(ProtocolError, match="which lies in no folder that it listed before"):
        await collect('listed(worker, entry(b"a"), entry(b"a/x"))')
    assert names(target) == []


async def test_d7_a_link_of_an_earlier_collect_is_not_written_through(
    collect: Lied, target: Path, tmp_path: Path
) -> None:
    await collect('listed(worker, entry(b"sub", b"d"), entry(b"a", b"l", target=b"sub"))')
    done = await collect(
        'numbers = listed(worker, entry(b"a", b"d"), entry(b"a/x"))\nfor number, _ in numbers: file(worker, number)'
    )
    assert [name for name, _ in done.skipped] == ["a", "a/x"]
    assert names(target) == ["a", "sub"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (target / "mine").symlink_to(elsewhere)
    done = await collect('for n, _ in listed(worker, entry(b"mine", b"d"), entry(b"mine/x")): file(worker, n)')
    assert len(done.skipped) == 2
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "path, leads_to",
    [
        (b"up", b"../x"),
        (b"up", b".."),
        (b"abs", b"/etc/passwd"),
        (b"d/up", b"../../x"),
        (b"nothing", b""),
        # `deep` is the top itself, so `deep/..` is outside, although counting says that it is not.
        (b"chain", b"d/deep/.."),
        (b"chain", b"./d/./deep/../../x"),
    ],
)
async def test_d3_a_link_that_leads_out_is_left_behind(
    collect: Lied, target: Path, path: bytes, leads_to: bytes
) -> None:
    done = await collect(
        'listed(worker, entry(b"d", b"d"), entry(b"d/deep", b"l", target=b".."), entry(b"d/in", b"l", target=b"../y"),'
        f' entry({path!r}, b"l", target={leads_to!r}))'
    )
    assert done.skipped == ((path.decode(), "a link that may lead out of the folder"),)
    assert names(target) == ["d", "d/deep", "d/in"]
    assert done.files == 2


# --- contents


async def test_d15_a_wrong_hash_is_refused_and_the_old_file_stays(collect: Lied, target: Path) -> None:
    await collect('listed(worker, entry(b"f"))\nfile(worker, 0, b"old")')
    with pytest.raises(ProtocolError, match=r"with the hash .*, where it says"):
        await collect(
            'listed(worker, entry(b"f", size=9, mtime=5), entry(b"g"))\n'
            'begin(worker, 0); worker.send(b"D", b"new bytes"); end(worker, b"new bytez")'
        )
    assert (target / "f").read_bytes() == b"old"
    assert names(target) == ["f"]


async def test_d15_a_wrong_hash_of_what_was_here_already_is_refused(collect: Lied, target: Path) -> None:
    await collect('listed(worker, entry(b"log"))\nfile(worker, 0, b"abc")')
    with pytest.raises(ProtocolError, match=r"with the hash .*, where it says"):
        await collect('listed(worker, entry(b"log", mtime=7))\nbegin(worker, 0, 3)\nend(worker, b"abd", mtime=7)')
    with pytest.raises(ProtocolError, match=r"with the hash .*, where it says"):
        await collect(
            'listed(worker, entry(b"log", size=6))\nbegin(worker, 0, 3)\nworker.send(b"D", b"def")\n'
            'end(worker, b"abddef")'
        )
    assert (target / "log").read_bytes() == b"abc"
    assert (target / "log").stat().st_mtime_ns == 10**18


@pytest.mark.parametrize(
    "lies",
    [
        pytest.param('begin(worker, 0); worker.send(b"D", b"ab"); end(worker, b"abc")', id="too few bytes"),
        pytest.param('begin(worker, 0); worker.send(b"D", b"x" * 21)', id="more bytes than the budget"),
        pytest.param('begin(worker, 0); worker.send(b"D", b"")', id="data without an end"),
        pytest.param("file(worker, 0); file(worker, 0)", id="a file twice"),
        pytest.param("file(worker, 2)", id="a folder's content"),
        pytest.param("file(worker, 77)", id="a number without an entry"),
        pytest.param("begin(worker, 0); begin(worker, 1)", id="a file within a file"),
        pytest.param("end(worker, b'')", id="an end without a beginning"),
        pytest.param('worker.send(b"D", b"abc")', id="data without a beginning"),
        pytest.param('worker.send(b"B", b"abc")', id="a short beginning"),
        pytest.param('begin(worker, 0); worker.send(b"T", b"abc")', id="a short end"),
        pytest.param('worker.send(b"X", b"abc")', id="a short excuse"),
        pytest.param('worker.send(b"X", b"\\0\\0\\0\\x07why")', id="an excuse for nothing"),
        pytest.param('begin(worker, 0); worker.send(b"X", b"\\0\\0\\0\\1why")', id="an excuse for another"),
        pytest.param('worker.send(b"L", entry(b"more"))', id="a listing after the listing"),
        pytest.param('worker.send(b"?", b"")', id="an unknown frame"),
        pytest.param("file(worker, 0)", id="an end with a file missing"),
        pytest.param('begin(worker, 0); worker.send(b"D", b"abc")', id="an end within a file"),
    ],
)
async def test_d15_a_conversation_that_no_sender_has_is_refused(collect: Lied, target: Path, lies: str) -> None:
    with pytest.raises(ProtocolError, match="while collecting, the node sent"):
        await collect(
            'listed(worker, entry(b"f"), entry(b"g"), entry(b"d", b"d"))\n' + lies, CollectLimits(max_bytes=20)
        )
    assert set(names(target)) <= {"f", "d"}


async def test_d15_an_offset_that_was_not_asked_for_is_refused(collect: Lied, target: Path) -> None:
    await collect('listed(worker, entry(b"log"))\nfile(worker, 0, b"abc")')
    with pytest.raises(ProtocolError, match="file 0 of its listing from byte 2 on, which was not asked for"):
        await collect('assert listed(worker, entry(b"log", size=6)) == [(0, 3)]\nbegin(worker, 0, 2); file(worker, 0)')


@pytest.mark.parametrize(
    "lies",
    [
        pytest.param('worker.send(b"L", b"")', id="empty"),
        pytest.param('worker.send(b"L", b"f")', id="one byte"),
        pytest.param('worker.send(b"L", entry(b"f")[:-1])', id="cut"),
        pytest.param('worker.send(b"L", entry(b"f")[:20])', id="cut in the numbers"),
        pytest.param('worker.send(b"L", entry(b"f", kind=b"p"))', id="a kind that is none"),
        pytest.param('worker.send(b"L", entry(b"f") + b"\\0")', id="a byte too many"),
        pytest.param('worker.send(b"D", b"abc")', id="data"),
        pytest.param('for _ in range(9): worker.send(b"N", b"x\\0why")', id="reasons without an end"),
        pytest.param('worker.send(b"L", b"".join(entry(b"%d" % n) for n in range(9)))', id="entries without an end"),
    ],
)
async def test_d15_a_listing_that_is_none_is_refused(collect: Lied, target: Path, lies: str) -> None:
    with pytest.raises(ProtocolError, match="while collecting, the node sent"):
        await collect(lies + '\nworker.send(b"M"); worker.receive()', CollectLimits(max_files=7))
    assert names(target) == []


async def test_d15_a_cut_stream_leaves_whole_files_only(collect: Lied, target: Path) -> None:
    with pytest.raises(ConnectionLost):
        await collect(
            'listed(worker, entry(b"f"), entry(b"g"))\nfile(worker, 0)\n'
            'begin(worker, 1); worker.send(b"D", b"ab")\nos._exit(1)'
        )
    assert names(target) == ["f"]


async def test_d15_what_goes_wrong_on_the_node_is_no_success(collect: Lied, target: Path) -> None:
    with pytest.raises(DeployError, match="failed on the node"):
        await collect('listed(worker, entry(b"f"))\nraise ValueError("no")')
    assert names(target) == []


async def test_d10_a_listing_is_bounded_in_bytes() -> None:
    """2 KB a name: the count allows 200,000 of them, which would be 400 MB here."""
    listing = Listing("liar", CollectLimits())
    name = b"/".join([b"x" * 255] * 8)
    entry = b"f" + b"\0" * 24 + len(name).to_bytes(2, "big") + name + b"\0\0"
    listing._bytes = MAX_LISTING_BYTES - len(entry) + 1
    with pytest.raises(ProtocolError, match="a listing of over 64 MiB"):
        listing.take(entry)


async def test_d10_a_million_names_are_not_listened_to(collect: Lied, target: Path) -> None:
    with pytest.raises(ProtocolError, match="more than the 200000 entries"):
        await collect(
            'for n in range(100): worker.send(b"L", b"".join(entry(b"%d" % (n * 10000 + m)) for m in range(10000)))'
        )
    assert names(target) == []


async def test_d10_sizes_that_no_disk_has_are_over_the_budget(collect: Lied, target: Path) -> None:
    done = await collect(
        'numbers = listed(worker, entry(b"8EB", size=2**63 - 1), entry(b"16EB", size=2**64 - 1), entry(b"f"))\n'
        "for number, _ in numbers: file(worker, number)"
    )
    assert [name for name, _ in done.skipped] == ["8EB", "16EB"]
    assert all("over the budget" in reason for _, reason in done.skipped)
    assert names(target) == ["f"]


async def test_d8_wild_modes_and_times_are_tamed(collect: Lied, target: Path) -> None:
    done = await collect(
        'wild = [entry(b"suid", mode=0o106777), entry(b"none", mode=0o100000), entry(b"past", mtime=-10**20),\n'
        '        entry(b"future", mtime=2**90)]\n'
        "for number, _ in listed(worker, *wild):\n"
        "    begin(worker, number); worker.send(b'D', b'abc')\n"
        "    end(worker, b'abc', mtime=[0, 0, -10**20, 2**90][number])"
    )
    assert done.complete
    mask = 0o777 & ~_umask()
    assert {name: (target / name).stat().st_mode & 0o7777 for name in names(target)} == {
        "suid": 0o777 & mask,
        "none": 0o600,
        "past": 0o644 & mask,
        "future": 0o644 & mask,
    }
    assert (target / "past").stat().st_mtime_ns == 0
    assert (target / "future").stat().st_mtime_ns == (1 << 33) * 10**9


async def test_h4_what_a_node_says_cannot_drive_our_terminal(collect: Lied) -> None:
    done = await collect(
        'worker.send(b"N", b"evil\\x1b[2J\\0why\\x1b]0;x\\x07")\nlisted(worker, entry(b"f\\x1b[1m"))\n'
        'worker.send(b"X", b"\\0\\0\\0\\0gone\\x1b[0m")'
    )
    assert done.skipped == (("evil\\x1b[2J", "why\\x1b]0;x\\x07"), ("f\\x1b[1m", "gone"))


def _umask() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("Umask:")[1].split()[0], 8)
