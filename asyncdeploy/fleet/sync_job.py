"""Results home while a job runs: again and again, and once more when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.job import Job
from asyncdeploy.run.jobs import wait_job
from asyncdeploy.values.errors import ConnectError, ConnectionLost, TransferFailed
from asyncdeploy.values.events import Noted
from asyncdeploy.values.workspace import Collected


async def sync_while_running(
    remote: Remote, job: Job, collect: Callable[[], Awaitable[Collected]], *, every_s: float
) -> Collected:
    """Collect every so often while a job runs, and a last time when it has ended, however it did.

    Args:
        remote: the job's node.
        job: the job; it is only looked at.
        collect: brings the results home once; incremental, as ``sync_results`` is.
        every_s: seconds between two collects.

    Returns:
        The last collect, with all that came in the earlier ones counted too.

    Raises:
        ConnectionLost, ConnectError: the node stayed away for longer than ``wait_job`` tries.
        DeployError: the last collect failed. One before it that fails because the results are not there yet, or the
            line broke, is tried again at the next turn.

    On cancellation the job is untouched, and what came whole stays.
    """
    received = bytes_received = 0
    while True:
        status = await wait_job(remote, job, timeout_s=every_s)
        over = status.state not in ("starting", "running")
        try:
            done = await collect()
        except (TransferFailed, ConnectionLost, ConnectError) as error:
            if over:
                raise
            remote.emit(Noted(node=remote.node.name, text=f"{error.message}; the next try is in {every_s:g} s"))
            continue
        received += done.received
        bytes_received += done.bytes_received
        if over:
            return attrs.evolve(done, received=received, bytes_received=bytes_received)
