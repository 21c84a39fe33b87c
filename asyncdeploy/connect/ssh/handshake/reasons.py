"""Why no connection could be begun: what the system says, and what it means to a person. One table for all of it."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterable

import attrs

from asyncdeploy.values.errors import ConnectError
from asyncdeploy.values.words import one_line

HINTS = {
    "refused": "is sshd running there, and is this its port?",
    "timeout": "is the machine up, and does a firewall drop us?",
    "throttled": "sshd does that when too many connect at once (MaxStartups), or to an address that it refuses",
    "dns": "check the name, or give an address",
    "unreachable": "is the machine up, and is there a way to it from here (VPN, route, IPv6)?",
    "protocol": "is an SSH server listening on this port?",
    "jump": "try `ssh` from the jump host to it; AllowTcpForwarding must be on there",
}
"""What to do next, by a ConnectError's reason, where the table below has nothing better."""

MAX_LABEL = 63
"""Letters of one part of a host name (RFC 1035)."""


@attrs.frozen
class Why:
    """What one error means: "{where}" is host and port, "{host}" the host, "{limit}" our limit of open files.

    Attributes:
        reason: as in ConnectError.
        text: what happened.
        hint: what to do next, "" for that of the reason.
        passing: it may be otherwise a moment later, whatever the reason.
    """

    reason: str
    text: str
    hint: str = ""
    passing: bool = False


_RAISE = (
    "raise it (`ulimit -n 65536` before the program starts, LimitNOFILE= of a service), or take fewer nodes at once"
)

SYSTEM = {
    errno.ECONNREFUSED: Why("refused", "{where} refuses connections"),
    errno.ECONNRESET: Why("throttled", "{where} reset the connection"),
    errno.ECONNABORTED: Why("throttled", "the connection to {where} was broken off while it was made"),
    errno.EPIPE: Why("throttled", "{where} closed the connection while it was made"),
    errno.ETIMEDOUT: Why("timeout", "{where} did not answer"),
    errno.EHOSTUNREACH: Why("unreachable", "{host} cannot be reached: no machine answers at that address"),
    errno.EHOSTDOWN: Why("unreachable", "{host} cannot be reached: the network says that it is down"),
    errno.ENETUNREACH: Why("unreachable", "{host} cannot be reached: this machine has no route to it"),
    errno.ENETDOWN: Why("unreachable", "{host} cannot be reached: this machine's network is down"),
    errno.ENETRESET: Why("unreachable", "{host} cannot be reached: the network broke the connection off"),
    errno.EACCES: Why(
        "local", "this machine does not let us connect to {where}", "its firewall or a sandbox forbids it"
    ),
    errno.EPERM: Why(
        "local", "this machine does not let us connect to {where}", "its firewall or a sandbox forbids it"
    ),
    errno.EAFNOSUPPORT: Why(
        "local", "this machine cannot use the kind of address that {host} has", "is IPv6 off here?"
    ),
    errno.EINVAL: Why(
        "local",
        "{host} is an address to which nothing can connect",
        "a link-local IPv6 address needs the network card too, as in fe80::1%eth0",
    ),
    errno.EADDRNOTAVAIL: Why(
        "local",
        "this machine has no address or no free port from which {where} could be connected to",
        "`ss -s` counts its connections; net.ipv4.ip_local_port_range bounds them",
        passing=True,
    ),
    errno.EADDRINUSE: Why(
        "local",
        "this machine has no free port from which {where} could be connected to",
        "`ss -s` counts its connections; net.ipv4.ip_local_port_range bounds them",
        passing=True,
    ),
    errno.EMFILE: Why("local", "this program may have no more than {limit} files and connections open", _RAISE),
    errno.ENFILE: Why(
        "local",
        "this machine may have no more files and connections open",
        "fs.file-max bounds all its programs together",
    ),
    errno.ENOBUFS: Why(
        "local", "this machine has no buffers left for {where}", "too many connections at once", passing=True
    ),
    errno.ENOMEM: Why("local", "this machine has no memory left to connect to {where}", passing=True),
}
"""What connecting, and all that it needs of this machine, may fail with."""

NAMES = {
    "EAI_NONAME": Why("dns", "the name {host} is not known"),
    "EAI_NODATA": Why("dns", "the name {host} has no address"),
    "EAI_ADDRFAMILY": Why("dns", "the name {host} has no address that this machine can use"),
    "EAI_AGAIN": Why(
        "dns",
        "the name server does not answer, asked for {host}",
        "is the network up on this side, and the DNS of /etc/resolv.conf? an address needs none",
        passing=True,
    ),
    "EAI_FAIL": Why("dns", "the name server refused to look {host} up"),
    "EAI_MEMORY": Why("local", "this machine has no memory left to look {host} up", passing=True),
}
"""What looking a name up may fail with."""


def connect_error(node: str, reason: str, message: str, hint: str = "", *, passing: bool = False) -> ConnectError:
    """Return a ConnectError with the hint that belongs to its reason, unless there is a better one."""
    return ConnectError(node, message, hint or HINTS.get(reason, ""), reason=reason, passing=passing)


def system_error(node: str, host: str, port: int, error: OSError) -> ConnectError:
    """Return why no connection could be begun.

    Args:
        node: the node's name.
        host, port: where its sshd should be.
        error: what the system said; a look-up's too.
    """
    if isinstance(error, socket.gaierror):
        why = _name_reason(error)
    elif isinstance(error, TimeoutError) and not error.errno:
        why = SYSTEM[errno.ETIMEDOUT]
    else:
        why = SYSTEM.get(error.errno or 0) or Why("unreachable", "{where} cannot be connected to: {text}")
    text = one_line(os.strerror(error.errno) if error.errno and error.errno > 0 else str(error))
    message = why.text.format(where=f"{host} port {port}", host=host, limit=_limit(), text=text)
    return connect_error(node, why.reason, message, why.hint, passing=why.passing)


def name_error(node: str, host: str) -> ConnectError:
    """Return why a name cannot even be asked for: DNS has no such names."""
    long = next((part for part in host.split(".") if len(part) > MAX_LABEL), None)
    if long is not None:
        what = f"its part {long[:12]}... has {len(long)} letters, at most {MAX_LABEL} were expected"
    elif ".." in host or host.startswith("."):
        what = "a part between two dots is empty"
    else:
        what = "it has letters that no host name can have"
    return connect_error(node, "dns", f"{one_line(host)} is no host name: {what}")


def _name_reason(error: socket.gaierror) -> Why:
    # The C library says "not known" or "try again" also where it could not open its own files to look.
    if (missing := _no_descriptor()) is not None:
        return SYSTEM[missing]
    names: Iterable[tuple[str, Why]] = NAMES.items()
    for name, why in names:
        if error.errno == getattr(socket, name, None):
            return why
    return Why("dns", "the name {host} could not be looked up")


def _no_descriptor() -> int | None:
    """Return EMFILE or ENFILE if not even one more file can be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno if error.errno in (errno.EMFILE, errno.ENFILE) else None
    return None


def _limit() -> str:
    return str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
