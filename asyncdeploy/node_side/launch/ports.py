"""Prove that the nodes of a launch can meet at a port: one of them listens for a moment while the others connect.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are JSON with "do" and "nonce":
"listen": take a free TCP port (or the given one), say it in a frame P, answer each connection with the nonce until the
client says D. Returned: {"error": ...} or {}.
"connect": connect to all targets at once. Returned: for each what the kernel chose: {"peer", "local"} or {"error"};
once one has answered the others get "more_s" and are then {"left": true}.
"pairs": take two free ports, one below the ephemeral range and one in it (a firewall may know ranges), say both in a
frame P; the client's frame T names who to connect to, as [address, port, nonce] each; a frame R says what became of
each, as "connect" does; the own ports answer until the client says D.
"opened": whether a process of the launch listens on the port: {"opened": true, false, or null where nobody can tell}.
"""

import json
import os
import select
import socket
import time

from asyncdeploy.node_side import files, proc
from asyncdeploy.node_side.launch import sockets

LISTEN_S = 60  # the client's proof is over long before; then a port must not stay taken
TRIES = 50  # random ports; on a busy node one in ten is taken, so ten in a row are already very rare
LOWEST_PORT = 10000  # below it stand the well-known services, which may be off at the moment
EPHEMERAL_FROM = 32768  # Linux's default, where the file cannot be read


def main(worker, args):
    wanted = json.loads(args)
    if wanted["do"] == "opened":
        answer = opened(wanted)
    else:
        answer = {"listen": listen, "connect": connect, "pairs": pairs}[wanted["do"]](worker, wanted)
    return json.dumps(answer).encode()


def listen(worker, wanted):
    try:
        server = take_port(wanted["port"])
    except OSError as error:
        return {"error": (error.strerror or str(error)) + holder_of(wanted["port"])}
    try:
        worker.send(b"P", str(server.getsockname()[1]).encode())
        serve(worker, server, wanted["nonce"].encode())
    finally:
        server.close()
    return {}


def take_port(port):
    """Listen on the given port, or on a free one that no outgoing connection will take."""
    if port:
        return sockets.listen(port)
    below = max(ephemeral_from(), LOWEST_PORT + 1000)
    problem = None
    for _ in range(TRIES):
        try:
            return sockets.listen(LOWEST_PORT + int.from_bytes(os.urandom(4), "big") % (below - LOWEST_PORT))
        except OSError as error:
            problem = error
    raise problem


def holder_of(port):
    """Return who listens on a port, in words; "" where nobody does or it cannot be seen, as another user's."""
    listening = listening_inodes(port) if port else None
    for pid in proc.pids() if listening else ():
        if listening & sockets_of(pid):
            return " by pid %d (%s)" % (pid, files.text("/proc/%d/comm" % pid).strip() or "?")
    return ""


def ephemeral_from():
    try:
        return int(files.text("/proc/sys/net/ipv4/ip_local_port_range").split()[0])
    except (ValueError, IndexError):
        return EPHEMERAL_FROM


def serve(worker, server, nonce):
    """Give the nonce to whoever connects; who asked closes first, so that no waiting socket of ours keeps the port."""
    end = time.monotonic() + LISTEN_S
    guests = []
    try:
        while time.monotonic() < end:
            select.select([0, server], [], [], 1)
            worker.poll()
            frame = worker.take()
            if frame is not None and frame[0] == b"D":
                return
            try:
                guest = server.accept()[0]
            except OSError:
                continue
            guests.append(guest)
            try:
                guest.send(nonce)  # a few bytes into an empty buffer
            except OSError:
                continue
    finally:
        for guest in guests:
            guest.close()


def connect(worker, wanted):
    end, hurried = time.monotonic() + wanted["timeout_s"], False
    results, tries = {}, {}
    for target in wanted["targets"]:
        try:
            tries[target] = sockets.connect(target, wanted["port"])
        except OSError as error:
            results[target] = {"error": str(error)}
    waiting = dict(tries)
    while waiting and time.monotonic() < end:
        poll = select.poll()
        for guest in waiting.values():
            poll.register(guest, select.POLLIN | select.POLLERR | select.POLLHUP)
        poll.poll(200)
        worker.poll()
        for target, guest in list(waiting.items()):
            result = look(guest, wanted["nonce"].encode())
            if result is not None:
                results[target] = result
                del waiting[target]
                if "peer" in result and not hurried:
                    hurried, end = True, min(end, time.monotonic() + wanted["more_s"])
    for guest in tries.values():
        guest.close()
    for target in waiting:
        results[target] = {"left": True} if hurried else {"error": no_answer(wanted)}
    return results


def no_answer(wanted):
    return "no answer within %g s" % wanted["timeout_s"]


def pairs(worker, wanted):
    """Be the host and the guest of every other node at once."""
    servers = []
    try:
        servers.append(take_port(0))
        servers.append(sockets.listen(0))
    except OSError as error:
        for server in servers:
            server.close()
        return {"error": error.strerror or str(error)}
    nonce, end = wanted["nonce"].encode(), time.monotonic() + LISTEN_S
    guests, tries, results, until = [], {}, None, end
    worker.send(b"P", json.dumps([server.getsockname()[1] for server in servers]).encode())
    try:
        while time.monotonic() < end:
            select.select([0, *servers, *(guest for guest, _ in tries.values())], [], [], 0.2)
            worker.poll()
            frame = worker.take()
            if frame is not None and frame[0] == b"D":
                break
            if frame is not None and frame[0] == b"T":
                tries, results = begin_all(json.loads(frame[1]))
                until = time.monotonic() + wanted["timeout_s"]
            for server in servers:
                welcome(server, guests, nonce)
            for index, (guest, expected) in list(tries.items()):
                result = look(guest, expected)
                if result is not None or time.monotonic() > until:
                    results[index] = result or {"error": no_answer(wanted)}
                    tries.pop(index)[0].close()
            if results is not None and not tries:
                worker.send(b"R", json.dumps(results).encode())
                results = None
    finally:
        for each in [*servers, *guests, *(guest for guest, _ in tries.values())]:
            each.close()
    return {}


def begin_all(targets):
    """Begin to connect to all targets; return what is open by its number, and a place for each result."""
    tries, results = {}, [None] * len(targets)
    for index, (target, port, nonce) in enumerate(targets):
        try:
            tries[index] = sockets.connect(target, port), nonce.encode()
        except OSError as error:
            results[index] = {"error": error.strerror or str(error)}
    return tries, results


def welcome(server, guests, nonce):
    """Give the nonce to all who wait to be let in."""
    while True:
        try:
            guests.append(server.accept()[0])
            guests[-1].send(nonce)
        except BlockingIOError:
            return
        except OSError:
            continue


def look(guest, nonce):
    """Return what became of a connection, None while that is open."""
    problem = guest.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        return {"error": os.strerror(problem)}
    try:
        said = guest.recv(len(nonce))
    except BlockingIOError:
        return None
    except OSError as error:
        return {"error": error.strerror or "the connection broke"}
    if said != nonce:
        return {"error": "somebody else answers there"}
    return {"peer": guest.getpeername()[0], "local": guest.getsockname()[0]}


def opened(wanted):
    listening = listening_inodes(wanted["port"])
    if listening is None:
        return {"opened": None}
    if not listening:
        return {"opened": False}
    mark = b"ASYNCDEPLOY_RUN_ID=" + wanted["nonce"].encode()
    for pid in proc.pids():
        if proc.is_marked(pid, mark) and listening & sockets_of(pid):
            return {"opened": True}
    return {"opened": False}


def listening_inodes(port):
    """Return which sockets listen on a port, None where nobody can tell."""
    tables = [files.text(path) for path in ("/proc/net/tcp", "/proc/net/tcp6")]
    rows = [line.split() for text in tables for line in text.splitlines()[1:]]
    listening = {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    return listening if any(tables) else None


def sockets_of(pid):
    inodes = set()
    try:
        for fd in os.listdir("/proc/%d/fd" % pid):
            target = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        return inodes  # it has ended, or is not ours to look at
    return inodes
