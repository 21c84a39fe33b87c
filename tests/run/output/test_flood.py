"""A flood starves nobody: timeouts, cancellations and other nodes are felt while one node prints as fast as it can."""

import asyncio
import time
from collections.abc import Callable

import pytest

import asyncdeploy as ad
from tests.support.beds.client import client
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import Lag, eventually

FLOODS = [
    "yes",
    "yes >&2",
    "while :; do printf 'step\\r%.0s' 1 2 3 4 5 6 7 8; done",
    "yes $(printf 'x%.0s' $(seq 3000))",
]


@pytest.mark.parametrize("line", FLOODS, ids=["lines", "stderr", "carriage returns", "long lines"])
@pytest.mark.parametrize("by", ["timeout_s", "cancellation"])
async def test_r21_a_flood_starves_nobody(start_sshd: Callable[..., SshdNode], line: str, by: str) -> None:
    """With an observer timeout_s=3 was felt after 14 s, a cancellation after 32 s."""
    sshd, lines, lag = start_sshd("flood"), 0, Lag()

    def show(event: ad.Event) -> None:
        nonlocal lines
        lines += isinstance(event, ad.OutputLine)

    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd.known_hosts), observer=show) as pool:
        remote = pool.at(sshd.node)
        await ad.run_command(remote, "true")
        watch = asyncio.ensure_future(lag.watch())
        command = ad.Command(line, timeout_s=1.5 if by == "timeout_s" else None)
        flood = asyncio.ensure_future(ad.run_command(remote, command))
        await asyncio.sleep(0.5)
        assert (await ad.run_command(remote, "echo others")).text == "others"
        start = time.monotonic()
        if by == "cancellation":
            flood.cancel()
        with pytest.raises((asyncio.CancelledError, ad.CommandTimeout)):
            await flood
        assert time.monotonic() - start < 1.5 + 5
        watch.cancel()
    assert lines > 1000
    assert lag.most < 1.0  # 0.03 s as a rule; 14 and 32 s were seen


async def test_who_flooded_a_client_that_died_can_tidy_up(start_sshd: Callable[..., SshdNode]) -> None:
    """What it prints on its way out is read, though nobody hears it: it would wait, and be killed in its work."""
    sshd = start_sshd("flood")
    print_much = "head -c 3000000 /dev/zero"
    line = f"trap '{print_much}; : >~/tidied; exit' TERM; {print_much}; : >~/begun; while :; do {print_much}; done"
    async with client(sshd, "await run_command(remote, args[0])", line) as process:
        await eventually((sshd.home / "begun").exists)
        process.kill()
        await process.communicate()
    await eventually((sshd.home / "tidied").exists)
