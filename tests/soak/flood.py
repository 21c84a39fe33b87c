"""Much over one connection, and much from many nodes: 10,000 commands of which 1,000 run too long; 10 GB from each."""

import asyncio
import random
import time
from collections.abc import Sequence

import asyncdeploy as ad
from tests.soak.measures import memory_mb
from tests.soak.players import Tally
from tests.support.beds.sshd_node import SshdNode

AT_ONCE = 4  # what one connection carries
LONGER_MB = 64.0  # what a client may take more, however much comes: a few buffers a node
LOOK_S = 0.2
GAP = 200  # bytes of the words where something was dropped


async def commands(sshd: SshdNode, pool: ad.Pool, count: int, tally: Tally) -> str:
    """So many commands over one connection, of which every tenth runs longer than it may."""
    remote, numbers, ends = pool.at(sshd.node), iter(range(count)), {"done": 0, "too late": 0}
    before = sshd.log().count("Accepted publickey")
    began = time.monotonic()

    async def run_some(dice: random.Random) -> None:
        for number in numbers:
            if number % 10 == 9:
                command = ad.Command(f"echo {number}; sleep 97533", timeout_s=dice.uniform(0.01, 0.1))
                try:
                    await ad.run_command(remote, command)
                except ad.CommandTimeout:
                    ends["too late"] += 1
            else:
                done = await ad.run_command(remote, f"echo {number}; exit {number % 7}")
                right = (done.status, done.stdout) == (number % 7, b"%d\n" % number)
                tally.promise(right, f"command {number}: {done}")
                ends["done"] += right

    async with asyncio.TaskGroup() as group:
        for lane in range(AT_ONCE):
            group.create_task(run_some(random.Random(lane)))
    tally.promise(ends == {"done": count - count // 10, "too late": count // 10}, f"of {count} commands: {ends}")
    sleeping = [line for line in sshd.processes().values() if "97533" in line]
    tally.promise(not sleeping, f"{len(sleeping)} commands that were too late still run")
    connections = sshd.log().count("Accepted publickey") - before
    tally.promise(connections <= 1, f"{connections} connections for {count} commands")
    took = time.monotonic() - began
    return (
        f"{count} commands over one connection, {count // 10} too late: {took:.0f} s, {1e3 * took / count:.1f} ms each"
    )


async def output(nodes: Sequence[SshdNode], pool: ad.Pool, gigabytes: float, tally: Tally) -> str:
    """So much from each node at once; how much memory that takes here."""
    size, before, most = int(gigabytes * 1e9), memory_mb(), 0.0
    line = f"head -c {size} /dev/zero | tr '\\0' x"
    began = time.monotonic()
    task = asyncio.create_task(ad.run_all([sshd.node for sshd in nodes], line, pool=pool))
    while not task.done():
        await asyncio.wait([task], timeout=LOOK_S)
        most = max(most, memory_mb() - before)
    for outcome in await task:
        done = outcome.value
        came = len(done.stdout) + done.dropped if done is not None else 0
        tally.promise(
            outcome.ok and size <= came < size + GAP,
            f"output of {outcome.node.name}: {came} of {size}: {outcome.error}",
        )
    tally.promise(most < LONGER_MB, f"output: {most:.0f} MB more memory for {gigabytes:g} GB from each node")
    took = time.monotonic() - began
    total = gigabytes * len(nodes)
    return (
        f"{gigabytes:g} GB from each of {len(nodes)} nodes: {took:.0f} s, {1e3 * total / took:.0f} MB/s, {most:.0f} MB"
    )
