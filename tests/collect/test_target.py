"""Written below a folder, whatever the names say: the extractor by itself, and the sender's reading by itself."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from asyncdeploy.collect.names import PART, link_escapes, misleads, why_not
from asyncdeploy.collect.target import Target
from asyncdeploy.node_side.collect import sender
from tests.support.leaks import open_descriptors

paths = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4).map(b"/".join)
targets = st.lists(st.sampled_from([b"a", b"b", b"c", b"..", b"..", b"."]), min_size=1, max_size=6).map(b"/".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(paths, targets), min_size=1, max_size=6))
@example([(b"a/b/c", b"../.."), (b"b", b"a/b/c/..")])
@example([(b"a/b", b".."), (b"c", b"a/b/a"), (b"b", b"c/../..")])
def test_d3_no_set_of_links_leads_out(tmp_path: Path, links: list[tuple[bytes, bytes]]) -> None:
    """What stands is resolved by the kernel, link by link: every one that leads somewhere leads inside."""
    root = Path(os.path.realpath(tmp_path)) / os.urandom(8).hex()
    with Target(root) as local:
        for path, target in links:
            try:
                if not link_escapes(path, target):
                    local.link(path, target)
            except OSError:  # a link stands where a folder should be, or the other way round
                continue
        for path, _ in links:
            name = os.fsencode(root) + b"/" + path
            if os.path.lexists(name):
                assert Path(os.fsdecode(os.path.realpath(name))).is_relative_to(root)


@pytest.mark.parametrize("path", [b"", b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/..", b"a/../b", b"a\0"])
def test_d5_names_that_mislead(tmp_path: Path, path: bytes) -> None:
    assert misleads(path)
    with Target(tmp_path / "t") as local:
        for act in (local.look, local.begin, local.open_existing, lambda name: local.link(name, b"x")):
            with pytest.raises((ValueError, FileNotFoundError)):
                act(path)
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]
    assert set(tmp_path.glob("t/*")) <= {tmp_path / "t" / "a"}


def test_names_that_are_refused() -> None:
    assert why_not(b"a/b/c", 3) is None
    assert why_not(b"a/b/c/d", 3) == "deeper than 3 folders"
    assert why_not(b"x" * 255, 3) is None
    assert why_not(b"x" * 256, 3) == "a name of over 255 bytes"
    assert why_not(b"a/" + PART.encode() + b"1", 3) == "its name is one of our own"
    assert not misleads(b"...")
    assert not misleads(b"..a/b")


def test_descriptors_are_bounded(tmp_path: Path) -> None:
    with Target(tmp_path / "t") as local:
        for number in range(400):
            path = b"d%d/e/f" % number
            local.finish(local.begin(path), 0o644, 0)
        assert len(open_descriptors()) < 200
    assert len(list(tmp_path.rglob("f"))) == 400


def test_what_a_killed_collect_left_is_removed_and_what_lives_is_not(tmp_path: Path) -> None:
    with Target(tmp_path) as local:
        living = local.begin(b"d/f")
        for name in (PART + "dead", "d/" + PART + "dead"):
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "d" / (PART + "old link")).symlink_to("x")
        os.utime(tmp_path / "d" / (PART + "old link"), (1, 1), follow_symlinks=False)
        (tmp_path / "d" / (PART + "new link")).symlink_to("x")
        with Target(tmp_path) as other:
            other.look(b"d/x")
        assert {path.name for path in (tmp_path / "d").iterdir()} == {living.name, PART + "new link"}
        assert list(tmp_path.iterdir()) == [tmp_path / "d"]
        local.finish(living, 0o644, 0)
    assert (tmp_path / "d" / "f").is_file()


class Script:
    """A worker of whom the sender's frames are kept, and who does something as the first data goes out."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.out = bytearray()
        self.meddle = meddle

    def write(self, data: bytes) -> None:
        first = not self.out
        self.out += data
        if first:
            self.meddle()

    def poll(self) -> None:
        pass

    def frames(self) -> list[tuple[bytes, bytes]]:
        found, at = [], 0
        while at < len(self.out):
            size = int.from_bytes(self.out[at + 1 : at + 5], "big")
            found.append((bytes(self.out[at : at + 1]), bytes(self.out[at + 5 : at + 5 + size])))
            at += 5 + size
        return found


OLD = b"o" * 600_000


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"tail")


@pytest.mark.parametrize(
    "change, said",
    [
        pytest.param(lambda path: None, None, id="nothing"),
        pytest.param(_append, None, id="a log grows"),
        pytest.param(lambda path: path.write_bytes(b"n" * 600_000), b"it changed while it was read", id="rewritten"),
        pytest.param(lambda path: path.write_bytes(b"n" * 900_000), b"it changed while it was read", id="longer"),
        pytest.param(lambda path: path.write_bytes(b""), b"it became shorter while it was read", id="truncated"),
        pytest.param(lambda path: os.truncate(path, 599_999), b"it became shorter while it was read", id="cut"),
        pytest.param(lambda path: path.unlink(), None, id="deleted while it is open"),
    ],
)
def test_d9_no_mixture_of_two_states_is_sent(
    tmp_path: Path, change: Callable[[Path], object], said: bytes | None
) -> None:
    path = tmp_path / "f"
    path.write_bytes(OLD)
    os.utime(path, (1, 1))
    script = Script(lambda: change(path))
    limits = {"max_files": 9, "max_listing": 1 << 20, "max_bytes": 1 << 30}
    work = sender.Sender(script, os.fsencode(tmp_path), limits)
    work.paths.append(b"f")
    work.send_file(0, 0, b"")
    work.flush()
    frames = script.frames()
    data = b"".join(payload for kind, payload in frames if kind == b"D")
    if said is None:
        assert frames[-1][0] == b"T"
        assert data == OLD
    else:
        assert frames[-1] == (b"X", b"\0" * 4 + said)
