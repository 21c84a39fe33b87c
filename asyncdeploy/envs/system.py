"""No environment of our own: the node as it is."""

from __future__ import annotations

from typing import ClassVar

import attrs

from asyncdeploy.envs.base import Asset, PlainEnv, Step
from asyncdeploy.envs.registry import register_env
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Site


@register_env
@attrs.frozen
class SystemEnv(PlainEnv):
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
