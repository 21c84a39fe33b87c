"""Launches of plain lines on real nodes, and what plays their driver."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncdeploy as ad
from asyncdeploy.launch.gang.start import SILENCE_S
from asyncdeploy.values.events import Event
from tests.support.beds.sshd_node import SshdNode

WAITS = "echo up; until [ -e go ]; do sleep 0.1; done; echo done"
# Two GPUs; what is in use of the second one stands in a file, and who computes there in another.
SMI = """#!/bin/sh
case $1 in
--query-gpu=uuid,memory.used)
    echo 'GPU-0, 4'; echo "GPU-1, $(cat ~/used)"; test ! -e ~/soon || echo 0 >~/used ;;
--query-gpu*) echo '0, H100, 81559, 0, 550.54, GPU-0'; echo '1, H100, 81559, 0, 550.54, GPU-1' ;;
--query-compute-apps*) cat ~/users 2>/dev/null || : ;;
esac
"""


@asynccontextmanager
async def launched(
    nodes: Sequence[SshdNode],
    workspace: ad.Workspace,
    line: str = WAITS,
    silence_s: float = SILENCE_S,
    grace_s: float = 2,
) -> AsyncIterator[tuple[ad.Pool, ad.Launch, list[Event]]]:
    seen: list[Event] = []
    async with ad.Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts), observer=seen.append) as pool:
        deployed = await ad.deploy_all([each.node for each in nodes], workspace, ad.SystemEnv(), pool=pool)
        ranks = ad.Ranks(line, nproc_per_node=1)
        launch = await ad.start_launch(pool, deployed.unwrap(), ranks, grace_s=grace_s, silence_s=silence_s)
        yield pool, launch, seen
