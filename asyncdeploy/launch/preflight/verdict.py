"""Whether nodes can run one job together, as data and in words: Preflight. Text and arithmetic; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import attrs

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.errors import PreflightFailed
from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.shown.one_line import OneLine
from asyncdeploy.values.shown.table import Described, Table

SHOWN = 20
"""Of further problems, in an error."""
MAX_WORD = 200
"""Of what a node says of one try, or of a process: a sentence."""
NO_ANSWER = "it gave no answer"
TOOLS = ("docker", "podman", "nix", "git", "tmux")
"""That an environment or a person may need, beside python and uv, whose versions are known."""
HEAD = ("node rank", "node", "address", "GPUs", "driver", "clock", "disk", "tools")
OPEN_HINT = "all TCP between the nodes must be open, both ways; Node(address=...) names a network that they share"


@attrs.frozen
class GpuUser:
    """A process that computes on a node's GPU; memory in bytes, 0 where nobody says."""

    gpu: int
    pid: int
    memory_bytes: int = 0
    program: str = ""


@attrs.frozen
class NodeSeen:
    """What was seen of one node.

    Attributes:
        node: its name.
        address / interface: what the ranks use there, "" where that was not found out.
        nproc: processes that it would run.
        gpus: their names, in index order.
        hidden: indices of those that its ranks will not see (CUDA_VISIBLE_DEVICES, a container).
        driver: NVIDIA's, "" without.
        gpu_users: who holds them already.
        gpu_used: memory in use of each, in bytes, by whomever.
        stray: variables of other launches in its login environment; ours start without them.
        clock_offset_s: its clock minus ours.
        folder / free_bytes: where the project lies, else its home, and what is free on that disk; -1 if unknown.
        shared_memory_bytes: the size of /dev/shm, -1 if unknown.
        tools: what it has of that which an environment needs: "python 3.11.2", "uv 0.9.2", "docker".
    """

    node: str
    address: str = ""
    interface: str = ""
    nproc: int = 0
    gpus: tuple[str, ...] = ()
    driver: str = ""
    gpu_users: tuple[GpuUser, ...] = ()
    gpu_used: tuple[int, ...] = ()
    stray: tuple[str, ...] = ()
    clock_offset_s: float = 0.0
    folder: str = ""
    free_bytes: int = -1
    shared_memory_bytes: int = -1
    hidden: tuple[int, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether it has answered at all: else nothing is known of it, its GPUs and its clock neither."""
        return self != NodeSeen(self.node)

    @property
    def usable_gpus(self) -> int:
        """How many GPUs its ranks will see."""
        return len(self.gpus) - len(self.hidden)

    @classmethod
    def of(cls, node: str, facts: NodeFacts) -> Self:
        """Build it from what is known of a node before it is asked for more."""
        return cls(
            node,
            gpus=tuple(gpu.name for gpu in facts.gpus),
            driver=facts.gpus[0].driver if facts.gpus else "",
            clock_offset_s=facts.clock_offset_s,
            tools=_tools_of(facts),
        )


@attrs.frozen
class Unreached:
    """A node that another one cannot connect to."""

    source: str
    target: str
    address: str
    interface: str = ""
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.source} cannot reach {self.where}"

    @property
    def where(self) -> str:
        """Who was not reached, where, and what was seen instead."""
        place = f"{self.address} ({self.interface})" if self.interface else self.address
        return f"{self.target} at {place}: {self.problem}"


@attrs.frozen
class Problem:
    """Why nodes cannot run one job together: whose it is ("": no single one's), what, what to do, what was seen."""

    node: str
    text: str
    hint: str = ""
    evidence: str = ""

    @classmethod
    def of(cls, error: PreflightFailed) -> Self:
        """Return what was raised as one of the problems that a verdict names."""
        return cls(error.node, error.message, error.hint, error.evidence)

    def __str__(self) -> str:
        return f"{self.node} {self.text}" if self.node else self.text


@attrs.frozen(repr=False)
class Preflight(OneLine, Described, PlainData):
    """The verdict.

    Attributes:
        nodes: in node rank order.
        master_addr / master_port: where the ranks would meet: reached by all, free a moment ago; "" and 0 if nowhere.
        problems: why these nodes cannot run one job together, the first one first; empty if they can.
        warnings: what might disturb it.
        link_port: another port of the first node, tried by all: for the supervisors' own link; 0 where there is none.
    """

    nodes: tuple[NodeSeen, ...]
    master_addr: str = ""
    master_port: int = 0
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    link_port: int = 0

    @property
    def ok(self) -> bool:
        """Whether they can run one job together."""
        return not self.problems

    @checked
    def check(self) -> Self:
        """Return itself if it is ok.

        Raises:
            PreflightFailed: it is not.
        """
        if self.problems:
            first, *rest = self.problems
            evidence = [line for line in [first.evidence, *map(str, rest[:SHOWN])] if line]
            raise PreflightFailed(first.node, first.text, first.hint, "\n".join(evidence))
        return self

    @property
    def _whose(self) -> str:
        """How to find out who holds GPUs, by the first one who does; "" if nobody is seen to."""
        held = [(seen.node, user) for seen in self.nodes for user in seen.gpu_users if user.gpu not in seen.hidden]
        if not held:
            return ""
        node, user = held[0]
        return (
            f"`ps -o user,lstart,args -p {user.pid}` on {node} says whose it is; CUDA_VISIBLE_DEVICES leaves GPUs out"
        )

    def table(self) -> Table:
        """Return what a person is shown: a line a node, then what is wrong, then what might be."""
        rows = [
            (
                str(rank),
                seen.node,
                f"{seen.address or '-'} {seen.interface}".strip(),
                _in_words(seen.gpus) if seen.is_known else "-",
                seen.driver or "-",
                f"{seen.clock_offset_s:+.1f}s" if seen.is_known else "-",
                f"{seen.free_bytes / 1e9:.0f} GB free" if seen.free_bytes >= 0 else "-",
                ", ".join(seen.tools) or "-",
            )
            for rank, seen in enumerate(self.nodes)
        ]
        lines = [f"problem: {problem}" for problem in self.problems]
        lines += [f"hint: {hint}" for hint in dict.fromkeys(problem.hint for problem in self.problems) if hint]
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [f"hint: {hint}" for hint in [self._whose] if hint]
        where = f"ok: they meet at {self.master_addr} port {self.master_port}" if self.ok else "they cannot run one job"
        return Table("", HEAD, tuple(rows), (*lines, where))


def _tools_of(facts: NodeFacts) -> tuple[str, ...]:
    versions = {"python": facts.python_version, "uv": facts.uv_version}
    found = [f"{name} {version}" for name, version in versions.items() if version]
    return (*found, *(name for name in TOOLS if facts.tool(name)))


def _in_words(names: Sequence[str]) -> str:
    kinds = list(dict.fromkeys(names))
    return " + ".join(f"{list(names).count(kind)}x{kind}" for kind in kinds) or "no GPU"
