"""Lines that are slow, lossy, away for a while or full of timeouts, and nodes that let nobody in or start nothing."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.connect.pool import Limits
from asyncdeploy.push.push import push_code
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import start_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import AuthError, CommandTimeout, ConnectError, DeployError
from asyncdeploy.values.events import Event, StageFinished
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.freezer import childless
from tests.support.beds.network import Network
from tests.support.beds.pools import at, pool_for, run_line
from tests.support.beds.sshd_node import Account, SshdNode
from tests.support.tools import need_root
from tests.support.waiting import eventually

StartSshd = Callable[..., SshdNode]
# 1,000 is the number to try before a release.
TIMEOUTS = int(os.environ.get("ASYNCDEPLOY_TIMEOUTS", "30"))


async def test_a4_a_connection_outlives_its_commands_timeouts(start_sshd: StartSshd) -> None:
    sshd = start_sshd("late", config={"MaxSessions": 4})
    limits = Limits(connections_per_node=1, channels_per_connection=4)
    events: list[Event] = []
    async with pool_for(sshd, limits=limits, observer=events.append) as pool:
        remote = pool.at(sshd.node)
        await run_command(remote, "true")

        async def time_out(number: int) -> None:
            with pytest.raises(CommandTimeout):
                await run_command(remote, Command(f"sleep 98{number % 10}", timeout_s=0.1))

        for first in range(0, TIMEOUTS, 3):
            await asyncio.gather(*(time_out(number) for number in range(first, first + 3)))
        assert (await run_command(remote, "echo fine")).text == "fine"
        ours = [line for line in sshd.processes().values() if "sleep 98" in line]
        assert ours == []
    connected = [event for event in events if isinstance(event, StageFinished) and event.stage == "connect"]
    assert len(connected) == 1


async def test_a6_where_packets_vanish_connecting_ends_at_its_deadline(network: Network, key_path: str) -> None:
    sshd = network.start("away")
    network.cut(sshd)
    limits = Limits(connect_timeout_s=0.3, connect_deadline_s=1)
    async with pool_for(sshd, limits=limits) as pool, asyncio.timeout(20):
        with pytest.raises(ConnectError) as caught:
            await run_line(pool, sshd.node, "true")
    assert caught.value.reason == "timeout"
    assert network.address(sshd) in caught.value.message


async def test_b2_a_short_outage_is_not_noticed(network: Network) -> None:
    """A third of the silence after which a connection is dead; what was sent meanwhile arrives afterwards."""
    sshd, events = network.start("blinks"), list[Event]()
    async with pool_for(sshd, limits=Limits(keepalive_s=1), observer=events.append) as pool:
        line = "echo begun; until [ -e go ]; do sleep 0.05; done; echo ended"
        running = asyncio.create_task(run_command(pool.at(sshd.node), line))
        await eventually(lambda: any(line.startswith("sh") or "sleep" in line for line in sshd.processes().values()))
        network.cut(sshd)
        (sshd.home / "go").touch()
        await anyio.sleep(1.2)
        assert not running.done()
        network.heal(sshd)
        assert (await running).text == "begun\nended"
    assert sum(isinstance(event, StageFinished) and event.stage == "connect" for event in events) == 1


async def test_b3_a_narrow_line_is_not_taken_for_a_dead_one(network: Network, tmp_path: Path) -> None:
    """256 kbit/s and signs of life every 15 s, both fifteen times as fast: what is sent takes longer than the silence
    after which a line is dead, and the signs of life wait behind it.
    """
    sshd, events = network.start("narrow"), list[Event]()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").write_bytes(os.urandom(2_000_000))
    async with pool_for(sshd, limits=Limits(keepalive_s=1), observer=events.append) as pool:
        remote = pool.at(sshd.node)
        await run_command(remote, "true")
        network.limit(sshd, "3840kbit")
        await push_code(remote, Workspace(tmp_path / "project"))
    assert (sshd.home / "project" / "data").read_bytes() == (tmp_path / "project" / "data").read_bytes()
    assert sum(isinstance(event, StageFinished) and event.stage == "connect" for event in events) == 1


async def test_b4_one_packet_of_five_is_lost(network: Network) -> None:
    sshd, data = network.start("lossy"), os.urandom(30_000)
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        await run_command(remote, "true")
        network.filter(sshd, "numgen random mod 5 == 0 drop", "numgen random mod 5 == 0 drop")
        for status in range(3):
            done = await run_command(remote, Command(f"cat; exit {status}", stdin=data))
            assert (done.stdout, done.status) == (data, status)


async def test_b9_keys_are_exchanged_anew_while_much_travels(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd = start_sshd("anew", config={"RekeyLimit": "1M", "LogLevel": "DEBUG1"})
    (tmp_path / "project").mkdir()
    content = os.urandom(8 << 20)
    (tmp_path / "project" / "data").write_bytes(content)
    async with at(sshd) as remote:
        site = await push_code(remote, Workspace(tmp_path / "project"))
        await sync_results(remote, f"{site.path}/data", tmp_path / "back")
    assert (tmp_path / "back" / "data").read_bytes() == content
    assert sshd.log().count("rekeying in progress") + sshd.log().count("set_newkeys: rekeying") >= 8


async def test_c19_a_node_that_can_start_nothing_more_says_so(start_sshd: StartSshd) -> None:
    sshd = start_sshd("crowded")
    async with at(sshd) as remote:
        await run_command(remote, "true")
        with childless(sshd.processes()):
            with pytest.raises(DeployError, match="Resource temporarily unavailable") as caught:
                await run_command(remote, "touch ran")
            with pytest.raises(DeployError, match="Resource temporarily unavailable"):
                await start_job(remote, "touch ran", name="never")
        assert (await run_command(remote, "echo on")).text == "on"
    assert "Traceback" not in caught.value.describe()
    assert not (sshd.home / "ran").exists()


async def test_c20_what_a_node_says_that_lets_nobody_in_is_shown(start_sshd: StartSshd, tmp_path: Path) -> None:
    """As Debian has it: PAM looks for /etc/nologin, which is another file here."""
    need_root()
    (tmp_path / "nologin").write_text("back at noon: the disks are being changed\n")
    pam = f"auth required pam_permit.so\naccount required pam_nologin.so file={tmp_path}/nologin\n"
    files = {"/etc/pam.d/sshd": f"{pam}account required pam_permit.so\nsession required pam_permit.so\n"}
    sshd = start_sshd("closed", account=Account("adlogin", 61_999), config={"UsePAM": "yes"}, files=files)
    async with pool_for(sshd, limits=Limits(connect_deadline_s=2)) as pool:
        with pytest.raises(AuthError) as caught:
            await run_line(pool, sshd.node, "true")
    assert "back at noon" in caught.value.evidence
