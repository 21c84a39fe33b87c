"""What a deploy, a run or a launch would do, as data and in words: Plan. Text and arithmetic; no I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Literal

import attrs

from asyncdeploy.nodes.node import Node
from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.push.answer import amount
from asyncdeploy.push.bundle.left_out import NEVER_SENT
from asyncdeploy.values.command import Command
from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.shown.one_line import in_one_line
from asyncdeploy.values.shown.table import Described, Table, count
from asyncdeploy.values.words import one_line
from asyncdeploy.values.workspace import Workspace

SHOWN = 12
"""Names that are not sent, for people; ``ignored`` has all."""
MAX_COMMAND = 4000
"""Characters of a command for people; ``command`` has all."""

EnvState = Literal["none", "unchanged", "make", "stands"]


@attrs.frozen(repr=False)
class NodePlan(PlainData):
    """What would happen on one node.

    Attributes:
        node: the node.
        path: where the project would stand, absolute there; "" where the node could not be asked.
        files / removed / overwritten: names that would be put in place, taken away, and lost though they were edited.
        bytes: of contents that would travel, before they are compressed.
        at_most: whether less may travel: of a large file only what has changed does.
        env: "none" to make, "unchanged", "make"; "stands" where it works now, and is looked at again once the push has
            changed what it may have been made from.
        steps: the steps that would make it.
        assets: what would be put on the node for it first.
        command: what would run there, as it would be sent; None where nothing would, or nobody can tell.
        line: the same for people: without what enters the environment and prepares a rank.
        problems: why it would not succeed.
    """

    node: Node
    path: str = ""
    files: int = 0
    removed: int = 0
    overwritten: int = 0
    bytes: int = 0
    at_most: bool = False
    env: EnvState = "none"
    steps: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    command: Command | None = None
    line: str = ""
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        words = [repr(self.node.name), f"push={self.push!r}", f"env={self.env!r}"]
        words += [f"problems={len(self.problems)}"] if self.problems else []
        return in_one_line("NodePlan", words)

    @property
    def push(self) -> str:
        """What the push would do, in words."""
        if not self.path:
            return "?"
        if not self.files and not self.removed:
            return "= unchanged"
        words = [count(self.files, "file")]
        words.append(f"{'at most ' if self.at_most else ''}{amount(self.bytes)}")
        words += [f"{self.removed} removed"] if self.removed else []
        return ", ".join(words)

    @property
    def making(self) -> str:
        """What making the environment would do, in words."""
        if not self.path:
            return "?"
        if self.env == "make":
            return ", ".join([*(f"send {name}" for name in self.assets), *self.steps])
        return {"none": "-", "unchanged": "= unchanged", "stands": "stands; asked again after the push"}[self.env]


@attrs.frozen(repr=False)
class Plan(PlainData, Described):
    """What would happen, found by looking; nothing was changed on any node, nor in the workspace.

    Attributes:
        nodes: in the order in which the nodes were given, which is node rank order.
        workspace: what would be pushed.
        env: the name of the environment, "" for a push alone.
        files / bytes: names and bytes of contents of the workspace that belong on a node.
        ignored: what of the workspace is not sent, as (path, why); a folder's path ends with a slash.
        warnings: what a person should know before it is done.
        problems: why it would not succeed, beside what the nodes say each.
    """

    nodes: tuple[NodePlan, ...]
    workspace: Workspace
    env: str = ""
    files: int = 0
    bytes: int = 0
    ignored: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing that can be seen now stands in the way."""
        return not self.problems and not any(each.problems for each in self.nodes)

    def __repr__(self) -> str:
        wrong = len(self.problems) + sum(bool(each.problems) for each in self.nodes)
        words = [count(len(self.nodes), "node"), f"files={self.files}", f"env={self.env!r}"]
        return in_one_line("Plan", [*words, f"problems={wrong}" if wrong else "ok"])

    def __str__(self) -> str:
        return self.describe()

    def table(self) -> Table:
        """Return what a person is shown of it: a row a node, what is not sent, what would run, what is wrong."""
        title = f"plan · {count(len(self.nodes), 'node')} · {self.workspace.path} ({self._amount()})"
        below = [*self._ignored(), *self._commands()]
        below += [f"problem: {each.node.name}: {text}" for each in self.nodes for text in each.problems]
        below += [f"problem: {text}" for text in self.problems]
        below += [f"warning: {text}" for text in self.warnings]
        below.append("nothing was changed" if self.ok else "nothing was changed; it would not succeed")
        rows = tuple((each.node.name, each.push, each.making) for each in self.nodes)
        return Table(f"{title} · {self.env}" if self.env else title, ("node", "push", "env"), rows, tuple(below))

    def _amount(self) -> str:
        return f"{count(self.files, 'file')}, {amount(self.bytes)}"

    def _ignored(self) -> Iterator[str]:
        rows = [row for row in self.ignored if row[1] != NEVER_SENT]
        if rows:
            yield "not sent:"
            yield from (f"  {line}" for line in Table("", rows=tuple(rows[:SHOWN])).as_text().splitlines())
            if (more := len(rows) - SHOWN) > 0:
                yield f"  and {more} more"

    def _commands(self) -> Iterator[str]:
        """Yield what runs where; what many run alike stands once, variables that all have too."""
        ranks: dict[tuple[str, ...], list[str]] = {}
        asked = [(each, each.command) for each in self.nodes if each.command is not None]
        variables = [set(command.env) for _, command in asked]
        everywhere = set.intersection(*variables) if len(variables) > 1 else set()
        for each, command in asked:
            own = tuple(assigned(pair) for pair in command.env if pair not in everywhere)
            names = tuple(f"{name}=***" for name, _ in command.secrets)
            ranks.setdefault((*own, *names, each.line), []).append(each.node.name)
        if not ranks:
            return
        yield "would run:"
        if everywhere:
            yield f"  everywhere: {one_line(' '.join(assigned(pair) for pair in sorted(everywhere)), MAX_COMMAND)}"
        for words, folded in ranks.items():
            yield f"  {fold_names(folded)}: {one_line(' '.join(words), MAX_COMMAND)}"


def assigned(pair: tuple[str, str]) -> str:
    """Return a variable as a shell sets it, in one line."""
    name, value = pair
    if value.isprintable():
        return f"{name}={shlex.quote(value)}"
    return f"{name}=$'{value.encode('unicode_escape').decode('ascii').replace(chr(39), chr(92) + chr(39))}'"
