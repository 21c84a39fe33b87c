"""Ranks: any program that takes its rank from the environment, from the plan of a launch. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import attrs

from asyncdeploy.launch.launchers.rank_env import (
    LOG_FOLDER,
    RANK_LINE,
    RUNNER,
    check_keep_env,
    check_master_port,
    check_name,
    check_rank_env,
    is_kept,
    kept_names,
    rank_start,
    start_env,
    to_names,
)
from asyncdeploy.launch.placement import NodePlace, Placement
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, as_command, carried_line
from asyncdeploy.values.serialize import PlainData, read_by

Each = Literal["rank", "node"]

NodeCommand = Callable[[Placement, int], Command | str]
"""Returns the command of a node from the plan of the launch and the node's rank."""


def _to_command(value: Command | str | NodeCommand) -> Command | NodeCommand:
    return as_command(value) if isinstance(value, Command | str) else value


@checked_class
@attrs.frozen
class Ranks(PlainData):
    """A multi-node job of any program that takes its rank from the environment.

    With ``each="rank"`` a node runs the command ``nproc_per_node`` times, each with RANK, LOCAL_RANK, WORLD_SIZE and
    LOCAL_WORLD_SIZE. With ``each="node"`` it runs it once, and these are not set: the command starts its ranks itself
    (accelerate, DeepSpeed, ray), ``nproc_per_node`` of them if it asks ASYNCDEPLOY_GPUS_PER_NODE. NODE_RANK,
    MASTER_ADDR, MASTER_PORT and ASYNCDEPLOY_* are there either way. When one process of a node fails the others are
    stopped, as the other nodes are. Each has a log of its own on the node.

    Args:
        command: a Command, a shell line, or a callable that gives one for each node, of the plan and the node's rank.
            Its input stays empty.
        nproc_per_node: ranks a node; None is the node's slots, else the GPUs seen, else 1.
        each: what the command is run once for.
        name: what the launch is called.
        master_port: TCP port on node rank 0; None is a free one, found and proven.
        uneven: whether nodes may have different numbers of ranks.
        opens_port: whether node rank 0 listens on the port before any work begins: then its start is awaited, and the
            launch tries another port if a stranger took this one meanwhile.

        keep_env: variables of a Slurm, LSF or MPI session on the nodes that ranks are to see, "SLURM_*" for all that
            begin so; without, they are dropped, or libraries would take the session for the launch.

    Raises:
        ValueError: a variable that follows from the plan, a number out of range, a command with input.

    A launcher with a callable pickles if the callable does, and has no JSON form.
    """

    command: Command | NodeCommand = attrs.field(converter=_to_command, metadata=read_by(Command.from_dict))
    nproc_per_node: int | None = attrs.field(default=1, kw_only=True)
    each: Each = attrs.field(default="rank", kw_only=True)
    name: str = attrs.field(default="ranks", kw_only=True)
    master_port: int | None = attrs.field(default=None, kw_only=True)
    uneven: bool = attrs.field(default=False, kw_only=True)
    opens_port: bool = attrs.field(default=False, kw_only=True)
    keep_env: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=to_names)

    def __attrs_post_init__(self) -> None:
        if self.each not in get_args(Each):
            raise ValueError(f"Ranks each: 'rank' or 'node' was expected, got {self.each!r}")
        if self.nproc_per_node is not None and self.nproc_per_node < 1:
            raise ValueError(f"Ranks nproc_per_node: at least 1 was expected, got {self.nproc_per_node!r}")
        check_master_port("Ranks", self.master_port)
        check_keep_env("Ranks", self.keep_env)
        check_name("Ranks", self.name)
        if isinstance(self.command, Command):
            _check(self.command)

    def variable(self, name: str) -> str | None:
        """Return what its ranks find in a variable, None where that is the node's, or a callable's, to say."""
        return dict(self.command.env).get(name) if isinstance(self.command, Command) else None

    def keeps(self, name: str) -> bool:
        """Return whether its ranks keep a variable of the session."""
        return is_kept(name, self._kept(self.command) if isinstance(self.command, Command) else self.keep_env)

    def _kept(self, command: Command) -> tuple[str, ...]:
        return kept_names(command.env, command.secrets, self.keep_env)

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        """Return one command a node, in node rank order; the same plan gives the same commands."""
        return tuple(self._command(placement, place) for place in placement.places)

    def _command(self, placement: Placement, place: NodePlace) -> Command:
        command = self.command
        if not isinstance(command, Command):
            command = _check(as_command(command(placement, place.node_rank)))
        first, count = ("-", 1) if self.each == "node" else (placement.first_rank(place.node_rank), place.nproc)
        start, numbers = rank_start(self._kept(command)), f"{count} {first} {placement.world_size}"
        line = f"{start}; exec python3 -I {RUNNER} {LOG_FOLDER} {numbers}"
        # Not as an argument: `pkill -f train.py` in it would find the program that starts it.
        env = start_env(placement, place) | carried_line("Ranks command", RANK_LINE, command.line)
        return attrs.evolve(command, line=line).with_env(env)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; of secrets only the names.

        Raises:
            ValueError: the command is a callable.
        """
        if not isinstance(self.command, Command):
            raise ValueError("Ranks command: a Command was expected, got a callable, which has no plain form")
        return super().to_dict()


def _check(command: Command) -> Command:
    carried_line("Ranks command", RANK_LINE, command.line)
    check_rank_env("Ranks", command.env, command.secrets)
    if command.stdin is not None:
        raise ValueError("Ranks command: no stdin was expected: several processes would share it; let them read a file")
    return command
