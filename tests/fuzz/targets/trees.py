"""Trees on their way: manifests, records, listings; and what a liar can do to the disk with them."""

import asyncio
import hashlib
import os
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from asyncdeploy.collect.arrivals import Arrivals
from asyncdeploy.collect.choice import Choice
from asyncdeploy.collect.collect import _Collect
from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import Listing
from asyncdeploy.collect.names import PART
from asyncdeploy.collect.target import Target as Folder
from asyncdeploy.node_side.push import receiver
from asyncdeploy.node_side.push.site_record import Record, check_paths, read_entries
from asyncdeploy.node_side.push.staging import KEPT_HEAP
from asyncdeploy.nodes.node import Node
from asyncdeploy.push.bundle.manifest import Entry, Manifest, difference
from asyncdeploy.values.errors import DeployError, ProtocolError
from tests.fuzz.dough import Dough, text_of
from tests.fuzz.target import MOST_BYTES, target
from tests.fuzz.targets.answers import assert_shown
from tests.fuzz.targets.homes import home

NAMES = (b"a", b"b", b"a/b", b"a/b/c", b"..", b"../x", b"/x", b"a/../../x", b"a//b", b".", b".asyncdeploy", b"", b"l/x")
TARGETS = (b"a", b"..", b"../..", b"/", b"../out", b"a/../..", b"", b"l", b".asyncdeploy/state")
HEAD = b"asyncdeploy-manifest 1\0"
ENTRY = b"f\000644\0001\0000\000" + hashlib.sha256(b"x").hexdigest().encode() + b"\0a\0"
LIMITS = CollectLimits(max_bytes=10_000, max_files=50)


@target(HEAD, ENTRY, b"\0", b"f", b"d", b"l", b"a", b"777", b"-1", b"/", b"..", b"a/b", b"a" * 256, b"a/" * 400)
def manifests(data: bytes) -> None:
    """A manifest is a tree that writes itself again, the node reads the same, or both refuse it."""
    try:
        found = Manifest.from_bytes(data)
    except ValueError:
        return
    again = Manifest.from_bytes(found.to_bytes())
    assert again == found
    assert again.digest == found.digest
    assert not difference(found, again)
    there = read_entries(found.to_bytes().split(b"\0")[1:] if found.entries else [], 7)
    if not any(entry.path.split("/")[0] == ".asyncdeploy" for entry in found.entries):
        check_paths(there)
    assert [os.fsencode(entry.path) for entry in found.entries] == [entry.path for entry in there]


@target(b"asyncdeploy-state 1\0", b"p\0", b"\0", b"1", ENTRY, b"0\0000\0=\0", b"9" * 30, b"-1")
def records(data: bytes) -> None:
    """A site's record is a tree that writes itself again, or none; with a sum that fits it too."""
    for body in (data, data + b"\0%d" % zlib.crc32(data), b"asyncdeploy-state 1\0" + data):
        whole = body if body is data else body + b"\0%d" % zlib.crc32(body)
        found = Record.parse(whole)
        if found is not None:
            assert Record.parse(found.pack()).pack() == found.pack()


def entry(kind: bytes, name: bytes, size: int, link: bytes = b"") -> bytes:
    """An entry of a listing."""
    numbers = (0o100644).to_bytes(4, "big") + size.to_bytes(8, "big") + (10**18).to_bytes(12, "big")
    return kind + numbers + len(name).to_bytes(2, "big") + name + len(link).to_bytes(2, "big") + link


@target(entry(b"f", b"a", 3), entry(b"d", b"d", 0), entry(b"l", b"d/l", 0, b"../a"), entry(b"f", b"../x", 1), b"\xff")
def listings(data: bytes) -> None:
    """A listing holds names below the folder, each once, each in a folder before it; or its node is refused."""
    listing = Listing("liar", LIMITS)
    try:
        for piece in Dough(data).pieces():
            listing.take_left_behind(piece) if piece[:1] == b"N" else listing.take(piece)
    except ProtocolError as error:
        assert_shown(error)
    seen = {b""}
    for each in listing.entries:
        assert each.path not in seen
        assert not {b"", b".", b".."} & set(each.path.split(b"/"))
        assert each.path.rpartition(b"/")[0] in seen
        seen.add(each.path)
    assert len(listing.left_behind.all()) <= LIMITS.max_files + 2


class Sender:
    """A node that lists entries and sends files, some of them honestly."""

    def __init__(self, dough: Dough) -> None:
        self.node = Node("liar")
        self._dough = dough

    async def receive(self) -> tuple[bytes, bytes]:
        dough = self._dough
        if not dough:
            return b"Z", b""
        kind = dough.of((b"B", b"D", b"T", b"X", b"G", b"Z", b"D"))
        number, content = dough.number(7).to_bytes(4, "big"), dough.of((b"", b"x", b"xyz", bytes(300)))
        if kind == b"B":
            return kind, number + dough.of((0, 1, 3, 1 << 62)).to_bytes(8, "big")
        if kind == b"D":
            return kind, content
        if kind == b"T":
            return kind, hashlib.sha256(content).digest() + dough.of((0, 10**18, -1, 1 << 90)).to_bytes(
                12, "big", signed=True
            )
        if kind == b"G":
            return kind, dough.of((1, 5, 9_999, 1 << 40)).to_bytes(8, "big")
        return kind, number + content


@target(*(bytes([number]) * 2 for number in range(14)), b"\0\1\2\3")
def collecting(data: bytes) -> None:
    """Whatever a node lists and sends, nothing outside of the folder changes, and nothing half-done stays in it."""
    dough = Dough(data)
    listing = Listing("liar", LIMITS)
    with tempfile.TemporaryDirectory() as above:
        top, outside = Path(above, "in"), Path(above, "out")
        outside.mkdir()
        (outside / "a").write_text("ours")
        top.mkdir()
        (top / "l").symlink_to(outside)
        try:
            for _ in range(dough.number(7)):
                kind, name = dough.of((b"f", b"d", b"l")), dough.of(NAMES)
                listing.take(
                    entry(kind, name, dough.of((0, 1, 3, 300, 1 << 50)), dough.of(TARGETS) if kind == b"l" else b"")
                )
            with Folder(top) as local:
                asyncio.run(collect(listing, local, Sender(dough)))
        except DeployError as error:
            assert_shown(error)
        except OSError as error:
            raise AssertionError("an error of this machine's disk, of names that the node chose") from error
        assert names_in(above) == ["in", "out"]
        assert names_in(outside) == ["a"]
        assert (outside / "a").read_text() == "ours"
        assert not list(top.rglob(f"{PART}*"))
        for path in top.rglob("*"):
            if path.is_symlink() and path != top / "l":
                assert Path(os.path.normpath(path.parent / path.readlink())).is_relative_to(top)


async def collect(listing: Listing, local: Folder, sender: Sender) -> None:
    """What _Collect does with a listing that has come."""
    remote = cast(Any, SimpleNamespace(node=sender.node, emit=lambda event: None))
    choice = Choice(listing, local, LIMITS)
    for _ in choice.make():
        pass
    await Arrivals(remote, local, LIMITS, choice.wanted, listing.left_behind).receive(sender)
    for _ in _Collect(remote, "/x", local, LIMITS)._put_links(choice.links):
        pass


class Client:
    """A client on the other end of the worker's wire; frames come as they were made before."""

    def __init__(self, frames: list[tuple[bytes, bytes]]) -> None:
        self.frames, self.said = frames, list[bytes]()

    def receive(self) -> tuple[bytes, bytes]:
        if not self.frames:
            raise SystemExit("the client closed the channel")
        return self.frames.pop(0)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.said.append(kind)

    def poll(self) -> None:
        pass

    sign_life = poll


@target(*(bytes([number]) * 2 for number in range(14)), b"\0\1\2\3", b"\xff", most_bytes=KEPT_HEAP + MOST_BYTES)
def receiving(data: bytes) -> None:
    """Whatever manifest and contents come, nothing outside of the site changes, and a push is all or none."""
    dough = Dough(data)
    with home() as above:
        site, outside = above / "in", above / "out"
        outside.mkdir()
        (outside / "a").write_text("ours")
        for _ in range(1 + dough.number(1)):
            push(dough, site)
        (site / "l").symlink_to(outside) if site.is_dir() and not os.path.lexists(site / "l") else None
        push(dough, site)
        assert [name for name in names_in(above) if name != ".asyncdeploy"] in (["in", "out"], ["out"])
        assert names_in(outside) == ["a"]
        assert (outside / "a").read_text() == "ours"


def push(dough: Dough, site: Path) -> None:
    """One push of whatever comes next."""
    contents = (b"", b"x", b"xyz", bytes(300))
    rows: list[tuple[bytes, ...]] = []
    for _ in range(dough.number(5)):
        content, kind = dough.of(contents), dough.of((b"f", b"f", b"d", b"l", b"a"))
        size = len(content) if dough.number(3) else dough.of((0, 7, 1 << 50))
        sha = hashlib.sha256(content).hexdigest().encode() if kind == b"f" else b""
        link = dough.of(TARGETS) if kind == b"l" else b""
        rows.append((kind, b"%o" % dough.of((0o644, 0o755, 0o4777)), b"%d" % size, b"0", sha, dough.of(NAMES), link))
    fields = [field for row in rows for field in row]
    digest = hashlib.sha256(b"\0".join(f for at in (5, 0, 1, 4, 6) for f in fields[at::7])).hexdigest().encode()
    frames = []
    for number in range(dough.number(5)):
        content = dough.of(contents)
        payload = b"r" + content if dough.number(1) else b"z" + zlib.compress(content)
        frames.append((dough.of((b"D", b"A", b"V", b"X")), number.to_bytes(4, "big") + payload))
    how = dough.of((b"refuse", b"overwrite"))
    words = (b"push", os.fsencode(site), digest, b"p", b"l", b"h", how, b"refuse", b"0", b"refuse", b"")
    manifest = zlib.compress(b"\0".join([HEAD[:-1], *fields]))
    before = standing(site)
    try:
        done = receiver.main(Client(frames), b"\0".join([*words, manifest]))
    except (Exception, SystemExit):
        done = b""  # the worker tells the client of it
    if not done.startswith((b"done", b"same")) and is_tree(rows):
        assert standing(site) == before, done


def is_tree(rows: list[tuple[bytes, ...]]) -> bool:
    """Whether a client could send it: no name twice, none below a file."""
    try:
        Manifest(Entry(os.fsdecode(row[5]), "file" if row[0] in b"fl" else "dir") for row in rows)
    except ValueError:
        return False
    return True


def names_in(folder: Path | str) -> list[str]:
    """The names in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def standing(site: Path) -> dict[str, object]:
    """What stands in a site, but for our own folder."""
    found: dict[str, object] = {}
    for path in sorted(site.rglob("*")) if site.is_dir() else ():
        name = text_of(os.fsencode(path.relative_to(site)))
        if name.partition("/")[0] != ".asyncdeploy":
            found[name] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


@target(b"\xff", b"f", b"d", b"l", b"a/b", b"..")
def trees(data: bytes) -> None:
    """Any names as a tree: refused, or the same after a way as bytes."""
    rows = []
    for piece in Dough(data).pieces():
        kind = {102: "file", 100: "dir", 108: "link"}.get(piece[0] if piece else 0, "absent")
        rows.append(Entry(text_of(piece[1:]), cast(Any, kind), target=text_of(piece[1:]) if kind == "link" else ""))
    try:
        found = Manifest(rows)
    except ValueError:
        return
    assert Manifest.from_bytes(found.to_bytes()) == found
