"""A command on all nodes, attached: run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.exits import CTRL_C, NOT_FOUND
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.desk.tell import tell
from asyncdeploy.cli.settings.duration import seconds
from asyncdeploy.cli.settings.options import Project, Reach, Show
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.settings.variables import pairs, secrets

_RUN = Group("Command", sort_key=0)
AT_ONCE = 32


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Asked:
    """How a command runs."""

    timeout: Annotated[str | None, Parameter(group=_RUN, help="after which it is ended on a node: 90, 90s, 10m")] = None
    cwd: Annotated[str | None, Parameter(group=_RUN, help="folder on the nodes, absolute or ~/...")] = None
    set: Annotated[
        tuple[str, ...],
        Parameter(name=("--set", "-e"), negative="", show_default=False, group=_RUN, help="NAME=VALUE for the command"),
    ] = ()
    secret: Annotated[
        tuple[str, ...],
        Parameter(negative="", show_default=False, group=_RUN, help="NAME of a variable here whose value never shows"),
    ] = ()
    stdin: Annotated[Path | None, Parameter(group=_RUN, help="a file that is its input on every node")] = None
    at_once: Annotated[int, Parameter(group=_RUN, help="nodes at a time")] = AT_ONCE
    bare: Annotated[
        bool, Parameter(negative="", show_default=False, group=_RUN, help="lines without the names of nodes")
    ] = False

    def command(self, words: tuple[str, ...]) -> ad.Command:
        """Return the command: one word is a shell line, several are exactly that argv.

        Raises:
            UsageError: there is none, or a flag makes no sense.
        """
        if not words:
            raise UsageError("a command was expected behind --: asyncdeploy run gpu[01-08] -- nvidia-smi")
        return attrs.evolve(
            ad.Command(words[0]) if len(words) == 1 else ad.Command.of(*words),
            cwd=self.cwd,
            env=pairs(self.set),
            secrets=secrets(self.secret),
            stdin=self.stdin,
            timeout_s=seconds(self.timeout, "--timeout") if self.timeout is not None else None,
        )


def run(
    *nodes: str,
    deploy: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    asked: Asked = Asked(),
    project: Project = Project(),
    reach: Reach = Reach(),
    show: Show = Show(),
    behind: Annotated[tuple[str, ...], Parameter(parse=False)],
) -> int:
    """Run a command on all nodes, attached: it ends with us. One word behind -- is a shell line, several are an argv.

    The first Ctrl-C sends TERM, the second one KILL, the third one leaves. The exit status is the command's own where
    one node failed or all alike.

    Parameters
    ----------
    nodes
        where: root@gpu[01-08]:22, @group
    deploy
        deploy the project first, and run it there in its environment
    """

    async def work(desk: Desk) -> int:
        if project != Project() and not deploy:
            raise UsageError("--path, --env, --extra and --image are of the project: --deploy runs the command in it")
        round_ = Round(desk, asked.command(behind), desk.nodes(nodes), asked)
        return await round_.attended(project if deploy else None)

    return attend("run", work, reach, show, stages=deploy)


class Round:
    """One command on all nodes, and what is known of it."""

    def __init__(self, desk: Desk, command: ad.Command, fleet: tuple[ad.Node, ...], asked: Asked) -> None:
        self._desk = desk
        self._command = command
        self._at_once = asked.at_once
        self._fleet = fleet
        self._ready: dict[ad.Node, ad.Deployment] = {}
        self._found: dict[ad.Node, ad.Outcome[Any]] = {}
        self._living: set[str] = set()
        self._attached: Any = later("work.attached")
        self._lines = self._attached.Lines(desk.out, [node.name for node in fleet], bare=asked.bare)

    async def attended(self, project: Project | None) -> int:
        """Run it to its end, or a person's, and return the exit status."""
        import asyncio

        self._desk.listeners.append(self._lines)
        out, names = self._desk.out, [node.name for node in self._fleet]
        try:
            await self._attached.attended(
                self._everywhere(project), out, lambda: [name for name in names if name in self._living]
            )
        except asyncio.CancelledError:
            self._lines.close()
            if self._lines.reader_left:
                raise BrokenPipeError from None
            ended = [node.name for node in self._fleet if node not in self._found]
            out.say(f"ended by Ctrl-C: {self._attached.with_count(ended)}" if ended else "all had ended already")
            out.document({"ok": False, "exit": CTRL_C, "report": self._report()})
            return CTRL_C
        self._lines.close()
        code = tell(self._desk, self._report(), "done")
        if code == NOT_FOUND and project is None:
            out.say("hint: --deploy runs it in the project's environment")
        return code

    async def _everywhere(self, project: Project | None) -> None:
        fleet = self._fleet
        if project is not None:
            workspace, env = self._desk.workspace(project), self._desk.env(project)
            deployed = await ad.deploy_all(fleet, workspace, env, at_once=self._at_once, pool=self._desk.pool)
            self._desk.end_view()
            self._ready = {outcome.node: outcome.value for outcome in deployed if outcome.value is not None}
            self._found = {outcome.node: outcome for outcome in deployed.failures}
            fleet = tuple(self._ready)
        for node in self._found:
            self._lines.ended(node.name)
        if not fleet:
            return
        outcomes = ad.iter_nodes(fleet, self._one, at_once=self._at_once, judged=True)
        async with contextlib.aclosing(outcomes) as coming:
            async for outcome in coming:
                self._found[outcome.node] = outcome
                self._lines.ended(outcome.node.name)

    async def _one(self, node: ad.Node) -> ad.Completed:
        self._living.add(node.name)
        try:
            if node in self._ready:
                return await ad.run_in_project(self._desk.pool, self._ready[node], self._command)
            return await ad.run_command(self._desk.pool.at(node), self._command)
        finally:
            self._living.discard(node.name)

    def _report(self) -> ad.Report[Any]:
        """Return what became of all nodes; what a command printed has been shown, and is not repeated."""
        stopped = {node: ad.Cancelled(node.name, "ended by Ctrl-C") for node in self._fleet}
        return ad.Report(
            tuple(
                _without_evidence(self._found[node])
                if node in self._found
                else ad.Outcome(node, "cancelled", error=stopped[node])
                for node in self._fleet
            )
        )


def _without_evidence(outcome: ad.Outcome[Any]) -> ad.Outcome[Any]:
    if not isinstance(outcome.error, ad.CommandFailed | ad.CommandTimeout):
        return outcome
    return attrs.evolve(outcome, error=attrs.evolve(outcome.error, evidence=""))
