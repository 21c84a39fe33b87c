"""Scripts of people that die of an error of ours, and how many lines they see of it: their own line, what, why."""

import subprocess
import sys
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.places import ROOT

HEAD = """\
import asyncio, logging, sys
import anyio
import asyncdeploy as ad
GONE = ad.Node("gpu..a", user="root", name="gpu-a")
async def direct():
    async with ad.Pool() as pool:
        await ad.run_command(pool.at(GONE), "hostname")
async def fleet():
    async with ad.Pool() as pool:
        report = await ad.run_all(GONE, "hostname", pool=pool)
        report.unwrap()
async def group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(direct())
        tasks.create_task(asyncio.sleep(999))
async def raises(node):
    raise LookupError("no such thing")
async def theirs():
    (await ad.map_nodes([f"gpu{number:03}" for number in range(100)], raises)).unwrap()
async def hundred():
    async def work(node):
        number = int(node.host.removeprefix("gpu"))
        what = f"{node.name}: exited {number % 7}" if number % 3 else f"{node.name} is odd"
        raise ad.DeployError(node.name, what, f"look at number {number % 5}", "\\n".join("12345678"))
    (await ad.map_nodes([f"gpu{number:03}" for number in range(100)], work)).unwrap()
async def launch():
    frames = ("train.py:9 in <module>", "model.py:1 in forward")
    log = "\\n".join(f"line {number}" for number in range(5))
    raise ad.LaunchFailed("gpu-a", "run x failed: rank 0 (status 1) on gpu-a failed", "more memory", log, rank=0,
        node_rank=0, local_rank=0, world_size=1, cause="MemoryError: no", frames=frames, log="~/log")
async def logged():
    for work in (direct, fleet):
        try:
            await work()
        except Exception:
            logging.exception("caught")
"""
WHAT = "gpu..a is no host name: a part between two dots is empty"
HINT = "hint: check the name, or give an address"


def seen(folder: Path, last: str, *options: str) -> str:
    """What a person sees of a script that ends with this line; its path is "script.py"."""
    script = folder / "script.py"
    script.write_text(f"{HEAD}{last}\n")
    words = [sys.executable, *options, str(script)]
    done = subprocess.run(words, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert (done.returncode == 0) == ("logged" in last)
    return done.stderr.replace(str(script), "script.py")


@pytest.mark.parametrize("runner", ["asyncio.run(direct())", "anyio.run(direct)"])
def test_one_error_is_their_lines_and_ours_once(tmp_path: Path, runner: str) -> None:
    line = len(HEAD.splitlines()) + 1
    assert seen(tmp_path, runner).splitlines() == [
        "Traceback (most recent call last):",
        f'  File "script.py", line {line}, in <module>',
        f"    {runner}",
        '  File "script.py", line 7, in direct',
        '    await ad.run_command(pool.at(GONE), "hostname")',
        f"asyncdeploy.ConnectError: gpu-a: {WHAT}",
        HINT,
    ]


def test_a_fleet_says_how_many_and_the_first_error_once(tmp_path: Path) -> None:
    assert seen(tmp_path, "asyncio.run(fleet())").splitlines()[3:] == [
        '  File "script.py", line 11, in fleet',
        "    report.unwrap()",
        f"asyncdeploy.FleetError: 1 of 1 node failed: gpu-a: {WHAT}",
        HINT,
    ]


def test_in_a_group_of_theirs_each_error_is_said_once(tmp_path: Path) -> None:
    text = seen(tmp_path, "asyncio.run(group())")
    assert "    | asyncdeploy." in text
    assert (text.count(WHAT), text.count(HINT), "asyncdeploy/" in text) == (1, 1, False)
    assert len(text.splitlines()) == 13


def test_what_their_own_code_raised_is_shown_with_its_place(tmp_path: Path) -> None:
    raised = "the work for this node raised LookupError: no such thing"
    assert seen(tmp_path, "asyncio.run(theirs())").splitlines() == [
        "Traceback (most recent call last):",
        '  File "script.py", line 17, in raises',
        '    raise LookupError("no such thing")',
        "LookupError: no such thing",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        f"asyncdeploy.FleetError: 100 of 100 nodes failed: gpu[000-099]: {raised}",
    ]


def test_a_hundred_nodes_with_many_errors_fit_a_screen(tmp_path: Path) -> None:
    text = seen(tmp_path, "asyncio.run(hundred())")
    lines = text.splitlines()
    assert len(lines) <= 30
    assert next(line for line in lines if line.startswith("asyncdeploy.FleetError")).startswith(
        "asyncdeploy.FleetError: 100 of 100 nodes failed: gpu[000,015,030,045,060,075,090]"
    )
    assert lines[-1].startswith("and other errors of ")
    assert "asyncdeploy/" not in text


def test_a_launch_says_its_root_cause_in_a_dozen_lines(tmp_path: Path) -> None:
    lines = seen(tmp_path, "asyncio.run(launch())").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[2].startswith("    raise ad.LaunchFailed(")
    assert lines[3:] == [
        "asyncdeploy.LaunchFailed: run x failed: rank 0 (status 1) on gpu-a failed",
        "ROOT CAUSE  gpu-a, rank 0 (node rank 0, local rank 0)",
        "  MemoryError: no",
        "    train.py:9 in <module> -> model.py:1 in forward",
        "  last 3 lines of its log (full: ~/log on gpu-a)",
        "  line 2",
        "  line 3",
        "  line 4",
        "hint: more memory",
    ]


def test_logging_shows_no_frame_of_ours(tmp_path: Path) -> None:
    text = seen(tmp_path, "asyncio.run(logged())")
    assert "script.py" in text
    assert (text.count("Traceback"), text.count(HINT), "asyncdeploy/" in text, "asyncssh" in text) == (
        2,
        2,
        False,
        False,
    )


def test_pytest_shows_no_frame_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(f"{HEAD}\ndef test_it():\n    asyncio.run(direct())\n")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "test_theirs.py"]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert f"E   asyncdeploy.ConnectError: gpu-a: {WHAT}\nE   {HINT}" in done.stdout
    assert "asyncdeploy/" not in done.stdout


def test_who_asks_for_all_of_it_gets_it(tmp_path: Path) -> None:
    text = seen(tmp_path, "asyncio.run(direct())", "-X", "dev")
    assert "asyncdeploy/connect/" in text
    assert "The above exception was the direct cause" in text


def test_a_way_of_showing_errors_that_is_theirs_stays(tmp_path: Path) -> None:
    text = seen(tmp_path, "sys.excepthook = lambda *seen: sys.stderr.write('mine')\nasyncio.run(direct())")
    assert text == "mine"


def test_a_wrong_argument_is_their_line_and_what_was_expected(tmp_path: Path) -> None:
    said = "run_all command: a Command, text or a function was expected, got ['hostname']"
    assert seen(tmp_path, "asyncio.run(ad.run_all(GONE, ['hostname']))").splitlines() == [
        "Traceback (most recent call last):",
        f'  File "script.py", line {len(HEAD.splitlines()) + 1}, in <module>',
        "    asyncio.run(ad.run_all(GONE, ['hostname']))",
        f"TypeError: {said}; Command.of('hostname') quotes each word",
    ]


def test_a_long_proof_leaves_room_for_what_happened_and_the_hint(tmp_path: Path) -> None:
    raised = "raise ad.ProgramFailed('gpu-a', 'it broke', 'look', '\\n'.join(map(str, range(40))))"
    lines = seen(tmp_path, raised).splitlines()
    assert (len(lines), lines[0]) == (12, "asyncdeploy.ProgramFailed: gpu-a: it broke")
    assert lines[1] == "  | ... (31 lines before: error.evidence)"
    assert lines[-2:] == ["  | 39", "hint: look"]


def test_a_notebook_shows_the_same_lines() -> None:
    error = ad.ConnectError("gpu-a", "it is off", "turn it on", "nothing came")
    assert error._render_traceback_() == [
        "asyncdeploy.ConnectError: gpu-a: it is off",
        "  | nothing came",
        "hint: turn it on",
    ]


def test_errors_that_are_not_ours_are_shown_as_python_shows_them(tmp_path: Path) -> None:
    text = seen(tmp_path, "error = ad.DeployError('a', 'b')\nasyncio.run(raises(1))")
    assert "asyncio/runners.py" in text
    assert text.endswith("LookupError: no such thing\n")
