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
import time

from asyncdeploy.node_side import files, proc
from asyncdeploy.node_side.launch import sockets
from asyncdeploy.node_side.launch.connections import Guests, Room, Tries, no_answer, outcome

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
    room = Room()
    guests = Guests([server], wanted["nonce"].encode(), room.each_way)
    end = time.monotonic() + LISTEN_S
    try:
        worker.send(b"P", str(server.getsockname()[1]).encode())
        while time.monotonic() < end:
            frame = await_news(worker, 1000, guests)
            if frame is not None and frame[0] == b"D":
                break
            guests.step()
    finally:
        guests.close()
        room.close()
    return {}


def await_news(worker, wait_ms, *others):
    """Wait for the client or for others; return the client's frame if there is one."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    for each in others:
        each.register(poll)
    poll.poll(wait_ms)
    worker.poll()
    return worker.take()


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
            result = outcome(guest, wanted["nonce"].encode())
            if result is not None:
                results[target] = result
                del waiting[target]
                if "peer" in result and not hurried:
                    hurried, end = True, min(end, time.monotonic() + wanted["more_s"])
    for guest in tries.values():
        guest.close()
    for target in waiting:
        results[target] = {"left": True} if hurried else {"error": no_answer(wanted["timeout_s"])}
    return results


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
    room, end = Room(), time.monotonic() + LISTEN_S
    guests = Guests(servers, wanted["nonce"].encode(), room.each_way)
    tries, told = Tries([], 0, 0), True
    try:
        worker.send(b"P", json.dumps([server.getsockname()[1] for server in servers]).encode())
        while time.monotonic() < end:
            frame = await_news(worker, 200, guests, tries)
            if frame is not None and frame[0] == b"D":
                break
            if frame is not None and frame[0] == b"T":
                tries, told = Tries(json.loads(frame[1]), room.each_way, wanted["timeout_s"]), False
            guests.step()
            tries.step()
            if not told and tries.are_over():
                worker.send(b"R", json.dumps(tries.results).encode())
                told = True
    finally:
        tries.close()
        guests.close()
        room.close()
    return {}


def opened(wanted):
    listening = listening_inodes(wanted["port"])
    if listening is None:
        return {"opened": None}
    if not listening:
        return {"opened": False}
    mark = b"ASYNCDEPLOY_RUN_ID=" + wanted["nonce"].encode()
    for pid in proc.pids():
        # Anybody may set a variable; who is another one in a container of ours its image says.
        trusted = proc.is_marked(pid, mark) and (proc.is_ours(pid) or proc.is_apart(pid))
        if trusted and listening & sockets_of(pid):
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
