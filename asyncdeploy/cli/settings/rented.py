"""Rentals of this machine as groups of nodes: @RENTAL, or @rental where there is one; their keys need no word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.settings.file import File
from asyncdeploy.cli.settings.usage import UsageError, unknown

THE_ONE = "rental"


def rented_nodes(name: str, file: File) -> tuple[ad.Node, ...]:
    """Return a rental's nodes.

    Args:
        name: what stands behind the @.
        file: whose groups could have been meant.

    Raises:
        UsageError: there is no such rental, nor a group; or "rental" may be several.
    """
    rentals = {rental.id: rental for rental in ad.read_rentals()}
    if name == THE_ONE and len(rentals) == 1:
        return next(iter(rentals.values())).nodes
    if name == THE_ONE and rentals:
        raise UsageError(f"@{THE_ONE} may be {', '.join(f'@{id_}' for id_ in rentals)}")
    if name == THE_ONE:
        raise UsageError("@rental: nothing is rented from this machine; asyncdeploy rent does that, on the same home")
    if name not in rentals:
        where = f"group in {file.path}" if file.path else "group (there is no asyncdeploy.toml here)"
        raise UsageError(str(unknown(where, f"@{name}", (f"@{each}" for each in (*file.groups, *rentals)))))
    return rentals[name].nodes


def as_rented(nodes: Iterable[ad.Node]) -> tuple[ad.Node, ...]:
    """Return rented nodes as they were rented, others as they are: the way in that settings name is none to those."""
    rented = {node.name: node for rental in ad.read_rentals() for node in rental.nodes}
    return tuple(own if is_rented(own := rented.get(node.name, node), node) else node for node in nodes)


def is_rented(own: ad.Node, node: ad.Node) -> bool:
    """Return whether a node is one that was rented, as it was then, whatever way settings added."""
    return attrs.evolve(node, jump=own.jump) == own


def host_keys(accepts: bool) -> ad.HostKeys:
    """Return whom verbs trust: known_hosts, what was never seen where that is accepted, rented nodes by their own keys.

    Args:
        accepts: whether a node that was never seen is trusted; of a rented one the key is known.
    """
    rule = ad.HostKeys.accept_new() if accepts else ad.HostKeys.strict()
    for rental in ad.read_rentals():
        for name, pin in rental.pins:
            rule = rule.with_pins({name: pin})
    return rule


def known_hosts_of(node: ad.Node) -> Path | None:
    """Return the file in which ssh itself finds a rented node's key; None for any other node."""
    rented = [own for rental in ad.read_rentals() for own in rental.nodes if own == node]
    return Path(rented[0].key_path).with_suffix(".known_hosts") if rented and rented[0].key_path else None
