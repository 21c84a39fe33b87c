"""Why there is no login, or no trust in a host key, in our words."""

from __future__ import annotations

import asyncssh

from asyncdeploy.connect.ssh.endpoint import Place
from asyncdeploy.connect.ssh.handshake.explain import Asked, explain
from asyncdeploy.connect.ssh.handshake.reasons import connect_error
from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.connect.ssh.known_hosts.verdicts import revoked_error
from asyncdeploy.values.errors import DeployError, HostKeyError
from asyncdeploy.values.words import one_line


def explain_handshake(place: Place, asked: Asked, seen: Seen, error: Exception) -> DeployError:
    """Return what a failed handshake means; whatever ended it, one of our errors comes of it."""
    if not isinstance(error, asyncssh.HostKeyNotVerifiable):
        return explain(asked, seen, error)
    if seen.verdict is None and "Unable to decode" in error.reason:
        return connect_error(asked.node, "protocol", f"{asked.where} showed a host key that cannot be read")
    if seen.verdict is None and "revoked" in error.reason:
        seen.verdict = revoked_error(place.identity, seen.shown_key, "known_hosts")
    message = f"the host certificate is not valid: {one_line(error.reason)}"
    return seen.verdict or HostKeyError(asked.node, message, reason="unknown")
