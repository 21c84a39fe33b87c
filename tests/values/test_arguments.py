"""K17: what a caller hands to us is looked at before anything connects; the error says what was meant."""

import asyncio
import inspect
import math
import typing
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pytest

import asyncdeploy as ad

NODE = ad.Node("gpu1", user="root")


async def use(call: Callable[[ad.Pool], Any]) -> None:
    """Await what a call gives; whatever it is about, no node is there that could be reached."""
    async with ad.Pool() as pool:
        given = call(pool)
        if inspect.isawaitable(given):
            await given
        elif hasattr(given, "__aiter__"):
            async for _ in given:
                pass
        elif hasattr(given, "__aenter__"):
            async with given:
                pass


WRONG_KINDS: dict[str, tuple[Callable[[ad.Pool], Any], str]] = {
    "a name for a Node": (lambda p: p.at("gpu1"), "Node.parse"),
    "a Node for a Remote": (lambda p: ad.run_command(NODE, "true"), r"pool\.at\(node\)"),
    "a pool for a Remote": (lambda p: ad.run_command(p, "true"), r"pool\.at\(node\)"),
    "text for a launcher": (lambda p: ad.fan_out([NODE], ".", "python x", ad.UvEnv()), "Torchrun|Ranks"),
    "words for a command": (lambda p: ad.run_all([NODE], ["ls", "-l"]), r"Command\.of\('ls', '-l'\)"),
    "words for a Command": (lambda p: ad.Command(["ls", "-l"]), "line"),
    "a class for an environment": (lambda p: ad.deploy_all([NODE], ".", ad.UvEnv), r"call it: UvEnv\(\.\.\.\)"),
    "a name for an environment": (lambda p: ad.deploy_all([NODE], ".", "uv"), r"UvEnv\(\)"),
    "a word for host keys": (lambda p: ad.Pool(host_keys="accept_new"), r"HostKeys\.accept_new\(\)"),
    "a list for pins": (lambda p: ad.HostKeys.pinned(["SHA256:x"]), "HostKeys.pinned pins: a mapping"),
    "a node for a pin's name": (lambda p: ad.HostKeys.pinned({NODE: "SHA256:x"}), "a mapping of text"),
    "no pin": (lambda p: ad.HostKeys.pinned({"gpu1": None}), "HostKeys.pinned pins"),
    "a name to forget": (lambda p: ad.HostKeys.strict().forget("gpu1"), "HostKeys.forget node: a Node"),
    "a number for known_hosts": (lambda p: ad.HostKeys.strict(5), "HostKeys.strict known_hosts"),
    "a class for a pool": (lambda p: ad.run_all([NODE], "true", pool=ad.Pool), "pool"),
    "a report for nodes": (lambda p: ad.run_all(REPORT, "true"), "nodes: text or a Node"),
    "a number for nodes": (lambda p: ad.run_all(7, "true"), "nodes"),
    "no nodes at all": (lambda p: ad.run_all(None, "true"), "nodes"),
    "a number for a command": (lambda p: ad.run_all([NODE], 7), "command"),
    "nothing for a command": (lambda p: ad.Command(None), "line"),
    "a time as text": (lambda p: ad.Command("true", timeout_s="5"), "seconds"),
    "a flag for a number": (lambda p: ad.run_all([NODE], "true", at_once=True), "at_once"),
    "a report for deployments": (lambda p: ad.collect_all(REPORT, "x", "y"), r"report\.unwrap\(\)"),
    "a job's id for a job": (lambda p: ad.stop_job(p.at(NODE), "train-abcd"), r"find_job\(remote, id\)"),
    "a launch's id for a launch": (lambda p: ad.wait_launch("train-abcd"), r"find_launch\(nodes, id\)"),
    "a coroutine that nobody awaited": (lambda p: ad.wait_launch(asyncio.sleep(0)), "await it"),
    "a script in a list": (lambda p: ad.Torchrun(["train.py"]), "script"),
    "None among a script's arguments": (lambda p: ad.Torchrun("train.py", "--lr", None), "args"),
    "a list for a folder": (lambda p: ad.Workspace(["a"]), "Workspace"),
    "numbers for limits": (lambda p: ad.sync_results(p.at(NODE), "a", "b", limits=5), "limits"),
    "a number for restart": (lambda p: ad.fan_out([NODE], ".", ad.Ranks("x"), restart=3), r"Restart\("),
    "env as a list": (lambda p: ad.Command("true", env=["A=1"]), "env"),
}


@pytest.mark.parametrize("name", WRONG_KINDS)
async def test_k17_a_wrong_kind_of_thing_is_refused_by_name(name: str) -> None:
    call, words = WRONG_KINDS[name]
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        await use(call)
    assert "expected, got" in str(caught.value)


WRONG_VALUES: dict[str, Callable[[ad.Pool], Any]] = {
    "NaN seconds": lambda p: ad.run_all([NODE], "true", at_most_s=math.nan),
    "seconds below zero": lambda p: ad.wait_job(p.at(NODE), attrs.evolve(JOB), timeout_s=-1),
    "endless grace": lambda p: ad.stop_job(p.at(NODE), JOB, grace_s=math.inf),
    "a grace of 400 digits": lambda p: ad.stop_job(p.at(NODE), JOB, grace_s=10**400),
    "none at once": lambda p: ad.run_all([NODE], "true", at_once=0),
    "a word for relay": lambda p: ad.push_all([NODE], ".", relay="yes"),
    "no nodes": lambda p: ad.run_all([], "true"),
    "an empty line": lambda p: ad.Command(""),
    "NUL in a line": lambda p: ad.Command("a\0b"),
    "NUL in a variable": lambda p: ad.Command("true", env={"A": "\0"}),
    "a variable's name": lambda p: ad.Command("true", env={"A=B": "1"}),
}
REPORT = ad.Report((ad.Outcome(NODE, "ok", 1),))
JOB = ad.Job(NODE, "a-abcdefgh", "a")


@pytest.mark.parametrize("name", WRONG_VALUES)
async def test_k17_a_wrong_value_is_refused_before_anything_connects(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected|NUL byte"):
        await use(WRONG_VALUES[name])


NO_NODES = [
    *("1", "127.1", "0x7f", "root@gpu1 22", "gpu 22", "root@@gpu", "root@a@@b", "@gpu1", "root@", "root@-x"),
    *("gpu1:", "gpu1:0", "gpu1:65536", "gpu1:ssh", "[::1", "::1]:22", "gpu[1-", "gpu1\n-x", "", " "),
    *("-oProxyCommand=x", "user:pw@host"),
]


@pytest.mark.parametrize("text", NO_NODES)
async def test_k17_what_is_no_node_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no node"):
        await ad.run_all([text], "true")


def test_k17_what_fits_is_taken(tmp_path: Path) -> None:
    assert ad.Torchrun(PurePosixPath("train.py"), "--lr", 3e-4, 5, tmp_path, True).args[:2] == ("--lr", "0.0003")
    assert ad.Command("true", env={"PORT": 8080}, timeout_s=5).env
    assert ad.Workspace(tmp_path, exclude=["*.bin"])
    assert ad.UvEnv("train", python="3.11")
    assert ad.CollectLimits(include=("*.pt",))


PUBLIC = [name for name in ad.__all__ if inspect.isroutine(getattr(ad, name)) or attrs.has(getattr(ad, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_k17_who_asks_what_a_public_name_takes_is_told(name: str) -> None:
    """The checks stand before a function or a class; they hide nothing of it."""
    thing = getattr(ad, name)
    assert inspect.signature(thing) is not None
    assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        assert typing.get_type_hints(thing)
        assert "return" in typing.get_type_hints(thing)
