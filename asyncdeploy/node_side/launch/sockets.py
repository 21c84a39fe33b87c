"""TCP sockets of a launch that never wait: one that listens on every address, one that connects.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only.
"""

import errno
import os
import socket


def listen(port, reuse=False):
    """Listen on a port of every address, as torchrun's store does; 0 takes one of the ephemeral range.

    Args: port, reuse (whether waiting sockets of the last user are no hindrance; otherwise any other use is noticed).
    """
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            server = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # no IPv6 in this kernel
        try:
            if reuse:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((host, port))
            server.listen(128)
            server.setblocking(False)
            return server
        except OSError as error:
            server.close()
            if family == socket.AF_INET or (error.errno == errno.EADDRINUSE and not reuse):
                raise
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


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
