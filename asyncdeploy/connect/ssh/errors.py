"""Why there is no login, or no trust in a host key, in our words."""

from __future__ import annotations

import asyncssh

from asyncdeploy.connect.ssh.connection import NO_KEY
from asyncdeploy.connect.ssh.handshake.explain import Asked, explain
from asyncdeploy.connect.ssh.handshake.reasons import connect_error
from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.values.errors import DeployError


def explain_handshake(asked: Asked, seen: Seen, error: Exception) -> DeployError:
    """Return what a failed handshake means; whatever ended it, one of our errors comes of it."""
    if seen.verdict is not None:
        return seen.verdict
    if isinstance(error, asyncssh.HostKeyNotVerifiable) and error.reason == NO_KEY:
        return connect_error(asked.node, "protocol", f"{asked.where} showed a host key that cannot be read")
    return explain(asked, seen, error)
