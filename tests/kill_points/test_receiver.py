"""A push whose receiver is killed at any of its system calls, or whose disk fails at any of them."""

import random
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.push.push import finish_push, push_code
from tests.support.events import details
from tests.support.kill_points.points import (
    ALL,
    CHANGES,
    GROWS,
    POINTS,
    SEED,
    Doom,
    Plan,
    Tally,
    belonging,
    settled,
    spread,
    word_of,
)
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.trees import change_files, tree, write

LARGE = 5 << 20  # travels in pieces, of which only those that changed
FAULTS = [
    pytest.param("", None, False, 0.16, id="killed"),
    pytest.param("ENOSPC", GROWS, True, 0.04, id="full"),
    pytest.param("ENOSPC", CHANGES, False, 0.04, id="refused"),
    pytest.param("EIO", ALL, False, 0.06, id="broken"),
]


def change(source: Path, dice: random.Random) -> None:
    change_files(source, dice)
    if not (source / "large").exists():
        write(source, {"large": dice.randbytes(LARGE)})
    with (source / "large").open("r+b") as file:
        file.seek(dice.randrange(LARGE))
        file.write(dice.randbytes(100))
    (source / "link").unlink(missing_ok=True)
    (source / "link").symlink_to(f"many/{dice.randrange(30)}")


@pytest.mark.long
@pytest.mark.timeout(120 + POINTS)
@pytest.mark.parametrize("error, calls, on, share", FAULTS)
async def test_the_old_tree_or_the_new_one(
    tmp_path: Path, error: str, calls: tuple[str, ...] | None, on: bool, share: float
) -> None:
    dice, home, source = random.Random(SEED), tmp_path / "home", tmp_path / "proj"
    site, within = home / "proj", str(home) if error else ""
    async with ShellRemote(home) as remote:
        change(source, dice)
        await push_code(remote, source)
        change(source, dice)
        doom = Doom(tmp_path, Plan("", 0, calls, within, error))
        async with ShellRemote(home, shell=doom.shell) as counting:
            await push_code(counting, source)
        total = (await doom.counted(["python3"]))["python3", "0"]
        tally = Tally(f"a receiver that makes {total} calls, {error or 'KILL'}")
        for when in spread(total, share, dice):
            plan = Plan("0", when, calls, within, error, on)
            before, alive = tree(site), set(belonging(home))
            change(source, dice)
            doom = Doom(tmp_path, plan)
            came = await pushed(home, source, doom)
            what = f"{plan}, which was {doom.hit()}; SEED={SEED}; it said {came}"
            await settled(home, alive, what)
            assert came != "pushed" or tree(site) == tree(source), what
            if (site / ".asyncdeploy/journal").exists():
                async with ShellRemote(home) as next_one:
                    await finish_push(next_one, "~/proj")
                assert tree(site) == tree(source), what
            assert tree(site) in (before, tree(source)), what
            tally.add(doom.hit(), came)
            await push_code(remote, source)
            assert tree(site) == tree(source), what
            assert not list((site / ".asyncdeploy/staging").iterdir()), what
        await push_code(remote, source)
        assert details(remote.events)[-1] == "= unchanged"
    tally.tell()


async def pushed(home: Path, source: Path, doom: Doom) -> str:
    """Push over a line whose worker is doomed; what is said of it."""
    async with ShellRemote(home, shell=doom.shell) as doomed:
        try:
            await push_code(doomed, source)
        except ad.DeployError as error:
            return word_of(error)
    return "pushed"
