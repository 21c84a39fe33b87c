"""Ring 4: every end of the leash over real sshd. What we start attached dies with us, however hard it tries not to."""

import asyncio
import random
import signal
from collections.abc import Callable, Sequence

import anyio
import pytest

from asyncdeploy.connect.limits import Limits
from asyncdeploy.run.attached import run_command
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import ConnectionLost
from tests.support.beds.client import client
from tests.support.beds.network import Network
from tests.support.beds.pools import at
from tests.support.beds.sshd_node import SshdNode
from tests.support.programs.hiding import alive, all_hidden, hidden_in, hiding_line
from tests.support.programs.stubborn import timed_out
from tests.support.waiting import BACK_S, eventually

UserNode = Callable[..., SshdNode]
RUN = "await run_command(remote, args[0])"
# Signs of life often enough for a short silence, and a short grace.
HASTE = "from asyncdeploy.remote import worker; from asyncdeploy.run import attached"
HASTE += "; worker.HEARTBEAT_S = attached.GRACE_S = 0.5"


@pytest.fixture(params=["user", "root"])
def sshd(request: pytest.FixtureRequest, user_node: UserNode) -> SshdNode:
    """A node that we log in to as a plain user, and one as root."""
    return user_node("bash", root=request.param == "root")


async def test_a_timeout(sshd: SshdNode) -> None:
    async with at(sshd) as remote:
        error = await timed_out(remote, sshd.home, Command(hiding_line()))
        assert alive(hidden_in(sshd.home)) == []
        assert error.ended
        assert (await run_command(remote, "echo again")).text == "again"


async def test_a_cancellation(sshd: SshdNode) -> None:
    async with at(sshd) as remote:
        run = asyncio.create_task(run_command(remote, hiding_line()))
        seen = await all_hidden(sshd.home)
        run.cancel()
        with anyio.fail_after(BACK_S), pytest.raises(asyncio.CancelledError):
            await run
        assert alive(seen) == []


async def test_ctrl_c(sshd: SshdNode) -> None:
    """G1: the client is back soon, and by then nothing lives."""
    async with client(sshd, RUN, hiding_line()) as process:
        seen = await all_hidden(sshd.home)
        process.send_signal(signal.SIGINT)
        with anyio.fail_after(BACK_S):
            await process.communicate()
        assert process.returncode == -signal.SIGINT
        assert alive(seen) == []


async def test_ctrl_c_twice(sshd: SshdNode) -> None:
    """G1: the second one does not wait for the node; the leash does the rest."""
    async with client(sshd, RUN, hiding_line()) as process:
        seen = await all_hidden(sshd.home)
        process.send_signal(signal.SIGINT)
        await eventually(lambda: not seen[0].is_alive(), "the leader has died of the first one's TERM")
        process.send_signal(signal.SIGINT)
        await process.communicate()
        await eventually(lambda: alive(seen) == [])


async def test_our_own_sigkill(sshd: SshdNode) -> None:
    async with client(sshd, RUN, hiding_line()) as process:
        seen = await all_hidden(sshd.home)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await eventually(lambda: alive(seen) == [])


async def test_the_sessions_sshd_is_killed(sshd: SshdNode) -> None:
    """B5."""
    async with at(sshd) as remote:
        run = asyncio.create_task(run_command(remote, hiding_line()))
        seen = await all_hidden(sshd.home)
        sshd.end_sessions(signal.SIGKILL)
        with pytest.raises(ConnectionLost) as caught:
            await run
        assert caught.value.outcome == "unknown"
        await eventually(lambda: alive(seen) == [])
        assert (await run_command(remote, "echo again")).text == "again"


async def test_b10_a_line_that_goes_dead_without_a_word(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends find out by themselves; until then signs of life keep a run that is longer than such a silence."""
    silence_s = 2.0
    monkeypatch.setattr("asyncdeploy.remote.worker.HEARTBEAT_S", 0.5)
    monkeypatch.setattr("asyncdeploy.run.attached.GRACE_S", 0.5)
    sshd = network.start("mute", config={"SetEnv": f"ASYNCDEPLOY_SILENCE_S={silence_s}"})
    async with at(sshd, limits=Limits(keepalive_s=1)) as remote:
        assert (await run_command(remote, f"sleep {silence_s + 1}; echo alive")).text == "alive"
        run = asyncio.create_task(run_command(remote, hiding_line()))
        await eventually(lambda: len(hidden_in(sshd.home)) == 4, "four have written their pids there")
        assert len(sshd.processes()) == 6  # and our worker, and its keeper
        network.cut(sshd)
        with pytest.raises(ConnectionLost) as caught:
            await run
        assert caught.value.outcome == "unknown"
        await eventually(lambda: not sshd.processes(), "the node has ended all of it alone")


async def test_b7_a_nap_longer_than_the_silence(start_sshd: Callable[..., SshdNode]) -> None:
    """Our kernel answers while we sleep, so the line lives; what we hear when we wake is no success."""
    sshd = start_sshd("patient", config={"SetEnv": "ASYNCDEPLOY_SILENCE_S=3"})
    async with client(sshd, f"{HASTE}; {RUN}", hiding_line()) as process:
        seen = await all_hidden(sshd.home)
        process.send_signal(signal.SIGSTOP)
        await eventually(lambda: alive(seen) == [])
        process.send_signal(signal.SIGCONT)
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert "\nasyncdeploy.ConnectionLost: patient: our worker on the node ended" in errors.decode()


async def test_g2_cancelled_at_any_moment_nothing_stays(sshd_nodes: Sequence[SshdNode]) -> None:
    """Four at once, from before the connection stands to long after the command runs."""
    chance = random.Random(2)
    async with at(sshd_nodes[0]) as remote:

        async def cancel_often() -> None:
            for _ in range(25):
                with (
                    anyio.fail_after(BACK_S),
                    anyio.move_on_after(chance.choice((0, 0.002, 0.02, 0.1)) * chance.random()),
                ):
                    await run_command(
                        remote, Command("sleep 999 & setsid sleep 999 & cat; sleep 999", stdin="x" * 9999)
                    )

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(cancel_often)
        assert (await run_command(remote, "echo fine")).text == "fine"
        ours = [line for line in sshd_nodes[0].processes().values() if "sleep 999" in line]
        assert ours == []
