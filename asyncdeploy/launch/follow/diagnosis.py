"""Where the ranks of a launch stand, and which of them the others wait for: Diagnosis. Text and data; no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from asyncdeploy.nodes.parse import fold_names
from asyncdeploy.remote.answers import Answer
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.words import one_line

MAX_FRAMES = 60
MAX_TEXT = 300
"""Of one word of a node's: a path, a command line."""
_FAULTHANDLER = regex(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_PY_SPY = regex(r"    (?P<name>.+) \((?P<file>.+):(?P<line>\d+)\)")
_COLLECTIVE = regex(r"(^|/)torch/distributed/(?!run\.py|launcher/|elastic/)")
_LIBRARY = regex(r"(^|/)(site-packages|dist-packages|lib/python3[^/]*)/|^<")


@attrs.frozen
class Frame:
    """One line of a stack."""

    file: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.name}"


@attrs.frozen
class RankStand:
    """Where one process of a launch stands.

    Attributes:
        node_rank / node: whose.
        rank: torchrun's global rank, None where the process has none.
        pid / program: which process.
        state: as ps shows it ("S").
        frames: of its main thread, the innermost first; none where it could not be asked.
        source: who told: "faulthandler", "py-spy", or "".
        kernel: what of the kernel it waits in.
    """

    node_rank: int
    node: str
    rank: int | None = None
    pid: int = 0
    program: str = ""
    state: str = ""
    frames: tuple[Frame, ...] = ()
    source: str = ""
    kernel: str = ""

    @property
    def in_collective(self) -> bool:
        """Whether it waits inside torch.distributed."""
        return any(_COLLECTIVE.search(frame.file) for frame in self.frames)

    @property
    def place(self) -> str:
        """Where it stands, in the program's own code if there is any."""
        own = next((frame for frame in self.frames if not _LIBRARY.search(frame.file)), None)
        if own is not None or self.frames:
            return str(own or self.frames[0])
        waits = f" in {self.kernel}" if self.kernel not in ("", "0") else ""
        return f"{self.program or 'a process'} (state {self.state}{waits})"

    @property
    def who(self) -> str:
        """It, for people."""
        return f"rank {self.rank} ({self.node})" if self.rank is not None else f"pid {self.pid} ({self.node})"


@attrs.frozen
class Diagnosis(PlainData):
    """Where all ranks of a launch stand.

    Attributes:
        launch_id: the launch.
        ranks: in the order of their ranks.
        silent: nodes that did not answer, and why.
        gpus: lines of nvidia-smi by node: index, load in percent, memory used and total in MiB.
        recorders: what torch's flight recorders wrote, by node.
    """

    launch_id: str
    ranks: tuple[RankStand, ...] = ()
    silent: tuple[tuple[str, str], ...] = ()
    gpus: tuple[tuple[str, str], ...] = ()
    recorders: tuple[tuple[str, str], ...] = ()

    @property
    def missing(self) -> tuple[RankStand, ...]:
        """The ranks that have not reached the collective in which others wait; none where nobody waits in one."""
        if not any(stand.in_collective for stand in self.ranks):
            return ()
        return tuple(stand for stand in self.ranks if not stand.in_collective)

    def verdict(self) -> tuple[str, ...]:
        """Return who keeps whom waiting, a line each."""
        waiting = sum(stand.in_collective for stand in self.ranks)
        lines = [f"{node} does not answer: {why}" for node, why in self.silent]
        if self.missing:
            others = f"{waiting} other{'s wait' if waiting > 1 else ' waits'}"
            lines += [f"{s.who} has not reached the collective that {others} in: {s.place}" for s in self.missing]
        elif waiting:
            places = {stand.place for stand in self.ranks}
            same = "the same one" if len(places) == 1 else f"{len(places)} different places"
            lines.append(f"all {waiting} ranks wait in a collective, in {same}: look at the network between the nodes")
        return tuple(lines)

    def describe(self) -> str:
        """Return it for people: the verdict, then who stands where, those who stand alike together."""
        places: dict[str, list[RankStand]] = {}
        for stand in self.ranks:
            places.setdefault(stand.place, []).append(stand)
        lines = list(self.verdict())
        for place, stands in places.items():
            ranks = [f"{stand.rank}" if stand.rank is not None else f"pid {stand.pid}" for stand in stands]
            nodes = fold_names(list(dict.fromkeys(stand.node for stand in stands)))
            lines.append(f"{len(stands)} on {nodes} (ranks {', '.join(ranks)}): {place}")
        lines += [f"{node} GPU {text}" for node, text in self.gpus]
        return "\n".join(lines)


def stands_of(node_rank: int, node: str, answer: Answer) -> list[RankStand]:
    """Return what a node says of its ranks.

    Raises:
        ProtocolError: it makes no sense.
    """
    return [
        RankStand(
            node_rank,
            node,
            row["rank"].whole() if row["rank"].is_there else None,
            row["pid"].whole(),
            row["name"].text(limit=MAX_TEXT),
            row["state"].text(limit=MAX_TEXT),
            main_frames(row["dump"].exact()),
            row["source"].text(limit=MAX_TEXT),
            row["wchan"].text(limit=MAX_TEXT),
        )
        for row in answer["processes"].items()
    ]


def main_frames(dump: str) -> tuple[Frame, ...]:
    """Return the main thread's frames, the innermost first, from what faulthandler or py-spy wrote."""
    threads: list[list[Frame]] = []
    mains: list[list[Frame]] = []
    for line in dump.splitlines():
        found = _FAULTHANDLER.match(line) or _PY_SPY.match(line)
        if found and threads and len(threads[-1]) < MAX_FRAMES and len(found["line"]) < 9:
            file, name = one_line(found["file"], MAX_TEXT), one_line(found["name"], MAX_TEXT)
            threads[-1].append(Frame(file, int(found["line"]), name))
        elif "hread" in line[:20]:
            threads.append([])
            if '"MainThread"' in line:
                mains.append(threads[-1])
    # faulthandler writes the main thread last, py-spy names it.
    chosen: Sequence[Frame] = mains[0] if mains else next((each for each in reversed(threads) if each), [])
    return tuple(chosen)
