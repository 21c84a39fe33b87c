"""An environment of your own: a plain venv filled by pip. Whoever imports this module can use it, also from JSON.

from venv_env import VenvEnv
await deploy_and_run(nodes, "./proj", "python train.py", VenvEnv("requirements.txt"))
"""

from __future__ import annotations

import shlex
from typing import Any, ClassVar, Self

import attrs

from asyncdeploy import Asset, Command, NodeFacts, Site, Step, register_env
from asyncdeploy.values.errors import ToolMissing


@register_env
@attrs.frozen
class VenvEnv:
    """``python3 -m venv`` and ``pip install -r``, in a folder beside the project's own state.

    Args:
        requirements: a file of the project.
        pip_options: words for ``pip install``.
    """

    name: ClassVar[str] = "venv"

    requirements: str = "requirements.txt"
    pip_options: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=tuple)

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        """Nothing has to be sent."""
        return ()

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        """Make the folder unless there is one that works, then install."""
        if not facts.python:
            raise ToolMissing("", "the node has no python3 >= 3.8", "install it there", tool="python3")
        venv = shlex.quote(self.folder(site))
        make = f"rm -rf {venv} && {shlex.quote(facts.python)} -m venv {venv}"
        words = shlex.join([*self.pip_options, "-r", self.requirements])
        install = f"{venv}/bin/pip install --disable-pip-version-check {words}"
        return (
            Step("venv", make, unless=f"{venv}/bin/python -c 'import pip'", timeout_s=300),
            Step("pip install", install, timeout_s=3600),
        )

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        """Start the interpreter: a Python that was upgraded away leaves a venv that looks whole."""
        return f"{shlex.quote(self.folder(site))}/bin/python -I -S -c pass"

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Put the venv first on PATH: in front of the line, so that its quoting and its status stay its own."""
        path = f"export PATH={shlex.quote(self.folder(site))}/bin:$PATH\n"
        entered = attrs.evolve(command, line=path + command.line, cwd=command.cwd or site.workdir)
        return entered.with_env({"VIRTUAL_ENV": self.folder(site)})

    def folder(self, site: Site) -> str:
        """Return where it stands: in our own folder, which no push touches."""
        return f"{site.path.rstrip('/')}/.asyncdeploy/venv"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the class's name under "env"."""
        return {"env": "VenvEnv", "requirements": self.requirements, "pip_options": list(self.pip_options)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build one from that."""
        return cls(data["requirements"], pip_options=data["pip_options"])
