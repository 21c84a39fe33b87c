"""P12: a site stands only where nobody but us and root can put files; whatever another user prepared is refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncdeploy.push.push import push_code
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import WorkspaceConflict
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.users import STRANGER, Stranger
from tests.support.remotes.plain_remote import SHELLS, PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import tree, write


@pytest.fixture(params=["python", *SHELLS])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    home = tmp_path / "home"
    async with ShellRemote(home) if request.param == "python" else PlainRemote(home, request.param) as found:
        yield found


def to(source: Path, place: Path | str) -> Workspace:
    """The project, on its way to a place where it would also overwrite."""
    return Workspace(source, remote_path=str(place), on_conflict="overwrite")


async def test_p12_code_of_another_user_is_never_run_in_the_place_of_ours(
    remote: ShellRemote, source: Path, stranger: Stranger, tmp_path: Path
) -> None:
    site, proof = stranger.shared / "proj", tmp_path / "his code ran"
    stranger.run("mkdir -m 777 proj")
    refused: WorkspaceConflict | None = None
    try:
        await push_code(remote, to(source, site))
    except WorkspaceConflict as error:
        refused = error
    stranger.sh(f"cd proj && rm -f run.sh && echo 'id -u >\"{proof}\"' >run.sh")
    if refused is None:
        await run_command(remote, Command("sh run.sh", cwd=str(site)))
    assert not proof.exists(), f"it ran as uid {proof.read_text()}"
    assert refused is not None
    assert f"{site} belongs to another user (uid {STRANGER})" in refused.message
    assert not list(site.glob(".asyncdeploy"))


WAYS = {
    "his closed folder": ("mkdir -m 755 proj", "proj", "belongs to another user"),
    "below his folder": ("mkdir -m 777 his", "his/proj", "his belongs to another user"),
    "far below his folder": ("mkdir -m 777 his", "his/a/b/proj", "his belongs to another user"),
    "his link to our folder": ("ln -s ours proj", "proj", "proj belongs to another user"),
    "his link on the way": ("ln -s ours way", "way/proj", "way belongs to another user"),
    "his link to nothing": ("ln -s nothing proj", "proj", "proj belongs to another user"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_p12_what_another_user_prepared_is_refused_by_name(
    remote: ShellRemote, source: Path, stranger: Stranger, way: str
) -> None:
    script, place, words = WAYS[way]
    (stranger.shared / "ours").mkdir()
    stranger.run(script)
    with pytest.raises(WorkspaceConflict, match=words) as caught:
        await push_code(remote, to(source, stranger.shared / place))
    assert "remote_path" in caught.value.hint
    assert not list(stranger.shared.rglob("a.py"))
    assert not list(stranger.shared.rglob(".asyncdeploy"))


async def test_p12_our_own_link_does_not_lead_to_another_users_folder(
    remote: ShellRemote, source: Path, stranger: Stranger
) -> None:
    stranger.run("mkdir -m 777 his && mkdir -m 777 his/proj")
    (remote.home / "way").symlink_to(stranger.shared / "his")
    with pytest.raises(WorkspaceConflict, match="his belongs to another user"):
        await push_code(remote, to(source, "~/way/proj"))


async def test_p12_a_folder_where_all_may_write_is_no_site_and_no_way_to_one(
    remote: ShellRemote, source: Path, stranger: Stranger
) -> None:
    ours = stranger.shared / "ours"
    ours.mkdir()
    ours.chmod(0o777)
    for place in (ours, ours / "proj"):
        with pytest.raises(WorkspaceConflict, match=f"every user of the node may write to {ours}") as caught:
            await push_code(remote, to(source, place))
        assert "chmod o-w" in caught.value.hint
    ours.chmod(0o1777)
    with pytest.raises(WorkspaceConflict, match=f"every user of the node may write to {ours}"):
        await push_code(remote, to(source, ours))
    await push_code(remote, to(source, ours / "proj"))
    assert tree(ours / "proj") == tree(source)


async def test_p12_our_own_folders_in_a_shared_one_are_used(
    remote: ShellRemote, source: Path, stranger: Stranger
) -> None:
    await push_code(remote, to(source, stranger.shared / "proj"))
    (stranger.shared / "way").symlink_to("real")
    (stranger.shared / "real").mkdir(mode=0o775)
    await push_code(remote, to(source, stranger.shared / "way/deep/proj"))
    assert tree(stranger.shared / "real/deep/proj") == tree(stranger.shared / "proj") == tree(source)
    write(source, {"a.py": "new"})
    await push_code(remote, to(source, stranger.shared / "proj"))
    assert not stranger.sh("echo his >proj/a.py || mv proj his")


async def test_p12_a_home_that_another_user_owns_is_still_home(
    remote: ShellRemote, source: Path, stranger: Stranger
) -> None:
    stranger.run("mkdir -m 777 home")  # as a container's image may have it: who owns our home owns our login
    remote.env["HOME"] = str(stranger.shared / "home")
    await push_code(remote, source)
    assert tree(stranger.shared / "home/proj") == tree(source)


async def test_p11_the_home_folder_is_no_site(remote: ShellRemote, source: Path) -> None:
    for place in (remote.home, remote.home.parent):
        with pytest.raises(WorkspaceConflict, match="is the home folder or holds it"):
            await push_code(remote, to(source, place))
    (remote.home / "link").symlink_to(remote.home)
    with pytest.raises(WorkspaceConflict, match="is the home folder or holds it"):
        await push_code(remote, to(source, "~/link"))
    assert [path.name for path in remote.home.iterdir()] == ["link"]
