"""Machines that somebody else rented: provider_nodes."""

from __future__ import annotations

import fnmatch
import os
import re

from asyncdeploy.nodes.parse import Node
from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import one_line

_UNFIT = regex(r"[^A-Za-z0-9._-]+")
MAX_SHOWN = 10


@checked
async def provider_nodes(
    provider: Provider, match: str = "*", *, key_path: str | os.PathLike[str] | None = None
) -> tuple[Node, ...]:
    """Return the machines of an account that run, by their names; they are never ended by us.

    Args:
        provider: whose account.
        match: which names, as ``train-*``; a ``?`` is one character.
        key_path: the private key that they let in; None leaves it to ssh_config and ssh-agent.

    Returns:
        A node for each in the order of their names, numbers in them counted (train-2 stands before train-10).

    Raises:
        ProviderError: the provider does not say, no machine of that name runs, or two would be called alike.

    On cancellation nothing is left anywhere.
    """
    found = [one for one in await provider.instances() if fnmatch.fnmatchcase(one.name, match) and one.state != "gone"]
    ready = sorted((one for one in found if one.state == "ready"), key=lambda one: _by_number(one.name))
    if not ready:
        seen = ", ".join(f"{one.name} ({one.state})" for one in found[:MAX_SHOWN]) or "none of that name"
        raise ProviderError(
            provider.name,
            f"a machine called {match!r} was expected to run; there is: {one_line(seen)}",
            reason="refused",
        )
    names = [_UNFIT.sub("-", one.name).strip("-") or one.id for one in ready]
    if len(set(names)) < len(names):
        shown = one_line(", ".join(names))
        raise ProviderError(provider.name, f"machines of different names were expected: {shown}", reason="refused")
    try:
        return tuple(
            Node(one.host, user=one.user, port=one.port, name=name, address=one.address or None, key_path=key_path)
            for one, name in zip(ready, names, strict=True)
        )
    except ValueError as error:
        raise ProviderError(provider.name, f"a usable address was expected: {error}", reason="protocol") from None


def _by_number(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]{1,18})", name)]
