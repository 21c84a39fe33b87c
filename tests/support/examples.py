"""The examples as modules, and a Python for the nodes that run them."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import attrs

from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Site
from tests.support.places import EXAMPLES


@attrs.frozen
class OurPython(SystemEnv):
    """The python that runs the tests, which has torch; the nodes are on this machine."""

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Put its folder first, and the command into the project's."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return super().enter(command.with_env({"PATH": path}), site, facts)


def example(name: str) -> ModuleType:
    """Import an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
