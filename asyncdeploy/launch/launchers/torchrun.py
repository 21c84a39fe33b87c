"""Torchrun: one command a node, with explicit ranks, from the plan of a launch. No I/O."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath, PurePosixPath
from typing import Any

import attrs

from asyncdeploy.launch.launchers.rank_env import (
    LOG_FOLDER,
    TORCHRUN,
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
from asyncdeploy.values.command import Command, Secrets, to_secrets
from asyncdeploy.values.serialize import Pairs, PlainData, to_pairs

RENDEZVOUS_S = 900
"""Torch's own: a Python on a cold network disk takes minutes to start. A node that is dead is noticed without it."""

Word = str | int | float | bool | PurePath
"""What a script's argument may be; None is none of them, which would arrive as "None"."""

_PLANNED = (
    *("--nnodes", "--node-rank", "--nproc-per-node", "--master-addr", "--master-port", "--max-restarts", "--module"),
    *("--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--rdzv-conf", "--standalone"),
    *("--log-dir", "--tee", "--redirects"),
)
_PLANNED_SHORT = ("-m", "-t", "-r", "-h")


def _script_name(launcher: Torchrun) -> str:
    """Return the script's name without its folder and suffix, as far as a launch may be called so."""
    stem = launcher.script.rpartition(".")[2] if launcher.module else PurePosixPath(launcher.script).stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:32] or "torchrun"


@checked_class
@attrs.frozen(init=False)
class Torchrun(PlainData):
    """A multi-node torchrun job with static rendezvous: every rank is known before anything starts.

    Args:
        script: the program, relative to the project's folder or absolute; with ``module`` a module's name.
        args: its arguments, passed exactly.
        nproc_per_node: processes a node; None is the node's slots, else the GPUs seen, else 1.
        master_port: TCP port on node rank 0; None is a free one, found and proven.
        module: whether ``script`` is a module, as in ``python -m``.
        env / secrets: variables of every rank; the values of secrets never show.
        options: further options of torchrun ("--monitor-interval=1").
        uneven: whether nodes may have different numbers of processes.
        rendezvous_s: whole seconds that the nodes' agents wait for each other; who comes later is the root cause.
        python: the interpreter inside the environment, a name or an absolute path.
        name: what the launch is called; by default the script's name without its folder and suffix. On a node two that
            run at the same time must have two names.
        keep_env: variables of a Slurm, LSF or MPI session on the nodes that ranks are to see, "SLURM_*" for all that
            begin so; without, they are dropped, or libraries would take the session for the launch.

    Raises:
        ValueError: an option or variable that follows from the plan, a number out of range, a NUL byte.
    """

    script: str
    args: tuple[str, ...] = ()
    nproc_per_node: int | None = None
    master_port: int | None = None
    module: bool = False
    env: Pairs = attrs.field(default=(), converter=to_pairs)
    secrets: Secrets = attrs.field(default=(), converter=to_secrets)
    options: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    uneven: bool = False
    python: str = "python"
    name: str = attrs.field(default=attrs.Factory(_script_name, takes_self=True))
    keep_env: tuple[str, ...] = attrs.field(default=(), converter=to_names)
    rendezvous_s: int = RENDEZVOUS_S

    def __init__(self, script: str | PurePath, *args: Word, **fields: Any) -> None:
        words = [field.name for field in attrs.fields(Torchrun)][2:]
        if strange := [name for name in fields if name not in words]:
            raise TypeError(
                f"Torchrun() got an unexpected keyword argument {strange[0]!r}; there are {', '.join(words)}"
            )
        self.__attrs_init__(str(script), tuple(str(arg) for arg in args), **fields)

    def __attrs_post_init__(self) -> None:
        for text in (self.script, self.python, *self.args, *self.options):
            if "\0" in text:
                raise ValueError(f"Torchrun: a NUL byte cannot be sent to a shell: {text!r}")
        if not self.script or self.script.startswith("-"):
            raise ValueError(f"Torchrun script: a program's path was expected, got {self.script!r}")
        if self.nproc_per_node is not None and self.nproc_per_node < 1:
            raise ValueError(f"Torchrun nproc_per_node: at least 1 was expected, got {self.nproc_per_node!r}")
        check_master_port("Torchrun", self.master_port)
        if self.rendezvous_s < 1:
            raise ValueError(f"Torchrun rendezvous_s: at least 1 was expected, got {self.rendezvous_s!r}")
        for option in self.options:
            _check_option(option)
        check_rank_env("Torchrun", self.env, self.secrets)
        check_keep_env("Torchrun", self.keep_env)
        check_name("Torchrun", self.name)

    @property
    def program(self) -> str:
        """The script's path in the project, "" for a module and for what need not be of the project."""
        return "" if self.module or self.script.startswith("/") else self.script

    @property
    def opens_port(self) -> bool:
        """True: node rank 0's agent keeps the store that all others join."""
        return True

    def variable(self, name: str) -> str | None:
        """Return what its ranks find in a variable, None where that is the node's to say."""
        return dict(self.env).get(name)

    def keeps(self, name: str) -> bool:
        """Return whether its ranks keep a variable of the session."""
        return is_kept(name, self._kept)

    @property
    def _kept(self) -> tuple[str, ...]:
        return kept_names(self.env, self.secrets, self.keep_env)

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        """Return one command a node, in node rank order; the same plan gives the same commands."""
        return tuple(self._command(placement, place) for place in placement.places)

    def _command(self, placement: Placement, place: NodePlace) -> Command:
        words = [
            *(f"--nnodes={len(placement.places)}", f"--node-rank={place.node_rank}", f"--nproc-per-node={place.nproc}"),
            *("--rdzv-backend=static", f"--master-addr={_bracketed(placement.master_addr)}"),
            *(f"--master-port={placement.master_port}", f"--rdzv-id={placement.launch_id}"),
            *(f"--rdzv-conf=timeout={self.rendezvous_s}", "--max-restarts=0", "--tee=3"),
            *self.options,
        ]
        script = ["--module", self.script] if self.module else [self.script]
        torchrun = f"exec {shlex.quote(self.python)} {TORCHRUN}"
        program = shlex.join([*script, *self.args])
        line = f"{rank_start(self._kept)}; {torchrun} {shlex.join(words)} --log-dir={LOG_FOLDER} {program}"
        # torchrun's own choice for more than one process, without its banner; a value that is there already stays.
        threads = 'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"; ' if place.nproc > 1 else ""
        return Command(
            threads + line,
            env={**start_env(placement, place), **dict(self.env)},
            secrets=self.secrets,
        )


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _check_option(option: str) -> None:
    if option == "--":
        raise ValueError("Torchrun options: '--' would end them; the script's arguments are Torchrun(script, *args)")
    name = option.partition("=")[0].replace("_", "-")
    if name.startswith("--") and any(
        planned.startswith(name) for planned in _PLANNED
    ):  # argparse takes the beginning of a name
        instead = "; Torchrun(rendezvous_s=...) sets the timeout" if "--rdzv-conf".startswith(name) else ""
        raise ValueError(f"Torchrun options: {option} follows from the plan of the launch; leave it out{instead}")
    if not name.startswith("--") and name.startswith(_PLANNED_SHORT):
        raise ValueError(f"Torchrun options: {option} follows from the plan of the launch; leave it out")
