"""Whether nodes can run one job together, as data and in words: Preflight. Text and arithmetic; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import attrs

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.values.errors import PreflightFailed
from asyncdeploy.values.serialize import PlainData

LITTLE_DISK = 2 * 10**9
"""A checkpoint of a small model; below it a run ends in the middle of its first save."""
LITTLE_SHARED_MEMORY = 2**30
"""Docker's default is 64 MB, which NCCL between two GPUs and one DataLoader fill."""
MUCH_GPU_MEMORY = 2 * 2**30
"""What a driver keeps of an idle GPU for itself is less."""
MUCH_OFFSET_S = 2.0
"""Time stamps of logs from nodes that differ by more mislead whoever reads them side by side."""
SHOWN = 20
"""Of further problems, in an error."""
MAX_WORD = 200
"""Of what a node says of one try, or of a process: a sentence."""
NO_ANSWER = "it gave no answer"
OPEN_HINT = "all TCP between the nodes must be open, both ways; Node(address=...) names a network that they share"
NOTHING_SHARED = "these nodes share no private network; a multi-node job cannot work"


@attrs.frozen
class GpuUser:
    """A process that computes on a node's GPU; memory in bytes, 0 where nobody says."""

    gpu: int
    pid: int
    memory_bytes: int = 0
    program: str = ""


@attrs.frozen
class NodeLook:
    """What was seen of one node.

    Attributes:
        node: its name.
        address / interface: what the ranks use there, "" where that was not found out.
        nproc: processes that it would run.
        gpus: their names, in index order.
        driver: NVIDIA's, "" without.
        gpu_users: who holds them already.
        gpu_used: memory in use of each, in bytes, by whomever.
        stray: variables of other launches in its login environment; ours start without them.
        clock_offset_s: its clock minus ours.
        folder / free_bytes: where the project lies, else its home, and what is free on that disk; -1 if unknown.
        shared_memory_bytes: the size of /dev/shm, -1 if unknown.
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

    @classmethod
    def of(cls, node: str, facts: NodeFacts) -> Self:
        """Build it from what is known of a node before it is asked for more."""
        return cls(
            node,
            gpus=tuple(gpu.name for gpu in facts.gpus),
            driver=facts.gpus[0].driver if facts.gpus else "",
            clock_offset_s=facts.clock_offset_s,
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

    def __str__(self) -> str:
        return f"{self.node} {self.text}" if self.node else self.text


@attrs.frozen
class Preflight(PlainData):
    """The verdict.

    Attributes:
        nodes: in node rank order.
        master_addr / master_port: where the ranks would meet: reached by all, free a moment ago; "" and 0 if nowhere.
        problems: why these nodes cannot run one job together, the first one first; empty if they can.
        warnings: what might disturb it.
        link_port: another port of the first node, tried by all: for the supervisors' own link; 0 where there is none.
    """

    nodes: tuple[NodeLook, ...]
    master_addr: str = ""
    master_port: int = 0
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    link_port: int = 0

    @property
    def ok(self) -> bool:
        """Whether they can run one job together."""
        return not self.problems

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

    def describe(self) -> str:
        """Return it for people: a line a node, then what is wrong, then what might be."""
        rows = [
            (
                str(rank),
                look.node,
                f"{look.address or '-'} {look.interface}".strip(),
                _in_words(look.gpus),
                look.driver or "-",
                f"{look.clock_offset_s:+.1f}s",
                f"{look.free_bytes / 1e9:.0f} GB free" if look.free_bytes >= 0 else "-",
            )
            for rank, look in enumerate(self.nodes)
        ]
        widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [f"hint: {hint}" for hint in dict.fromkeys(problem.hint for problem in self.problems) if hint]
        lines += [f"warning: {text}" for text in self.warnings]
        where = f"ok: they meet at {self.master_addr} port {self.master_port}" if self.ok else "they cannot run one job"
        return "\n".join([*lines, where])


def pair_problems(names: Sequence[str], bad: Sequence[Unreached]) -> tuple[Problem, ...]:
    """Return which nodes do not reach which, in as few words as say all of it.

    Args:
        names: of all nodes, in node rank order.
        bad: every pair that failed.
    """
    count = len(names)
    if count > 1 and len({(each.source, each.target) for each in bad}) == count * (count - 1):
        return (Problem("", NOTHING_SHARED, OPEN_HINT, "\n".join(map(str, bad[:SHOWN]))),)
    found = []
    for target in names:
        to_it = [each for each in bad if each.target == target]
        if count > 2 and len(to_it) == count - 1:
            found.append(Problem("", f"no node reaches {to_it[0].where}", OPEN_HINT))
        else:
            found += [Problem(each.source, f"cannot reach {each.where}", OPEN_HINT) for each in to_it]
    return tuple(found)


def network_problems(names: Sequence[str], bad: Sequence[Unreached], meeting: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return what is wrong with the network, each thing once.

    Args:
        names: of all nodes, in node rank order.
        bad: every pair that failed.
        meeting: why the nodes could not meet at the first one, if they could not.
    """
    pairs = pair_problems(names, bad)
    if not meeting:
        return pairs
    if any(problem.text == NOTHING_SHARED for problem in pairs):
        evidence = [line for problem in (*meeting, *pairs) for line in (str(problem), problem.evidence)]
        return (Problem("", NOTHING_SHARED, OPEN_HINT, "\n".join(line for line in evidence if line != NOTHING_SHARED)),)
    if any(problem.node != names[0] for problem in meeting):  # it has said already that the first one is not reached
        bad = [each for each in bad if each.target != names[0]]
    return (*meeting, *pair_problems(names, bad))


def warnings_of(looks: Sequence[NodeLook]) -> tuple[str, ...]:
    """Return what might disturb a job on these nodes, a line each."""
    lines = []
    most = max((len(look.gpus) for look in looks), default=0)
    for look in looks:
        lines += [f"{look.node}: {text}" for text in (*_of_gpus(look, most), *_of_space(look))]
    offsets = sorted((look.clock_offset_s, look.node) for look in looks)
    if offsets and offsets[-1][0] - offsets[0][0] > MUCH_OFFSET_S:
        (low, behind), (high, ahead) = offsets[0], offsets[-1]
        lines.append(f"the clock of {ahead} is {high - low:.1f} s ahead of that of {behind}")
    found: dict[tuple[str, ...], list[str]] = {}
    for look in looks:
        if look.stray:
            found.setdefault(look.stray, []).append(look.node)
    for stray, names in found.items():
        lines.append(f"{fold_names(names)}: {', '.join(stray)} in the login environment; ranks start without them")
    return tuple(lines)


def _of_gpus(look: NodeLook, most: int) -> list[str]:
    lines = []
    for user in look.gpu_users:
        held = f"{user.memory_bytes / 2**30:.1f} GiB of " if user.memory_bytes else ""
        program = f" ({user.program})" if user.program else ""
        lines.append(f"pid {user.pid}{program} holds {held}GPU {user.gpu}")
    seen = {user.gpu for user in look.gpu_users}
    for gpu, used in enumerate(look.gpu_used):
        if used >= MUCH_GPU_MEMORY and gpu not in seen:
            lines.append(f"{used / 2**30:.1f} GiB of GPU {gpu} are held by somebody who cannot be seen from here")
    if most and look.nproc > len(look.gpus):  # no error: ranks may be there for the CPUs
        lines.append(f"{look.nproc} processes for {len(look.gpus) or 'no'} GPUs")
    return lines


def _of_space(look: NodeLook) -> list[str]:
    lines = []
    if 0 <= look.free_bytes < LITTLE_DISK:
        lines.append(f"{look.free_bytes / 1e9:.1f} GB free on the disk of {look.folder or 'the home folder'}")
    if look.gpus and look.nproc > 1 and 0 <= look.shared_memory_bytes < LITTLE_SHARED_MEMORY:
        lines.append(f"{look.shared_memory_bytes >> 20} MiB of shared memory; NCCL and DataLoader workers need more")
    return lines


def _in_words(names: Sequence[str]) -> str:
    kinds = list(dict.fromkeys(names))
    return " + ".join(f"{list(names).count(kind)}x{kind}" for kind in kinds) or "no GPU"
