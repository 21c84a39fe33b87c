"""Write api.md, the list of all public names: `python docs/make_api.py`. A test says when it is out of date."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncdeploy

DOCS = Path(__file__).parent
HEAD = """\
# All names

Each is imported from `asyncdeploy`. What a function takes, returns and raises, and what happens when it is
cancelled, stands in its docstring: `help(asyncdeploy.fan_out)`, or the reference behind this page.
"""
TITLES = {
    "nodes": "Nodes, and what comes back from many of them",
    "sources": "Where nodes come from",
    "values": "Values, events, errors",
    "connect": "Connections",
    "push": "Push",
    "envs": "Environments",
    "run": "Runs and jobs",
    "remote": "Runs and jobs",
    "collect": "Collect",
    "deploy": "One node with a project",
    "launch": "Launches",
    "fleet": "Many nodes",
    "view": "What people see",
    "local": "Nodes inside this process",
}


def rooms() -> Iterator[tuple[str, list[str]]]:
    """Yield each title with its names."""
    found: dict[str, list[str]] = {}
    for room, names in vars(asyncdeploy)["_ROOMS"].items():
        found.setdefault(TITLES.get(room.split(".")[0], "More"), []).extend(names.split())
    for title in dict.fromkeys([*TITLES.values(), "More"]):
        if title in found:
            yield title, sorted(found[title], key=str.lower)


def sentence(name: str) -> str:
    """Return the first sentence of a name's docstring."""
    text = inspect.getdoc(getattr(asyncdeploy, name)) or ""
    return " ".join(text.split("\n\n", 1)[0].split())


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, names in rooms():
        rows = "\n".join(f"- `{name}`: {sentence(name)}" for name in names)
        parts.append(f"## {title}\n\n{rows}\n")
    return "\n".join(parts)


def write_reference(folder: Path) -> None:
    """Write what Sphinx makes the reference of: a page a title, of docstrings."""
    folder.mkdir(exist_ok=True)
    for title, names in rooms():
        lines = [title, "=" * len(title), ""]
        for name in names:
            value = getattr(asyncdeploy, name)
            kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
            members = ["   :members:"] if kind == "class" else []
            lines += [f".. auto{kind}:: asyncdeploy.{name}", *members, ""]
        slug = title.lower().replace(",", "").replace(" ", "-")
        (folder / f"{slug}.rst").write_text("\n".join(lines))
    names = "\n".join(f"   {path.stem}" for path in sorted(folder.glob("*.rst")) if path.stem != "index")
    (folder / "index.rst").write_text(f"Reference\n=========\n\n.. toctree::\n\n{names}\n")


if __name__ == "__main__":
    (DOCS / "api.md").write_text(page())
    sys.stdout.write(f"{len(asyncdeploy.__all__)} names\n")
