"""Push by the real receiver behind a local shell: what travels, what is put in place, what is never touched."""

import asyncio
import os
import shutil
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.push.bundle.bundle import pack_workspace
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.transport import Channel
from asyncdeploy.values.errors import DeployError, TransferFailed, WorkspaceConflict
from asyncdeploy.values.events import BytesMoved
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import details, notes
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import tree, write

# --- what travels and what is put in place


async def test_a_cold_push_brings_the_tree_as_it_is(remote: ShellRemote, source: Path, site: Path) -> None:
    os.utime(source / "a.py", ns=(1, 1_234_567_890_123_456_789))
    (source / "src/b.py").chmod(0o640)
    pushed = await push_code(remote, source)
    assert pushed.path == str(site)
    assert pushed.workdir == str(site)
    assert tree(site) == tree(source)
    assert (site / "a.py").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert stat.S_IMODE((site / ".asyncdeploy").stat().st_mode) == 0o700
    assert list((site / ".asyncdeploy" / "staging").iterdir()) == []
    assert not (site / ".asyncdeploy" / "journal").exists()
    moved = [event for event in remote.events if isinstance(event, BytesMoved)]
    assert moved[-1].done == moved[-1].total > 5000


class Counted(ShellRemote):
    """Counts frames: kind by kind, those that we send."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.sent: list[bytes] = []

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        channel = await super().open(line, kind=kind)
        send = channel.send if not channel.reused else None
        if send is not None:
            channel.send = lambda data: (self.sent.append(bytes(data[:1])), send(data))[1]
        return channel


async def test_unchanged_is_one_request_and_one_answer(tmp_path: Path, source: Path) -> None:
    async with Counted(tmp_path / "home") as remote:
        first = await push_code(remote, source)
        opens = remote.opens
        remote.sent.clear()
        assert await push_code(remote, source) == first
        assert remote.sent == [b"C"]
        assert remote.opens == opens == 1
        assert details(remote.events)[-1] == "= unchanged"


async def test_only_the_changed_file_travels(remote: ShellRemote, source: Path, site: Path) -> None:
    write(source, {"big.bin": os.urandom(300_000)})
    await push_code(remote, source)
    before = (site / "big.bin").stat()
    write(source, {"a.py": "print(2)\n"})
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (site / "big.bin").stat().st_ino == before.st_ino
    assert details(remote.events)[-1].startswith("1 files, ")
    assert [event.total for event in remote.events if isinstance(event, BytesMoved)][-1] == 9


async def test_a_renamed_file_does_not_travel_again(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    remote.events.clear()
    (source / "src/b.py").rename(source / "moved.py")
    shutil.copy2(source / "moved.py", source / "again.py")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert not [event for event in remote.events if isinstance(event, BytesMoved)]


async def test_a_mode_change_alone_is_seen(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    inode = (site / "a.py").stat().st_ino
    (source / "a.py").chmod(0o755)
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (site / "a.py").stat().st_ino == inode
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_files_become_folders_and_go_back(remote: ShellRemote, source: Path, site: Path) -> None:
    first = tree(source)
    await push_code(remote, source)
    for name in ("a.py", "link"):
        (source / name).unlink()
        write(source, {f"{name}/x/y": "inside"})
    await push_code(remote, source)
    assert tree(site) == tree(source)
    for name in ("a.py", "link"):
        shutil.rmtree(source / name)
    write(source, {"a.py": "print(1)\n"})
    (source / "link").symlink_to("src/b.py")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert tree(source).keys() == first.keys()


async def test_what_was_removed_here_goes_there_and_only_that(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {".venv/bin/python": "venv", "src/deep/results.csv": "1,2", "out/log": "log"})
    (source / "src/b.py").unlink()
    shutil.rmtree(source / "src" / "deep")
    (source / "empty").rmdir()
    await push_code(remote, source)
    found = tree(site)
    assert {"src/b.py", "src/deep/c.txt", "empty"}.isdisjoint(found)
    assert found["src/deep/results.csv"][2] == b"1,2"
    assert found[".venv/bin/python"][2] == b"venv"
    assert found["out/log"][2] == b"log"
    (site / "src/deep/results.csv").unlink()
    shutil.rmtree(site / ".venv")
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"


async def test_e11_odd_names_arrive_exactly(remote: ShellRemote, tmp_path: Path, site: Path) -> None:
    root = tmp_path / "proj"
    names = ["-rf", "new\nline", "\udcff\udcfe.bin", "x" * 255, "sp ace", "$(id)", "é", "*", "/".join(["d"] * 200)]
    write(root, {name: name.encode("utf-8", "surrogateescape") for name in names})
    write(root, {"zero": ""})
    await push_code(remote, root)
    assert tree(site) == tree(root)


async def test_e13_links_out_are_kept_and_never_written_through(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    write(outside, {"victim": "keep"})
    (source / "out").symlink_to(outside)
    await push_code(remote, source)
    assert (site / "out").readlink() == outside
    assert "is a link that leads out of the workspace" in "\n".join(notes(remote.events))
    (source / "out").unlink()
    write(source, {"out/victim": "new"})
    await push_code(remote, source)
    assert tree(site) == tree(source)
    assert (outside / "victim").read_text() == "keep"


async def test_a_link_planted_on_the_node_is_not_written_through(
    remote: ShellRemote, source: Path, site: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    write(outside, {"b.py": "keep"})
    await push_code(remote, source)
    shutil.rmtree(site / "src")
    (site / "src").symlink_to(outside)
    write(source, {"src/b.py": "new"})
    with pytest.raises(WorkspaceConflict, match="src"):
        await push_code(remote, source)
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert tree(site) == tree(source)
    assert (outside / "b.py").read_text() == "keep"
    assert "src" in "\n".join(notes(remote.events))


async def test_e18_umask_does_not_change_modes(tmp_path: Path, source: Path, site: Path) -> None:
    (source / "a.py").chmod(0o666)
    shell = ("sh", "-c", 'umask 077; exec sh -c "$0"')
    async with ShellRemote(tmp_path / "home", shell=shell) as remote:
        await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_many_nodes_share_one_scan(tmp_path: Path, source: Path) -> None:
    write(source, {f"many/{number}": os.urandom(2000) for number in range(600)})
    async with AsyncExitStack() as stack:
        remotes = [await stack.enter_async_context(ShellRemote(tmp_path / f"n{n}", name=f"n{n}")) for n in range(4)]
        bundle = await stack.enter_async_context(pack_workspace(source))
        sites = await asyncio.gather(*(push_code(remote, bundle) for remote in remotes))
        assert {pushed.digest for pushed in sites} == {bundle.digest}
        for remote in remotes:
            assert tree(remote.home / "proj") == tree(source)


async def test_e14_a_large_file_goes_in_pieces(remote: ShellRemote, source: Path, site: Path) -> None:
    with (source / "large").open("wb") as file:
        file.write(os.urandom(3_000_000))
        file.truncate(20_000_000)
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_e9_a_file_that_changes_after_the_scan_is_found(remote: ShellRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    before = tree(site)
    write(source, {"a.py": "second"})
    async with pack_workspace(source) as bundle:
        write(source, {"a.py": "third!"})
        with pytest.raises(TransferFailed, match=r"here: a\.py changed"):
            await push_code(remote, bundle)
    assert tree(site) == before
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_cancelled_push_leaves_the_old_tree_and_goes_on_later(
    remote: ShellRemote, source: Path, site: Path
) -> None:
    await push_code(remote, source)
    before = tree(site)
    write(source, {f"big{number}": os.urandom(400_000) for number in range(8)})
    with anyio.CancelScope() as scope:
        emit = remote.emit
        remote.emit = lambda event: (emit(event), scope.cancel() if isinstance(event, BytesMoved) else None)[0]
        await push_code(remote, source)
    assert scope.cancelled_caught
    remote.emit = emit
    assert tree(site) == before
    await push_code(remote, source)
    assert tree(site) == tree(source)


# --- through a real sshd


async def test_real_sshd_cold_changed_unchanged_and_edited(
    sshd_nodes: tuple[SshdNode, ...], source: Path, tmp_path: Path
) -> None:
    write(source, {f"many/{number}": os.urandom(3000) for number in range(400)})
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:

        async def push() -> None:
            async with pack_workspace(source) as bundle:
                await asyncio.gather(*(push_code(pool.at(sshd.node), bundle) for sshd in sshd_nodes))

        await push()
        write(source, {"a.py": "changed"})
        (source / "many/1").unlink()
        await push()
        await push()
        for sshd in sshd_nodes:
            write(sshd.home / "proj", {".venv/x": "1"})
            assert tree(sshd.home / "proj") == {
                **tree(source),
                ".venv": ("dir", 0, b""),
                ".venv/x": ("file", 0o644, b"1"),
            }
        write(sshd_nodes[0].home / "proj", {"a.py": "edited"})
        with pytest.raises(WorkspaceConflict, match=r"a\.py"):
            await push_code(pool.at(sshd_nodes[0].node), source)


# --- any tree


# Few names, so that those of two trees meet: a file where a folder was is what goes wrong.
NAME = st.one_of(
    st.sampled_from(["a", "b"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=5).filter(
        lambda name: name not in (".", "..", ".git", ".asyncdeploy", ".gitignore", ".asyncdeployignore")
    ),
)
LEAF = st.one_of(st.binary(max_size=40), st.sampled_from(["link", "out", 0o755]))
TREES = st.recursive(
    st.dictionaries(NAME, LEAF, max_size=4),
    lambda below: st.dictionaries(NAME, LEAF | below, max_size=4),
    max_leaves=12,
)


def build(root: Path, spec: dict[str, object]) -> None:
    root.mkdir(exist_ok=True)
    for name, what in spec.items():
        path = root / name
        if isinstance(what, dict):
            build(path, what)
        elif isinstance(what, str):
            path.symlink_to({"link": "nowhere", "out": ".."}[what])
        elif isinstance(what, bytes):
            path.write_bytes(what)
        else:
            path.write_text("x")
            path.chmod(0o755)


@given(st.lists(TREES, min_size=2, max_size=3))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_follows_any_other(tmp_path_factory: pytest.TempPathFactory, specs: list[dict[str, object]]) -> None:
    base = tmp_path_factory.mktemp("trees")

    async def push_all() -> None:
        async with ShellRemote(base / "home") as remote:
            for spec in specs:
                shutil.rmtree(base / "proj", ignore_errors=True)
                build(base / "proj", spec)
                try:
                    await push_code(remote, Workspace(base / "proj", on_emptied="remove"))
                except DeployError as error:
                    raise AssertionError(str(error)) from error
                assert tree(base / "home" / "proj") == tree(base / "proj")

    asyncio.run(push_all())


async def test_a_block_is_compressed_unless_the_line_is_faster_than_that(tmp_path: Path) -> None:
    source = tmp_path / "proj"
    write(source, {"a.txt": "words, words\n" * 20_000})
    for rate, letter in ((0.0, b"z"), (125e6, b"z"), (5e9, b"r")):
        async with pack_workspace(source) as bundle:
            (block,) = bundle.blocks([0], {})
            assert (await bundle.packed(block, rate))[:1] == letter
            assert (await bundle.packed(block))[:1] == letter, "it is packed once for all nodes"
