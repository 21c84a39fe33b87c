"""To begin with: demo, init, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import asyncdeploy as ad
from asyncdeploy.cli import bare
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.exits import FAILED, OK, UNREACHED
from asyncdeploy.cli.settings.here import look_here
from asyncdeploy.cli.settings.options import Reach, Show
from asyncdeploy.cli.settings.template import write_template

Count = Annotated[int | None, Parameter(name="--nproc-per-node", help="ranks a node; without, one a GPU")]


def demo(
    *,
    hosts: str | None = None,
    accept_new: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    results: str | None = None,
) -> int:
    """Go the whole way once: push, environment, a job over all nodes, results, a failure and its report.

    Parameters
    ----------
    hosts
        real machines instead of four local ones: a,b or root@gpu[01-04]:22
    accept_new
        record host keys that are not known yet
    results
        folder for the results; without, a temporary one
    """
    return bare.show_demo(hosts, accept_new=accept_new, results=results)


def init(
    *nodes: str,
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    reach: Reach = Reach(),
    show: Show = Show(),
) -> int:
    """Write a commented asyncdeploy.toml here, from what is found: the project, and the GPUs of the nodes given.

    Parameters
    ----------
    nodes
        nodes to look at and to write down
    force
        write over one that is there
    """

    async def work(desk: Desk) -> int:
        facts = None
        if nodes or reach.nodes or reach.hostfile:
            report = await ad.map_nodes(desk.nodes(nodes), lambda node: ad.probe_node(desk.pool.at(node)))
            facts = dict(zip([outcome.node for outcome in report], report.unwrap(), strict=True))
        path = write_template(Path.cwd(), [*nodes, *reach.nodes], facts, reach, force=force)
        desk.out.say(f"wrote {path}; next: asyncdeploy check, then asyncdeploy deploy")
        desk.out.document({"ok": True, "exit": 0, "path": path})
        return 0

    return attend("init", work, reach, show, asks=True)


def check(*nodes: str, reach: Reach = Reach(), show: Show = Show(), nproc_per_node: Count = None) -> int:
    """Look at this machine: ssh, agent, keys, git, uv, versions. With nodes: their GPUs, who holds them, disks, clocks,
    tools, whether every pair can talk, and the verdict.

    Parameters
    ----------
    nodes
        nodes to look at
    """

    async def work(desk: Desk) -> int:
        if not desk.has_nodes(nodes):
            found = look_here()
            desk.out.result("\n".join(f"{each.name:<12} {each.text}" for each in found))
            ok = all(each.ok for each in found)
            desk.out.document({"ok": ok, "exit": 0 if ok else 1, "here": [each.to_dict() for each in found]})
            return 0 if ok else 1
        verdict = await ad.preflight(desk.nodes(nodes), nproc_per_node=nproc_per_node, pool=desk.pool)
        holders = [
            f"{seen.node} GPU {user.gpu}: pid {user.pid} {user.program} {user.memory_bytes / 2**30:.1f} GiB"
            for seen in verdict.nodes
            for user in seen.gpu_users
        ]
        desk.out.result("\n".join([verdict.describe(), *holders]))
        code = OK if verdict.ok else FAILED if any(seen.is_known for seen in verdict.nodes) else UNREACHED
        desk.out.document({"ok": verdict.ok, "exit": code, "preflight": verdict})
        return code

    return attend("check", work, reach, show, asks=True)
