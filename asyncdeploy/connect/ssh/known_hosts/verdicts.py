"""What is said of a host key that is not trusted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from asyncdeploy.connect.ssh.known_hosts.entries import Entry, fingerprint
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.values.errors import HostKeyError


def changed_error(who: Identity, offered: bytes, known: Iterable[Entry]) -> HostKeyError:
    """The node showed another key than the one that is known."""
    entries = tuple(known)
    shown, expected = fingerprint(offered), tuple(entry.fingerprint for entry in entries)
    source = entries[0].source
    message = f"the host key has changed: it showed {shown}, {source} has {' or '.join(expected)}"
    hint = (
        "someone may be in between; if the machine was made anew or its address given to another, "
        "HostKeys.forget(node) takes the old key out"
    )
    return HostKeyError(who.node, message, hint, reason="changed", offered=shown, expected=expected, source=source)


def unknown_error(who: Identity, offered: bytes) -> HostKeyError:
    """The node was never seen."""
    shown = fingerprint(offered)
    port = "" if who.port == 22 else f" -p {who.port}"
    scan = f"ssh-keyscan{port} {shlex.quote(who.host)} >> ~/.ssh/known_hosts"
    hint = f"compare the fingerprint with the provider's, then `{scan}`; or use HostKeys.accept_new()"
    message = f"the host key of {who.address} is not known: {shown}"
    return HostKeyError(who.node, message, hint, reason="unknown", offered=shown)


def revoked_error(who: Identity, offered: bytes, source: str) -> HostKeyError:
    """The node showed a key that must not be trusted any more."""
    shown = fingerprint(offered)
    hint = "the key was marked @revoked there: this machine must get a new one"
    message = f"the host key is revoked: {shown}, {source}"
    return HostKeyError(who.node, message, hint, reason="revoked", offered=shown, source=source)
