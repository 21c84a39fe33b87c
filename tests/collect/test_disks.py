"""A local disk that refuses something takes all else, and the rest is told by name."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.values.workspace import CollectIncomplete
from tests.support.beds.disks import exfat_disk, refused
from tests.support.places import ROOT
from tests.support.remotes.meddler import Meddler
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.results import LONG_AGO_NS, parts, tree, write
from tests.support.tools import need

NO_LINK = "on this machine: Function not implemented"
COLLECTS = """
import asyncio, json, pathlib, sys
from asyncdeploy.collect.collect import sync_results
from asyncdeploy.values.events import Noted
from tests.support.remotes.shell_remote import ShellRemote

async def main():
    async with ShellRemote(pathlib.Path(sys.argv[1])) as remote:
        done = await sync_results(remote, "~/out", sys.argv[2], allow_partial=True)
        notes = [event.text for event in remote.events if isinstance(event, Noted)]
    print(json.dumps([done.files, done.skipped, notes]))

asyncio.run(main())
"""


async def collected_by(words: tuple[str, ...], node: Path, home: Path) -> tuple[int, dict[str, str], list[str]]:
    """Collect in a process of its own, behind these words; return the files, what was left behind, and the notes."""
    words = (*words, sys.executable, "-c", COLLECTS, str(node), str(home))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    text, _ = await process.communicate()
    assert process.returncode == 0
    answer: list[Any] = json.loads(text)
    return answer[0], dict(answer[1]), answer[2]


async def test_p4_an_exfat_disk_takes_what_it_can(remote: ShellRemote, out: Path, tmp_path: Path) -> None:
    write(out, {"a": "a", "d/tool": "x", "d/b": "b", "12:30.log": "x", "at 12:30/f": "x", "A": "other", "z": "z"})
    (out / "d/tool").chmod(0o755)
    (out / "d/link").symlink_to("b")
    with exfat_disk(tmp_path / "disk") as disk:
        home = disk / "results"
        with pytest.raises(CollectIncomplete) as caught:
            await sync_results(remote, "~/out", home)
        done = caught.value.collected
        here = {b"A": b"other", b"d": None, b"d/tool": b"x", b"d/b": b"b", b"z": b"z"}
        assert tree(home) == here
        assert {name for name, _ in done.skipped} == {"a", "12:30.log", "at 12:30", "at 12:30/f", "d/link"}
        assert dict(done.skipped)["d/link"] == NO_LINK
        assert done.files == 4
        write(out, {"d/b": "new b"})
        again = await sync_results(remote, "~/out", home, allow_partial=True)
        assert (again.received, again.skipped) == (1, done.skipped)
        assert tree(home) == here | {b"d/b": b"new b"}
        assert not parts(home)


@pytest.mark.parametrize(
    "calls, error, left, noted",
    [
        (("fchmod",), "EPERM", set(), ["modes"]),
        (("utimensat",), "EPERM", set(), ["times"]),
        (("symlinkat",), "EPERM", {"d/link"}, []),
        (("fchmod", "utimensat", "symlinkat", "flock"), "EOPNOTSUPP", {"d/link"}, ["modes", "times"]),
    ],
)
async def test_p4_what_a_disk_refuses_costs_nothing_else(
    out: Path, home: Path, calls: tuple[str, ...], error: str, left: set[str], noted: list[str]
) -> None:
    write(out, {"a": "a", "d/b": "b"})
    (out / "d/link").symlink_to("b")
    files, skipped, notes = await collected_by(refused(*calls, error=error), out.parent, home)
    assert set(skipped) == left
    assert [line.split(" of files: ")[0] for line in notes if "keeps no" in line] == [
        f"{home} keeps no {what}" for what in noted
    ]
    assert files == 3 - len(left)
    link: dict[bytes, object] = {} if left else {b"d/link": "-> b"}
    assert tree(home) == {b"a": b"a", b"d": None, b"d/b": b"b", **link}
    assert ((home / "a").stat().st_mtime_ns == LONG_AGO_NS) == ("utimensat" not in calls)
    assert not parts(home)


async def test_p4_a_file_that_the_disk_does_not_take_costs_nothing_else(out: Path, home: Path) -> None:
    """FAT takes no file of 4 GiB, this process none of 1 MB."""
    need("prlimit")
    write(out, {"a": "a", "big": bytes(3_000_000), "z": "z"})
    files, skipped, _ = await collected_by(("prlimit", "--fsize=1000000"), out.parent, home)
    assert (files, skipped) == (2, {"big": "on this machine: File too large"})
    assert tree(home) == {b"a": b"a", b"z": b"z"}


async def test_p4_a_name_that_cannot_be_put_costs_nothing_else(out: Path, home: Path) -> None:
    """As where another program holds a file open on SMB, or a disk knows no such name."""
    write(out, {"a": "a", "d/b": "b"})
    files, skipped, _ = await collected_by(refused("rename", "renameat", "renameat2", error="EACCES"), out.parent, home)
    assert files == 0
    assert skipped == dict.fromkeys(("a", "d/b"), "on this machine: Permission denied")
    assert tree(home) == {b"d": None}


async def test_p4_what_changed_here_meanwhile_costs_nothing_else(tmp_path: Path, out: Path, home: Path) -> None:
    """The node sends only what a log grew by; its beginning here is another one by then."""
    write(out, {"a": "a", "log": "old "})
    async with Meddler(tmp_path / "node", lambda: None) as remote:
        await sync_results(remote, "~/out", home)
        write(out, {"a": "aa", "log": "old and new"})
        remote.meddle = lambda: (home / "log").write_text("mine")
        with pytest.raises(CollectIncomplete, match=r"log.* was changed here while it was collected"):
            await sync_results(remote, "~/out", home)
    assert tree(home) == {b"a": b"aa", b"log": b"mine"}
