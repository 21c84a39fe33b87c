"""The tree as data."""

import os

import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.push.bundle.blocks import BlockList, Piece
from asyncdeploy.push.bundle.manifest import Difference, Entry, Manifest, difference

SHA = "ab" * 32


def test_a_manifest_survives_bytes_with_any_name() -> None:
    entries = [
        Entry("a\nb", size=3, sha256=SHA, mode=0o755, mtime_ns=2**62),
        Entry("-rf", "link", 0, target="\udcff/x"),
        Entry("\udcff\udcfe", sha256=SHA),
        Entry("empty", "dir", 0o700),
        Entry("x" * 255, sha256=SHA),
    ]
    manifest = Manifest(entries)
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.digest == manifest.digest
    assert [os.fsencode(e.path) for e in manifest.entries] == sorted(os.fsencode(e.path) for e in entries)


def test_the_digest_names_content_mode_and_target_but_not_time() -> None:
    base = Manifest([Entry("a", sha256=SHA), Entry("l", "link", 0, target="a")])
    assert Manifest([Entry("a", sha256=SHA, mtime_ns=5), Entry("l", "link", 0, target="a")]).digest == base.digest
    others = [
        Manifest([Entry("a", sha256="cd" * 32), Entry("l", "link", 0, target="a")]),
        Manifest([Entry("a", sha256=SHA, mode=0o755), Entry("l", "link", 0, target="a")]),
        Manifest([Entry("a", sha256=SHA), Entry("l", "link", 0, target="b")]),
        Manifest([Entry("b", sha256=SHA), Entry("l", "link", 0, target="a")]),
        Manifest([]),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


@pytest.mark.parametrize("path", ["", "/a", "a/../b", "..", "a//b", "./a", "a/", "x" * 256, "d/" * 2001 + "x", "a\0b"])
def test_a_path_that_no_node_may_get_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"path|folders in folders"):
        Manifest([Entry(path, sha256=SHA)])


def test_a_path_twice_or_below_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Manifest([Entry("a"), Entry("a")])
    with pytest.raises(ValueError, match="below a file"):
        Manifest([Entry("a"), Entry("a-b"), Entry("a/b")])
    assert len(Manifest([Entry("a", "dir"), Entry("a/b")]).entries) == 2


@pytest.mark.parametrize("data", [b"", b"asyncdeploy-manifest 2", b"asyncdeploy-manifest 1\0f", b"x" * 100])
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_bytes(data)


def test_the_difference_of_two_trees() -> None:
    old = Manifest([Entry("a", sha256=SHA), Entry("b", sha256=SHA), Entry("c", sha256=SHA), Entry("d", sha256=SHA)])
    new = Manifest(
        [
            Entry("b", sha256="cd" * 32),
            Entry("c", sha256=SHA, mode=0o755),
            Entry("d", sha256=SHA, mtime_ns=9),
            Entry("e"),
        ]
    )
    assert difference(old, new) == Difference(added=("e",), removed=("a",), changed=("b",), modes=("c",))
    assert not difference(new, new)


@given(st.lists(st.integers(1, 3000), max_size=40))
@settings(max_examples=60, deadline=None)
def test_blocks_hold_every_byte_once_in_order_and_are_bounded(sizes: list[int]) -> None:
    blocks = list(BlockList(Piece(number, 0, size) for number, size in enumerate(sizes)).cut(limit=1000))
    pieces = [piece for block in blocks for piece in block]
    assert all(0 < sum(piece.length for piece in block) <= 1000 for block in blocks)
    covered = [(piece.content, piece.start + at) for piece in pieces for at in range(piece.length)]
    assert covered == [(number, at) for number, size in enumerate(sizes) for at in range(size)]
