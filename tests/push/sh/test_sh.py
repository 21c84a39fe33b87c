"""Push to nodes without python3: by dash, bash and busybox ash, what is put in place and what is never touched."""

import json
import os
import random
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.push.push import finish_push, push_code
from asyncdeploy.values.errors import ConnectionLost, NodeFull, TransferFailed, WorkspaceBusy, WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.events import details, notes
from tests.support.remotes.plain_remote import SHELLS, PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import small_disk, tree, write

SEED = 20261124


@pytest.fixture(params=SHELLS)
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PlainRemote]:
    async with PlainRemote(tmp_path / "home", request.param) as found:
        yield found


@pytest.fixture
def source(source: Path) -> Path:
    """A project with an empty file, too."""
    (source / "e").touch()
    return source


def shadow(remote: PlainRemote, tool: str, text: str) -> None:
    """Let the node find another program first under a tool's name; "$real" is the tool itself."""
    folder = remote.home.with_name("shadow")
    folder.mkdir(exist_ok=True)
    real = shutil.which(tool, path=remote.env["PATH"])
    (folder / tool).write_text(f"#!/bin/sh\nreal={real}\n{text}\n")
    (folder / tool).chmod(0o755)
    if not remote.env["PATH"].startswith(str(folder)):
        remote.env["PATH"] = f"{folder}:{remote.env['PATH']}"


def unshadow(remote: PlainRemote, tool: str) -> None:
    (remote.home.with_name("shadow") / tool).unlink()


# --- what is put in place


async def test_p_a_first_push_beside_another_one_is_no_stranger(remote: PlainRemote, source: Path) -> None:
    shadow(
        remote,
        "find",
        'case "$*" in ". -mindepth 1 -print -quit") mkdir -m 700 .asyncdeploy ;; esac\nexec "$real" "$@"',
    )
    await push_code(remote, source)
    assert tree(remote.home / source.name) == tree(source)


async def test_a_cold_push_brings_the_tree_as_it_is(remote: PlainRemote, source: Path, site: Path) -> None:
    (source / "src/b.py").chmod(0o640)
    (source / "big").write_bytes(os.urandom(2_000_000))
    os.utime(source / "a.py", (1_234_567_890, 1_234_567_890))
    pushed = await push_code(remote, source)
    assert pushed.path == str(site)
    assert tree(site) == tree(source)
    assert (site / "a.py").stat().st_mtime == 1_234_567_890
    assert stat.S_IMODE((site / ".asyncdeploy").stat().st_mode) == 0o700
    assert {path.name for path in (site / ".asyncdeploy").iterdir()} - {"lock"} == {"staging", "state"}
    assert list((site / ".asyncdeploy/staging").iterdir()) == []
    inodes = {path: path.lstat().st_ino for path in site.rglob("*")}
    assert await push_code(remote, source) == pushed
    assert details(remote.events)[-1] == "= unchanged"
    assert {path: path.lstat().st_ino for path in site.rglob("*") if path in inodes} == inodes


async def test_e11_odd_names_are_exact(remote: PlainRemote, source: Path, site: Path) -> None:
    for name in [b"-rf", b"a\nb", b"\n", b"back\\slash", b"\xff\xfe", b"it's", b'$(x) `y` "z"', b"n" * 255, b"~", b" "]:
        (source / os.fsdecode(name)).write_bytes(name * 2)
    (source / "-d" / "\udcff").mkdir(parents=True)
    (source / "odd link").symlink_to("a\nb\n")
    deep = source.joinpath(*["d" * 100] * 12)
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    await push_code(remote, source)
    assert tree(site) == tree(source)
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"
    for path in list(source.iterdir()):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"changed" if path.name != "\n" else b"")
    shutil.rmtree(source / "-d")
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_only_what_changed_is_touched(remote: PlainRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    write(site, {".venv/lib/x.py": "theirs", "src/results.csv": "1,2"})
    kept = (site / "src/b.py").stat().st_ino
    (source / "a.py").unlink()
    shutil.rmtree(source / "src/deep")
    (source / "run.sh").chmod(0o644)
    (source / "empty").rmdir()
    (source / "empty").write_text("a file now")
    (source / "link").unlink()
    (source / "link").mkdir()
    write(source, {"link/inside": "x", "new/file": "y"})
    await push_code(remote, source)
    theirs = {".venv", ".venv/lib", ".venv/lib/x.py", "src/results.csv"}
    assert {name: what for name, what in tree(site).items() if name not in theirs} == tree(source)
    assert theirs <= tree(site).keys()
    assert (site / "src/b.py").stat().st_ino == kept
    shutil.rmtree(source / "src")
    await push_code(remote, source)
    assert (site / "src/results.csv").read_text() == "1,2"
    assert not (site / "src/b.py").exists()


async def test_trees_whose_names_meet(remote: PlainRemote, tmp_path: Path, site: Path) -> None:
    dice = random.Random(SEED)
    source = tmp_path / "proj"
    for _ in range(10):
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for name in dice.sample(["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "b/b/b"], 5):
            path = source / name
            if any(above.is_symlink() or above.is_file() for above in (path, *path.parents)) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = dice.choice(["file", "file", "dir", "link", "outside"])
            if kind == "file":
                path.write_text(dice.choice(["", "x", "yy"]))
                path.chmod(dice.choice([0o600, 0o755]))
            elif kind == "dir":
                path.mkdir()
            else:
                path.symlink_to({"link": "b", "outside": str(tmp_path)}[kind])
        write(source, {"always": "here"})
        await push_code(remote, source)
        assert tree(site) == tree(source)
    assert (tmp_path / "proj").is_dir()


# --- what is on the node already


async def test_e10_what_was_edited_on_the_node_is_named(remote: PlainRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    before = (site / "a.py").stat()
    (site / "a.py").write_text("print(2)\n")
    os.utime(site / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(WorkspaceConflict, match=r"edited on the node since our last push: a\.py"):
        await push_code(remote, source)
    assert (site / "a.py").read_text() == "print(2)\n"
    (site / "src/b.py").unlink()
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    assert tree(site) == tree(source)
    assert "edited on the node and overwritten: a.py" in "\n".join(notes(remote.events))
    assert "removed on the node and brought back: src/b.py" in "\n".join(notes(remote.events))


async def test_another_folder_is_not_taken(remote: PlainRemote, source: Path, site: Path, tmp_path: Path) -> None:
    write(site, {"theirs": "x"})
    with pytest.raises(WorkspaceConflict, match="was not made by us"):
        await push_code(remote, source)
    assert [path.name for path in site.iterdir()] == ["theirs"]
    await push_code(remote, Workspace(source, on_conflict="overwrite"))
    write(tmp_path / "other", {"x": "y"})
    with pytest.raises(WorkspaceConflict, match="belongs to another project: "):
        await push_code(remote, Workspace(tmp_path / "other", remote_path="~/proj"))
    shutil.rmtree(site / ".asyncdeploy")
    (site / ".asyncdeploy").symlink_to(tmp_path)
    with pytest.raises(WorkspaceConflict, match="somebody else made it"):
        await push_code(remote, Workspace(source, on_conflict="overwrite"))
    (source / "theirs").mkdir()
    (site / ".asyncdeploy").unlink()
    (site / "theirs").unlink()
    write(site, {"theirs/data": "x"})
    (source / "theirs").rmdir()
    (source / "theirs").write_text("mine")
    with pytest.raises(WorkspaceConflict, match="holds files that we did not bring"):
        await push_code(remote, Workspace(source, on_conflict="overwrite"))


async def test_e8_a_running_job_is_named(remote: PlainRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    job = remote.home / ".asyncdeploy/jobs/train-1"
    with subprocess.Popen(["sleep", "600"]) as process:
        start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        write(job, {"spec.json": json.dumps({"site": str(site)}), "pid": f"{process.pid} {start}\n"})
        (source / "a.py").write_text("new")
        try:
            with pytest.raises(WorkspaceBusy, match=r"a job runs in .*: train-1"):
                await push_code(remote, source)
            assert (site / "a.py").read_text() == "print(1)\n"
            await push_code(remote, Workspace(source, under_jobs="overwrite"))
        finally:
            process.kill()
    (source / "a.py").write_text("newer")
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_a_stat_without_nanoseconds_is_not_trusted(remote: PlainRemote, source: Path, site: Path) -> None:
    shadow(remote, "stat", '"$real" "$@" | sed \'s/\\.[0-9]\\{9\\}/.000000000/g\'')
    await push_code(remote, source)
    await push_code(remote, source)
    assert details(remote.events)[-1] == "= unchanged"
    before = (site / "a.py").stat()
    (site / "a.py").write_text("print(2)\n")
    os.utime(site / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(WorkspaceConflict, match=r"a\.py"):
        await push_code(remote, source)


# --- both receivers


async def test_g8_either_way_knows_what_the_other_brought(remote: PlainRemote, source: Path, site: Path) -> None:
    async with ShellRemote(remote.home) as other:
        for first, second in ((remote, other), (other, remote)):
            await push_code(first, source)
            await push_code(second, source)
            assert details(second.events)[-1] == "= unchanged"
            (source / "a.py").write_text(f"by {first.python}")
            (source / "src/b.py").rename(source / "src/c.py")
            await push_code(second, source)
            assert tree(site) == tree(source)
            (source / "src/c.py").rename(source / "src/b.py")


# --- what goes wrong

DEATHS = (2, 3, 4, 6)
"""At which call of mv the node dies: as the journal is written, and within the swap."""


@pytest.mark.parametrize("finisher", ["plain", "python", "finish"])
async def test_e4_a_killed_swap_is_finished(remote: PlainRemote, source: Path, site: Path, finisher: str) -> None:
    await push_code(remote, source)
    shadow(
        remote,
        "mv",
        'echo >>"$0.calls"; [ "$(wc -l <"$0.calls")" -lt "$(cat "$0.dies")" ] || kill -s KILL 0\n"$real" "$@"',
    )
    script = remote.home.with_name("shadow") / "mv"
    for death in DEATHS:
        before = tree(site)
        (source / "a.py").write_text(f"a{death}")
        (source / f"new{death}").write_text("n")
        write(source, {"src/b.py": f"b{death}", f"d{death}/x": "x"})
        (source / f"new{death - 1}").unlink(missing_ok=True)
        script.with_name("mv.dies").write_text(str(death))
        script.with_name("mv.calls").write_text("")
        with pytest.raises(ConnectionLost):
            await push_code(remote, source)
        begun = (site / ".asyncdeploy/journal").exists()
        assert begun or tree(site) == before
        script.with_name("mv.dies").write_text("1000000")
        if finisher == "plain":
            await push_code(remote, source)
        elif finisher == "python":
            async with ShellRemote(remote.home) as other:
                await push_code(other, source)
        else:
            remote.memory.pop("whole sites", None)
            await finish_push(remote, "~/proj")
            assert tree(site) == (tree(source) if begun else before)
            await push_code(remote, source)
        assert tree(site) == tree(source)
        assert not (site / ".asyncdeploy/journal").exists()
        assert list((site / ".asyncdeploy/staging").iterdir()) == []


async def test_e1_a_full_disk_leaves_the_old_tree(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    async with small_disk(tmp_path / "disk", "size=600k") as disk:
        workspace = Workspace(source, remote_path=f"{disk}/site")
        await push_code(remote, workspace)
        before = tree(disk / "site")
        write(source, {"a.py": "new", "big": os.urandom(900_000)})
        with pytest.raises(NodeFull, match=r"0\.9 MB needed, [0-9.]+ \w+ free") as caught:
            await push_code(remote, workspace)
        assert caught.value.needed_bytes > 900_000
        assert tree(disk / "site") == before
        shadow(remote, "stat", 'case $1 in -f) echo 0 0 0 0 0 ;; *) "$real" "$@" ;; esac')  # found out by tar alone
        with pytest.raises(NodeFull):
            await push_code(remote, workspace)
        assert tree(disk / "site") == before
        assert list((disk / "site/.asyncdeploy/staging").iterdir()) == []
        (source / "big").unlink()
        await push_code(remote, workspace)
        assert tree(disk / "site") == tree(source)


async def test_e3_what_cannot_be_written_is_said(remote: PlainRemote, source: Path, tmp_path: Path) -> None:
    write(remote.home, {"file": "x"})
    for place in ("~/file", "~/file/below"):
        with pytest.raises(TransferFailed) as caught:
            await push_code(remote, Workspace(source, remote_path=place))
        assert "a part of the path is a file" in caught.value.hint
    async with small_disk(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(TransferFailed, match="Read-only") as caught:
            await push_code(remote, Workspace(source, remote_path=f"{disk}/site"))
        assert "read-only" in caught.value.hint


async def test_e19_a_flipped_byte_is_found(remote: PlainRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    before = tree(site)
    (source / "src/b.py").write_text("B" * 5000)
    shadow(remote, "tar", 'sed \'s/BBBB/BXBB/\' | "$real" "$@"')
    with pytest.raises(TransferFailed, match="nothing was changed on the node"):
        await push_code(remote, source)
    assert tree(site) == before
    unshadow(remote, "tar")
    await push_code(remote, source)
    assert tree(site) == tree(source)


async def test_e6_one_pushes_and_the_other_waits_or_is_refused(remote: PlainRemote, source: Path, site: Path) -> None:
    await push_code(remote, source)
    gate = remote.home / "gate"
    os.mkfifo(gate)
    shadow(remote, "tar", f'cat "{gate}"; "$real" "$@"')
    (source / "a.py").write_text("new")
    async with anyio.create_task_group() as group:
        group.start_soon(push_code, remote, source)
        descriptor = await anyio.to_thread.run_sync(os.open, gate, os.O_WRONLY)  # until the first one is at its tar
        try:
            shell = remote.sh.parent.name.removeprefix(f"{remote.home.name}-")
            other = PlainRemote(remote.home, shell)
            async with other:
                with pytest.raises(WorkspaceBusy, match=r"is held by .* pid"):
                    await push_code(other, source, wait_s=0)
        finally:
            os.close(descriptor)
    assert tree(site) == tree(source)


async def test_e7_a_dead_holder_s_lock_is_taken_over(source: Path, site: Path, tmp_path: Path) -> None:
    async with PlainRemote(tmp_path / "home", "busybox") as remote:
        await push_code(remote, source)
        host = os.uname().nodename
        write(site, {".asyncdeploy/lock.d/owner": f"{host} {os.getpid()} 1\n"})  # of a process of this number, long ago
        await push_code(remote, source, wait_s=1)
        assert not (site / ".asyncdeploy/lock.d").exists()
        write(site, {".asyncdeploy/lock.d/owner": "elsewhere 1 1\n", ".asyncdeploy/lock.d/holder": "ann@laptop"})
        with pytest.raises(WorkspaceBusy, match="ann@laptop"):
            await push_code(remote, source, wait_s=0)


# --- the real thing


async def test_there_and_back_over_real_ssh(plain_sshd: SshdNode, source: Path, tmp_path: Path) -> None:
    (source / "big").write_bytes(os.urandom(3_000_000))
    async with Pool(host_keys=HostKeys.strict(plain_sshd.known_hosts)) as pool:
        remote = pool.at(plain_sshd.node)
        pushed = await push_code(remote, source)
        assert remote.memory["python"] is False
        done = await sync_results(remote, pushed.path, tmp_path / "here")
    assert done.complete, done.skipped
    assert tree(plain_sshd.home / "proj") == tree(source)
    assert tree(tmp_path / "here") == tree(source)
