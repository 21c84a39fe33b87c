"""Many connections at once that prove who answers, with as many descriptors as there are: guests and tries.

Runs on a node, loaded by ports.py: Python >= 3.8, standard library only. Who listens gives a nonce to whoever connects;
who connects waits for the nonce that it expects.
"""

import os
import select
import socket
import time

from asyncdeploy.node_side import open_files
from asyncdeploy.node_side.launch import sockets

RESERVED = 24  # descriptors for all else: the worker has ten, and opens a few
LEAST = 4
NO_ROOM_S = 0.05  # until we look again where the machine has no descriptor left for anybody


class Room:
    """How many connections there may be; the limits are as they were when it is closed."""

    def __init__(self):
        most, self.before = open_files.raise_limit()
        self.each_way = max((most - RESERVED) // 2, LEAST)

    def close(self):
        open_files.restore_limit(self.before)


class Guests:
    """Who connects to us: each gets the nonce and closes first, so that no waiting socket of ours keeps the port."""

    def __init__(self, servers, nonce, at_once):
        self.servers, self.nonce, self.at_once = servers, nonce, at_once
        self.here = []

    def register(self, poll):
        for sock in [*self.servers, *self.here]:
            poll.register(sock, select.POLLIN)

    def step(self):
        """Let go of who has left, and welcome who waits."""
        for guest in [guest for guest in self.here if has_left(guest)]:
            self.here.remove(guest)
            guest.close()
        for server in self.servers:
            self.welcome(server)

    def welcome(self, server):
        for _ in range(self.at_once):
            try:
                guest = server.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                time.sleep(NO_ROOM_S)  # or we would be told of who waits again at once
                return
            self.here.append(guest)
            guest.setblocking(False)
            try:
                guest.send(self.nonce)  # a few bytes into an empty buffer
            except OSError:
                pass  # he has left again
            if len(self.here) > self.at_once:
                self.here.pop(0).close()  # it has had its nonce; a stranger would stay for ever

    def close(self):
        for sock in [*self.servers, *self.here]:
            sock.close()


def has_left(guest):
    try:
        return not guest.recv(64)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Tries:
    """Connections of ours to [address, port, nonce] each, so many at once, each with a time of its own.

    Attributes: results (of each {"peer", "local"} or {"error"}, None while it is open).
    """

    def __init__(self, targets, at_once, timeout_s):
        self.timeout_s, self.at_once = timeout_s, at_once
        self.results = [None] * len(targets)
        self.left = list(enumerate(targets))[::-1]
        self.open = {}  # number -> (socket, nonce, until when)

    def register(self, poll):
        for sock, _, _ in self.open.values():
            poll.register(sock, select.POLLIN)

    def step(self):
        """Look at what is open, and begin what there is room for."""
        now = time.monotonic()
        for number, (sock, nonce, until) in list(self.open.items()):
            result = outcome(sock, nonce)
            if result is not None or now > until:
                self.results[number] = result or {"error": no_answer(self.timeout_s)}
                self.open.pop(number)[0].close()
        while self.left and len(self.open) < self.at_once:
            number, (target, port, nonce) = self.left.pop()
            try:
                self.open[number] = sockets.connect(target, port), nonce.encode(), now + self.timeout_s
            except OSError as error:
                self.results[number] = {"error": error.strerror or str(error)}

    def are_over(self):
        return not self.left and not self.open

    def close(self):
        for sock, _, _ in self.open.values():
            sock.close()


def no_answer(timeout_s):
    return "no answer within %g s" % timeout_s


def outcome(sock, nonce):
    """Return what became of a connection, None while that is open."""
    problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        return {"error": os.strerror(problem)}
    try:
        said = sock.recv(len(nonce))
    except BlockingIOError:
        return None
    except OSError as error:
        return {"error": error.strerror or "the connection broke"}
    if said != nonce:
        return {"error": "somebody else answers there"}
    return {"peer": sock.getpeername()[0], "local": sock.getsockname()[0]}
