"""Environments for tests: one that is only its steps, and projects that uv can make without a network."""

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import attrs

from asyncdeploy.envs.base import Asset, Step
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.workspace import Site


@attrs.frozen
class StepsEnv:
    """An environment that is its steps and nothing else."""

    name: ClassVar[str] = "steps"

    lines: tuple[Step, ...]
    looks: str | None = None
    files: tuple[Asset, ...] = ()

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        return self.files

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        return self.lines

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        return self.looks

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        return command

    def to_dict(self) -> dict[str, Any]:
        return {"env": "StepsEnv"}


def steps(*lines: str, looks: str | None = None) -> StepsEnv:
    """An environment with a step for each line, named "step 1" and so on."""
    return StepsEnv(tuple(Step(f"step {number}", line) for number, line in enumerate(lines, 1)), looks)


def write_wheel(folder: Path, name: str, said: str = "") -> Path:
    """Write the wheel of a package that holds one module and one script, each with a word to say: its name, or `said`;
    so that nothing has to be built or fetched.
    """
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    files = {
        f"{module}.py": f"NAME = {(said or name)!r}\n\n\ndef main():\n    print(NAME)\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-tool = {module}:main\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            # Dated as ZipInfo does it, not now: written twice it has one hash, which a lock remembers.
            wheel.writestr(zipfile.ZipInfo(file), text)
    return path


def write_project(folder: Path, dependencies: tuple[str, ...] = (), **extras: tuple[str, ...]) -> None:
    """Write a project whose dependencies and extras are wheels that lie in it."""
    names = sorted({*dependencies, *(name for extra in extras.values() for name in extra)})
    for name in names:
        write_wheel(folder / "wheels", name)
    sources = "".join(
        f'{name} = {{ path = "wheels/{name.replace("-", "_")}-1.0-py3-none-any.whl" }}\n' for name in names
    )
    optional = "".join(f"{extra} = {list(wanted)!r}\n" for extra, wanted in extras.items())
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\n'
        f"dependencies = {list(dependencies)!r}\n"
        f"[project.optional-dependencies]\n{optional}"
        f"[tool.uv]\npackage = false\n[tool.uv.sources]\n{sources}"
    )
