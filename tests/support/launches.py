"""Launches as data, and one of plain shell lines: any command can be a rank."""

import attrs

from asyncdeploy.launch.launch import Launch, rank_job
from asyncdeploy.launch.placement import NodePlace, Placement, rank_env
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.command import Command

LAUNCH_ID = "train-abcdefgh"


def plan(*counts: int) -> Placement:
    """Nodes gpu0, gpu1, ... with so many processes each, on eth0."""
    places = [
        NodePlace(Node(f"gpu{rank}"), rank, count, f"10.0.0.{rank + 1}", "eth0") for rank, count in enumerate(counts)
    ]
    return Placement(LAUNCH_ID, "10.0.0.1", 23456, tuple(places))


def launch_of(count: int, offsets: tuple[float, ...] | None = None) -> Launch:
    """A launch of nodes gpu0, gpu1, ... with two processes each."""
    placement = plan(*[2] * count)
    jobs = [
        rank_job(LAUNCH_ID, place.node, rank, "/root/p", "python", 900.0) for rank, place in enumerate(placement.places)
    ]
    return Launch(LAUNCH_ID, tuple(jobs), placement, 5.0, ("/root/p",) * count, offsets or (0.0,) * count, 900.0)


@attrs.frozen
class Lines:
    """A launcher of shell lines, one a node; the last one is repeated."""

    lines: tuple[str, ...]
    name: str = "lines"
    nproc_per_node: int | None = 1
    master_port: int | None = None
    uneven: bool = False
    opens_port: bool = False

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        lines = [*self.lines, *[self.lines[-1]] * len(placement.places)]
        return tuple(
            Command(line, env=rank_env(placement, place)) for place, line in zip(placement.places, lines, strict=False)
        )
