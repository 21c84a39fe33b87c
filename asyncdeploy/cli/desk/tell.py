"""The last word of a verb on many nodes."""

from __future__ import annotations

from typing import Any

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.desk.exits import exit_of_report
from asyncdeploy.cli.desk.output import failures_in_words

_OF_ONE = {"are": "is", "were": "was", "have": "has", "run": "runs"}


def tell(desk: Desk, report: ad.Report[Any], done: str) -> int:
    """Say what became of all nodes, as the last thing that a verb says, and return the exit status.

    Args:
        desk: where.
        report: of the nodes.
        done: what those are or have that are ok, for people: "are ready".
    """
    code = exit_of_report(report)
    if desk.out.json:
        desk.out.document({"ok": report.ok, "exit": code, "report": report})
        return code
    if report.ok:
        count = len(report)
        verb, _, rest = done.partition(" ")
        alone = f"{report.outcomes[0].node.name} {_OF_ONE.get(verb, f'is {verb}')} {rest}".rstrip()
        desk.out.say(f"{count} of {count} nodes {done}" if count > 1 else alone)
        return code
    return desk.out.error(failures_in_words(report), code)


def show_plan(desk: Desk, plan: ad.Plan) -> int:
    """Show what would be done, and return the exit status: 1 where it would not succeed."""
    code = 0 if plan.ok else 1
    desk.out.result(plan.describe())
    desk.out.document({"ok": plan.ok, "exit": code, "plan": plan})
    return code
