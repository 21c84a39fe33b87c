"""One node that hangs costs the others nothing: a node's own time, and what is kept of a call that was cancelled."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]


@pytest.fixture
def fleet(start_sshd: StartSshd) -> Iterator[list[SshdNode]]:
    """Three nodes, and a fourth whose home is a disk that does not answer: its first command hangs for ever."""
    nodes = [start_sshd(f"node-{number}") for number in range(4)]
    yield nodes
    for pid in nodes[3].processes():
        os.kill(pid, signal.SIGKILL)


def hang(sshd: SshdNode) -> None:
    """Let the node's login shell stand still, as on a dead network home."""
    (sshd.home / ".bashrc").write_text("kill -STOP $$\n")


def pool_of(fleet: list[SshdNode]) -> ad.Pool:
    return ad.Pool(host_keys=ad.HostKeys.strict(fleet[0].known_hosts))


@pytest.mark.long
async def test_r5_a_node_that_hangs_is_unknown_and_the_others_are_done(fleet: list[SshdNode], tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('fine')\n")
    hang(fleet[3])
    nodes = [sshd.node for sshd in fleet]
    async with pool_of(fleet) as pool:
        deployed = await ad.deploy_all(nodes, tmp_path, ad.SystemEnv(), at_most_s=8, pool=pool)
        assert [outcome.state for outcome in deployed] == ["ok", "ok", "ok", "unknown"]
        late = deployed.outcomes[3].error
        assert isinstance(late, ad.DeadlineExceeded)
        assert late.message.startswith("not done within 8 s (at_most_s); last seen: connect is done, ")
        ran = await ad.run_all(nodes, "echo hello", at_most_s=4, pool=pool)
        assert [outcome.state for outcome in ran] == ["ok", "ok", "ok", "unknown"]


async def test_r5_outcomes_can_be_taken_as_they_come(fleet: list[SshdNode]) -> None:
    hang(fleet[3])
    nodes = [sshd.node for sshd in fleet]
    async with pool_of(fleet) as pool:

        async def work(node: ad.Node) -> ad.Completed:
            return await ad.run_command(pool.at(node), "exit 3" if node == nodes[1] else "true")

        outcomes = ad.iter_nodes(nodes, work, judged=True, at_most_s=6)
        came = [(nodes.index(outcome.node), outcome.state) async for outcome in outcomes]
    assert came[-1] == (3, "unknown")
    assert sorted(came) == [(0, "ok"), (1, "failed"), (2, "ok"), (3, "unknown")]


async def test_r5_a_cancelled_call_is_back_in_time_and_keeps_what_it_has(fleet: list[SshdNode]) -> None:
    hang(fleet[3])
    async with pool_of(fleet) as pool:
        await ad.run_all([sshd.node for sshd in fleet[:3]], "true", pool=pool)
        start = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(3):
                await ad.run_all([sshd.node for sshd in fleet], "echo hello", pool=pool)
        assert time.monotonic() - start < 3 + 5 + 1
    report = ad.partial_report(caught.value)
    assert report is not None
    assert [outcome.state for outcome in report] == ["ok", "ok", "ok", "cancelled"]
    assert report.outcomes[0].value.text == "hello"


async def test_r9_nodes_do_not_share_a_file(tmp_path: Path) -> None:
    """Two thirds of the output were lost, and the report was ok."""
    nodes = ["root@192.0.2.1", "root@192.0.2.2"]
    command = ad.Command("hostname", stdout_to=tmp_path / "out")
    with pytest.raises(ValueError, match=r"stdout_to: a file for each node was expected; .* would be written by"):
        await ad.run_all(nodes, command)
    with pytest.raises(ValueError, match="stdout_to"):
        await ad.deploy_and_run(nodes, tmp_path, command)
    with pytest.raises(ValueError, match="stdout_to"):
        await ad.run_all(nodes, lambda node: ad.Command("hostname", stderr_to=tmp_path / node.host[:5]))
    (tmp_path / "link").symlink_to("out")
    names = {"192.0.2.1": "out", "192.0.2.2": "link"}
    with pytest.raises(ValueError, match="stdout_to"):
        await ad.run_all(nodes, lambda node: ad.Command("hostname", stdout_to=tmp_path / names[node.host]))
