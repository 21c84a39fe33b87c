"""Flags that several verbs have, each family a class: which nodes, which project, how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import attrs
from cyclopts import Group, Parameter

_NODES = Group("Nodes", sort_key=2)
_PROJECT = Group("Project", sort_key=1)
_OUTPUT = Group("Output", sort_key=3)


def _words(_kind: object, value: object) -> tuple[str, ...]:
    return tuple(value)  # type: ignore[arg-type]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Reach:
    """Which nodes, and the way in."""

    nodes: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--nodes", "-n"),
            negative="",
            show_default=False,
            group=_NODES,
            help="nodes, as root@gpu[01-08]:22, @group or @rental; may be repeated (ASYNCDEPLOY_NODES)",
        ),
    ] = ()
    hostfile: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, group=_NODES, help='a file of nodes, "host slots=8" a line; - is stdin'),
    ] = None
    limit: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            group=_NODES,
            env_var="ASYNCDEPLOY_LIMIT",
            help="only these of them: names, ranges, patterns, or a number for the first so many",
        ),
    ] = ()
    exclude: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", show_default=False, group=_NODES, env_var="ASYNCDEPLOY_EXCLUDE", help="all but these of them"
        ),
    ] = ()
    accept_new: Annotated[
        bool | None,
        Parameter(
            negative="",
            show_default=False,
            group=_NODES,
            env_var="ASYNCDEPLOY_ACCEPT_NEW",
            help="trust a node that was never seen and record its host key; a changed key is refused all the same",
        ),
    ] = None
    key: Annotated[
        str | None, Parameter(group=_NODES, env_var="ASYNCDEPLOY_KEY", help="private key for nodes that name none")
    ] = None
    jump: Annotated[
        str | None,
        Parameter(name=("--jump", "-J"), group=_NODES, env_var="ASYNCDEPLOY_JUMP", help="jump hosts, as for ssh -J"),
    ] = None
    config: Annotated[
        Path | None,
        Parameter(
            group=_NODES,
            env_var="ASYNCDEPLOY_CONFIG",
            help="the settings file; without, asyncdeploy.toml or pyproject.toml here or above",
        ),
    ] = None


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Project:
    """What is pushed, and its environment."""

    path: Annotated[Path | None, Parameter(group=_PROJECT, help="the project's folder")] = None
    env: Annotated[
        Literal["uv", "system", "docker", "nix"] | None, Parameter(group=_PROJECT, help="what makes its environment")
    ] = None
    extra: Annotated[
        tuple[str, ...], Parameter(negative="", show_default=False, group=_PROJECT, help="extras of a uv project")
    ] = ()
    image: Annotated[str | None, Parameter(group=_PROJECT, help="the image of a docker environment")] = None


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Show:
    """How what happens is shown."""

    json: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            group=_OUTPUT,
            help="for programs: events as NDJSON where something is done, one document where something is asked",
        ),
    ] = False
    verbose: Annotated[
        bool,
        Parameter(
            name=("--verbose", "-v"), negative="", show_default=False, group=_OUTPUT, help="steps and tool output too"
        ),
    ] = False
    quiet: Annotated[
        bool, Parameter(name=("--quiet", "-q"), negative="", show_default=False, group=_OUTPUT, help="only failures")
    ] = False
    timeline: Annotated[
        Path | None, Parameter(group=_OUTPUT, help="write what happened when on which node, as an SVG")
    ] = None
