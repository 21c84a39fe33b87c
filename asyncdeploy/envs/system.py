"""No environment of our own: the node as it is."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import attrs

from asyncdeploy.envs.base import Asset, Step
from asyncdeploy.envs.registry import register_env
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Site


@register_env
@attrs.frozen
class SystemEnv:
    """Commands run in the login environment, in the project's folder; nothing is installed."""

    name: ClassVar[str] = "system"

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        """Return nothing."""
        return ()

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        """Return nothing."""
        return ()

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        """Return None."""
        return None

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Return the command; without a cwd it starts in the project's folder."""
        return attrs.evolve(command, cwd=command.cwd or site.workdir)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"env": type(self).__name__}

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a SystemEnv from ``to_dict``'s data.

        Raises:
            ValueError: it is not that.
        """
        if data != {"env": cls.__name__}:
            raise ValueError(f"SystemEnv: its own plain data was expected, got {data!r}")
        return cls()
