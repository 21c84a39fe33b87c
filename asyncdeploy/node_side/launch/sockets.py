"""TCP sockets of a launch that never wait: one that listens, one that connects.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only.
"""

import errno
import os
import socket

WAITING = 1024  # to be let in: all nodes of a launch come at the same moment


def listen(port, reuse=False, host=""):
    """Listen on a port, 0 takes one of the ephemeral range.

    Args: port, reuse (whether waiting sockets of the last user are no hindrance; otherwise any other use is noticed),
    host (the numeric address to listen on, "" for every one, as torchrun's store does). An address by which others know
    this machine but which it does not have itself, as behind a NAT, is as good as "".
    """
    if host:
        try:
            return bound(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0], reuse)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    try:
        return bound((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::", port)), reuse)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and not reuse:
            raise
    return bound((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("0.0.0.0", port)), reuse)  # no IPv6 in this kernel


def bound(place, reuse):
    """Return a socket that listens at a place, as getaddrinfo names it."""
    family, kind, _, _, address = place
    server = socket.socket(family, kind)
    try:
        if reuse:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(address)
        server.listen(WAITING)
        server.setblocking(False)
        return server
    except OSError:
        server.close()
        raise


def connect(host, port):
    """Begin to connect; a name's first address is taken. What became of it shows when it can be read or written."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    problem = sock.connect_ex(address)
    if problem not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(problem, os.strerror(problem))
    return sock
