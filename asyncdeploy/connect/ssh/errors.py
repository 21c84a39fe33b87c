"""Why a connection could not be made, in our words: here asyncssh's and the system's errors are translated, once."""

from __future__ import annotations

import errno

import asyncssh
import attrs

from asyncdeploy.connect.ssh.endpoint import Place
from asyncdeploy.connect.ssh.keys import Login
from asyncdeploy.connect.ssh.known_hosts.verdicts import revoked_error
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import AuthError, ConnectError, DeployError, HostKeyError

_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "throttled",
    errno.EPIPE: "throttled",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
}
_HINTS = {
    "refused": "is sshd running there, and is this its port?",
    "timeout": "is the machine up, and does a firewall drop us?",
    "throttled": "sshd does that when too many connect at once (MaxStartups), or to an address that it refuses",
    "dns": "check the name, or give an address",
    "unreachable": "is the network up on this side?",
    "protocol": "is an SSH server listening on this port?",
    "jump": "try `ssh` from the jump host to it; AllowTcpForwarding must be on there",
}


@attrs.define
class Seen:
    """What was seen of one handshake.

    Attributes:
        verdict: why the host key was not trusted.
        key: the plain host key that was.
        shown_key: the host key as it came, in wire format.
        login_began: the node's key was accepted, ours were offered.
    """

    verdict: HostKeyError | None = None
    key: asyncssh.SSHKey | None = None
    shown_key: bytes = b""
    login_began: bool = False


def connect_error(node: Node, reason: str, message: str) -> ConnectError:
    """Return a ConnectError with the hint that belongs to its reason."""
    return ConnectError(node.name, message, _HINTS.get(reason, ""), reason=reason)


def dial_error(node: Node, where: str, error: OSError) -> ConnectError:
    """Return why no TCP connection could be made."""
    return connect_error(node, _REASONS.get(error.errno or 0, "unreachable"), f"{where}: {error.strerror or error}")


def explain_handshake(node: Node, place: Place, login: Login, seen: Seen, error: Exception) -> DeployError:
    """Return what a failed handshake means."""
    where = f"{place.route.host} port {place.route.port}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        if seen.verdict is None and "revoked" in str(error):
            seen.verdict = revoked_error(place.identity, seen.shown_key, "known_hosts")
        message = f"the host certificate is not valid: {error.reason}"
        return seen.verdict or HostKeyError(node.name, message, reason="unknown")
    if isinstance(error, asyncssh.PermissionDenied) or "authentication failures" in str(error):
        message = f"login as {place.user!r} was refused; tried {', '.join(login.names)}"
        hint = f"is the public key in ~{place.user}/.ssh/authorized_keys there?"
        if len(login.pairs) > 5:  # sshd's MaxAuthTries is 6
            hint = "sshd stops after a few keys: give the node a key_path, or set IdentitiesOnly in ssh_config"
        return AuthError(node.name, message, hint)
    if isinstance(error, TimeoutError):
        what = "did not finish the login" if seen.login_began else "accepts connections but does not speak SSH"
        return connect_error(node, "timeout", f"{where} {what} in time")
    dropped = isinstance(error, asyncssh.ConnectionLost | OSError)
    if dropped and not seen.login_began:
        return connect_error(node, "throttled", f"{where} closed the connection before login: {error}")
    what = "broke the connection during login" if dropped else "does not speak SSH with us"
    return connect_error(node, "protocol", f"{where} {what}: {error}")
