"""What an environment is: a value that writes shell. No I/O here: bootstrap.py does the steps of every env alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import attrs

from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, Secrets
from asyncdeploy.values.serialize import PlainData, in_words
from asyncdeploy.values.workspace import Site


@checked_class
@attrs.frozen
class Asset:
    """A local file that must lie on the node before the steps run.

    Attributes:
        name: what it is, for people ("uv 0.13.9").
        source: the local file.
        sha256: of its content, hex; the node verifies it.
        target: absolute path on the node; an equal file there is left alone.
        executable: whether it gets mode 0755, else 0644.
    """

    name: str
    source: Path
    sha256: str
    target: str
    executable: bool = False


@checked_class
@attrs.frozen
class Step:
    """One line of shell that makes part of an environment.

    Attributes:
        name: what it does, for people and events ("uv sync").
        line: POSIX shell, quoted; starts in the site's working folder.
        unless: a line whose success means that this step has nothing to do.
        timeout_s: seconds until it is ended.
    """

    name: str
    line: str
    unless: str | None = None
    timeout_s: float = 3600.0


@runtime_checkable
class Env(Protocol):
    """How a node becomes able to run a project. Frozen, hashable, picklable, and known to JSON by its class name."""

    name: ClassVar[str]

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        """Return what must lie on the node first."""
        ...

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        """Return the steps that make the environment, in order."""
        ...

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        """Return a line that succeeds only if the environment, once made, still works; None if there is nothing to look
        at.
        """
        ...

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Return the command as it must run inside the environment; every run, job and rank passes through here."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the class's name under "env"."""
        ...


@runtime_checkable
class LocalEnv(Env, Protocol):
    """An Env of which a part is made on this machine from the project; a deploy tells it where that lies."""

    def with_folder(self, folder: Path) -> Env:
        """Return the same Env for the project in a local folder (absolute); the Env itself if it needs none.

        It may read the project's files.

        Raises:
            ValueError: the project does not have what is asked of it.
        """
        ...


@runtime_checkable
class EnvWithSecrets(Env, Protocol):
    """An Env whose steps know secrets: variables that never show. What it has made does not hold them."""

    def step_secrets(self) -> Secrets:
        """Return the names and values, for the steps and for nobody else."""
        ...


@runtime_checkable
class EnvWithSources(Env, Protocol):
    """An Env that can name the files of the project that it is made from, for a plan."""

    def sources(self, top: Path) -> tuple[str, ...] | None:
        """Return them, relative to the workspace on this machine; None if others may count too. It reads files."""
        ...


@runtime_checkable
class EnvWithGpus(Env, Protocol):
    """An Env that decides itself which of a node's GPUs are seen inside, as a container does."""

    def visible_gpus(self) -> str:
        """Return them in the words of CUDA_VISIBLE_DEVICES; "all" for all."""
        ...


class PlainEnv(PlainData):
    """What a frozen attrs class inherits from to be an Env with a plain form: its fields, and its name under "env"."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the class's name under "env"."""
        return {"env": type(self).__name__, **super().to_dict()}

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build one from ``to_dict``'s data.

        Raises:
            ValueError: it is not that.
        """
        name = data.get("env") if isinstance(data, dict) else data
        if name != cls.__name__:
            raise ValueError(
                f"{cls.__name__}: an object with {cls.__name__!r} under 'env' was expected, got {in_words(name)}"
            )
        return super().from_dict({key: value for key, value in data.items() if key != "env"})
