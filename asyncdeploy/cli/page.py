"""A verb's page of help, from its own docstring and flags; shipped as a file, so that reading one loads no verb."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from asyncdeploy.cli.overview import VERBS

WIDTH = 100
LEFT = 30
"""Columns of the flags; what is longer has its text on the next line."""


def page_of(app: Any, name: str) -> str:
    """Return the page of a verb.

    Args:
        app: the parser of all verbs.
        name: the verb.
    """
    verb, command = VERBS[name], app[name]
    text, _, _ = inspect.cleandoc(command.default_command.__doc__).partition("\n\nParameters\n")
    lines = [f"Usage: asyncdeploy {name} {verb.arguments}".rstrip(), ""]
    for paragraph in text.split("\n\n"):
        lines += [*textwrap.wrap(" ".join(paragraph.split()), WIDTH), ""]
    groups: dict[str, list[Any]] = {}
    for argument in command.assemble_argument_collection(parse_docstring=True):
        if argument.parse and argument.show and argument.names != ("*",):
            groups.setdefault(_group(argument), []).append(argument)
    for title, arguments in sorted(groups.items(), key=lambda item: _ORDER.index(item[0])):
        lines.append(f"{title}:")
        lines += [line for argument in arguments for line in _entry(argument)]
        lines.append("")
    return "\n".join([*lines, "  -h, --help".ljust(LEFT) + "this page", ""])


_ORDER = (
    "Arguments",
    "Flags",
    "Command",
    "Launch",
    "Lines",
    "Results",
    "Machines",
    "Renting",
    "Project",
    "Nodes",
    "Output",
)


def _group(argument: Any) -> str:
    name = str(argument.parameter.group[0].name)
    return {"Parameters": "Flags"}.get(name, name)


def _entry(argument: Any) -> list[str]:
    names = [name for name in argument.names if name.startswith("-")]
    if argument.field_info.is_positional:
        label = str(argument.names[0])
    else:
        shorts = [name for name in names if not name.startswith("--")]
        label = ", ".join([*shorts, *(name for name in names if name.startswith("--"))]) + _value(argument)
    text = str(argument.parameter.help or "")
    if choices := argument.get_choices():
        text += f" ({', '.join(map(str, choices))})"
    if argument.parameter.env_var:
        text += f" [{', '.join(argument.parameter.env_var)}]"
    left = f"  {label}"
    wrapped = textwrap.wrap(text, WIDTH - LEFT) or [""]
    if len(left) >= LEFT:
        wrapped.insert(0, "")
    return [f"{left:<{LEFT}}{wrapped[0]}".rstrip(), *(" " * LEFT + line for line in wrapped[1:])]


def _value(argument: Any) -> str:
    """Return what stands behind a flag, "" where nothing does."""
    if argument.is_flag() or argument.hint in (bool, bool | None):
        return ""
    return " X"
