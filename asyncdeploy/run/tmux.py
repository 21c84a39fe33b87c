"""A tmux session on a node that shows a job's log, for people who log in; the job knows nothing of it."""

from __future__ import annotations

import attrs

from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import ask
from asyncdeploy.run.job import Job
from asyncdeploy.values.errors import DeployError, ToolMissing
from asyncdeploy.values.events import Noted

MAX_SESSION = 100
"""Of a session's name: a job's has 64 characters, and a number may follow."""


async def find_tmux(remote: Remote) -> str:
    """Return where the node's tmux is.

    Raises:
        ToolMissing: it has none, or no python3.
    """
    facts = await probe_node(remote)
    tool = "tmux" if facts.python else "python3"
    path = facts.tool("tmux")
    if path is None or not facts.python:
        what = f"the node has no {tool}, so there is no window onto the job"
        raise ToolMissing(remote.node.name, what, "follow_job shows the log without one", tool=tool)
    return path


async def with_window(remote: Remote, job: Job, program: str) -> Job:
    """Return the job with its window; where none can be opened that is said, and the job goes on."""
    request = {"tmux": program, "name": job.name, "id": job.id}
    try:
        answer = await ask(remote, "run.tmux", request, what="a wish for a window")
        if answer["session"].is_there:
            return attrs.evolve(job, window=answer["session"].text(limit=MAX_SESSION))
        problem = answer["error"].text()
    except DeployError as error:
        problem = error.message
    remote.emit(Noted(node=remote.node.name, text=f"no window onto job {job.id}: {problem}"))
    return job
