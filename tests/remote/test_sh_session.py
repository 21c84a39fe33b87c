"""The conversation with plain sh: signs of life, a client that vanishes or is cut short, a tool that is missing."""

import os
from pathlib import Path

import anyio
import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.push.push import push_code
from asyncdeploy.remote.sh_session import open_sh_session
from asyncdeploy.values.errors import ConnectionLost, ToolMissing
from asyncdeploy.values.events import BytesMoved, Event
from tests.support.remotes.plain_remote import SHELLS, PlainRemote
from tests.support.trees import tree, write


@pytest.mark.parametrize("shell", SHELLS)
async def test_signs_of_life_stand_between_steps_and_in_bodies(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncdeploy.remote.sh_session.HEARTBEAT_S", 0.05)
    write(tmp_path / "proj", {"big": os.urandom(3_000_000), "small": "x"})
    async with PlainRemote(tmp_path / "home", shell) as remote:
        await push_code(remote, tmp_path / "proj")
        done = await sync_results(remote, "~/proj", tmp_path / "here")
    assert done.complete
    assert tree(tmp_path / "home/proj") == tree(tmp_path / "proj") == tree(tmp_path / "here")


@pytest.mark.parametrize("shell", ["dash", "bash"])  # busybox's own timeout does not run behind a script
async def test_b10_a_silent_client_is_given_up(shell: str, tmp_path: Path) -> None:
    async with PlainRemote(tmp_path / "home", shell) as remote:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/timeout").write_text('#!/bin/sh\nshift\nPATH=${PATH#*:}\nexec timeout 1 "$@"\n')  # of 90 s
        (tmp_path / "bin/timeout").chmod(0o755)
        remote.env["PATH"] = f"{tmp_path}/bin:{remote.env['PATH']}"
        async with open_sh_session(remote, "push/push") as session:
            session.stop()
            with pytest.raises(ConnectionLost, match="ended without an answer"):
                await session.answer()


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_step_that_was_cut_is_not_run(shell: str, tmp_path: Path) -> None:
    async with PlainRemote(tmp_path / "home", shell) as remote:
        async with open_sh_session(remote, "push/push") as session:
            channel = remote.channels[-1]
            channel.send(b"%-11d\n" % 1000 + b"mkdir done")
            channel.send_eof()
            with pytest.raises(ConnectionLost):
                await session.answer()
        assert not list((tmp_path / "home").iterdir())


class Impatient(PlainRemote):
    """Cancels a push as soon as contents travel."""

    scope: anyio.CancelScope | None = None

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, BytesMoved) and self.scope is not None:
            self.scope.cancel()


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_cancelled_push_leaves_the_old_tree(shell: str, tmp_path: Path) -> None:
    source, site = tmp_path / "proj", tmp_path / "home/proj"
    write(source, {"a": "1", "b": "2"})
    async with Impatient(tmp_path / "home", shell) as remote:
        await push_code(remote, source)
        before = tree(site)
        write(source, {"a": "new", "big": os.urandom(4_000_000)})
        with anyio.CancelScope() as remote.scope:
            await push_code(remote, source)
        assert remote.scope.cancelled_caught
        assert tree(site) == before
        remote.scope = None
        await push_code(remote, source, wait_s=1)
    assert tree(site) == tree(source)


async def test_c17_a_missing_tool_is_named(tmp_path: Path) -> None:
    async with PlainRemote(tmp_path / "home", "busybox") as remote:
        (remote.sh.parent / "tar").unlink()
        write(tmp_path / "proj", {"a": "1"})
        with pytest.raises(ToolMissing, match="tar is needed") as caught:
            await push_code(remote, tmp_path / "proj")
        assert caught.value.tool == "tar"
    assert not (tmp_path / "home/proj").exists()
