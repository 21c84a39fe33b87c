"""Any tree, by way of another node and home again, is what it was."""

import errno
import os
import random
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.values.workspace import Workspace
from tests.support.remotes.shell_remote import ShellRemote

MIB = 1 << 20
NAMES = st.one_of(
    st.sampled_from([b"a", b"-rf", b"new\nline", b"latin-\xe9", b"x" * 255, b"it's $HOME", b"b", b"\xf0\x9f\x90\x8d"]),
    st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
).filter(lambda name: name not in (b".git", b".asyncdeploy", b".gitignore", b".asyncdeployignore"))
FILES = st.one_of(
    st.tuples(st.just("data"), st.integers(0, 5000)),
    st.tuples(st.just("data"), st.sampled_from([4 * MIB - 1, 4 * MIB, 4 * MIB + 65_537])),
    st.tuples(st.just("sparse"), st.sampled_from([5 * MIB, 64 * MIB + 3])),
    st.tuples(st.just("link"), st.just(0)),
    st.tuples(st.just("folder"), st.just(0)),
)
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(b"/".join), FILES, max_size=7)


def make(root: Path, spec: Mapping[bytes, tuple[str, int]]) -> None:
    """Make a tree; a name that another one's folder or file has taken is left out."""
    for path, (kind, size) in spec.items():
        whole = Path(os.fsdecode(os.fsencode(root) + b"/" + path))
        try:
            whole.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(whole):
                continue
            if kind == "folder":
                whole.mkdir()
            elif kind == "link":
                whole.symlink_to("a")
            else:
                whole.write_bytes(random.Random(size).randbytes(size if kind == "data" else 100))
                if kind == "sparse":
                    os.truncate(whole, size)
                whole.chmod(0o755 if size % 2 else 0o640)
        except OSError as error:  # a link to itself on the way, too: "a" leads to "a"
            if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
                raise


def tree(root: Path) -> dict[bytes, object]:
    """Every name: its content, where it leads, or nothing for a folder; whether it may be executed."""
    found: dict[bytes, object] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        if folder == os.fsencode(root):
            folders[:] = [name for name in folders if name != b".asyncdeploy"]
        for name in folders + files:
            path = Path(os.fsdecode(folder), os.fsdecode(name))
            key = os.fsencode(path)[len(os.fsencode(root)) :]
            if path.is_symlink():
                found[key] = os.fsencode(path.readlink())
            elif path.is_dir():
                found[key] = None
            else:
                found[key] = (path.read_bytes(), path.stat().st_mode & stat.S_IXUSR)
    return found


@given(TREES, TREES)
@example({b"a": ("link", 0), b"a/b/c": ("data", 1)}, {b"a": ("folder", 0)})
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.long
def test_push_relay_collect(
    tmp_path_factory: pytest.TempPathFactory, first: dict[bytes, tuple[str, int]], second: dict[bytes, tuple[str, int]]
) -> None:
    base = tmp_path_factory.mktemp("round")

    async def once(spec: dict[bytes, tuple[str, int]]) -> None:
        source, home = base / "proj", base / "home"
        for old in (source, home):
            shutil.rmtree(old, ignore_errors=True)
        source.mkdir()
        make(source, spec)
        async with ShellRemote(base / "one", name="one") as one, ShellRemote(base / "two", name="two") as two:
            for remote in (one, two):
                remote.env["SSH_CONNECTION"] = "127.0.0.1 1 127.0.0.1 22"
            async with pack_workspace(Workspace(source, on_emptied="remove")) as bundle:
                crew = Crew(bundle, "on", ["one", "two"], 2)
                async with anyio.create_task_group() as group:
                    for remote in (one, two):
                        group.start_soon(push_code, remote, crew)
            assert tree(base / "one" / "proj") == tree(base / "two" / "proj") == tree(source)
            shutil.rmtree(base / "two" / "proj" / ".asyncdeploy")
            done = await sync_results(two, "~/proj", home)
            assert done.skipped == ()
            assert tree(home) == tree(source)
            shutil.rmtree(base / "two" / "proj")

    for spec in (first, second):
        anyio.run(once, spec)
