"""The link between the supervisors of a launch: when a rank fails or falls silent, the others end, whoever watches.

Runs on a node, used by supervisor.py: Python >= 3.8, standard library only. Node rank 0 listens, the others connect to
it and come back when the line breaks. Both sides prove with every line that they know the launch's key: a line is JSON
and its HMAC over both sides' nonces, the direction and a count, so that none can be made up, repeated or moved. Nothing
on it is secret. The key comes by the variable ASYNCDEPLOY_GANG, which the supervisor keeps from what it starts.

That all of them reach this port was proven a moment before, so node rank 0 waits no longer for who never came than for
who fell silent. Who never hears of node rank 0 waits thrice as long: something else may hold its port.
"""

import errno
import hashlib
import hmac
import json
import os
import select
import socket
import time

BEATS = 6  # in the time after which silence counts
STOPPED_LATER_S = 15.0  # whoever stops one rank stops the others himself, unless he vanished meanwhile
MAX_LINE = 4096
MAX_GUESTS = 4096
GREETING_S = 10.0  # for a stranger to prove who he is
RETURN_S = 10.0  # a line that broke is made again within 5 s
FIRST_LINK = 3  # silences that node rank 0 may take until it is heard of: it may have to wait for its port


def join(text):
    """Return this node's side of the link, or None where there is no launch of many."""
    plan = json.loads(text)
    if plan["count"] < 2:
        return None
    return Hub(plan) if plan["rank"] == 0 else Guest(plan)


class Broken(Exception):
    """The line is of no more use."""


class Line:
    """One connection: whole lines in and out, each proven."""

    def __init__(self, sock, key, is_hub):
        self.sock = sock
        self.key = key
        self.is_hub = is_hub
        self.nonce = os.urandom(16).hex()
        self.session = None  # both nonces, once the other's came
        self.sent = self.heard = 0
        self.inbox, self.outbox = bytearray(), bytearray(self.nonce.encode() + b"\n")
        self.rank = None
        self.since = time.monotonic()

    def mac(self, from_hub, count, payload):
        head = "%s %s %d " % (self.session, "hub" if from_hub else "guest", count)
        return hmac.new(self.key, head.encode() + payload, hashlib.sha256).hexdigest().encode()

    def say(self, message):
        payload = json.dumps(message).encode()
        self.outbox += payload + b" " + self.mac(self.is_hub, self.sent, payload) + b"\n"
        self.sent += 1

    def flush(self):
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except BlockingIOError:
            if len(self.outbox) > 16 * MAX_LINE:
                raise Broken from None
        except OSError:
            raise Broken from None

    def hear(self):
        """Return what came; raises Broken when the line ended or lies."""
        try:
            data = self.sock.recv(MAX_LINE)
        except BlockingIOError:
            data = None
        except OSError as error:
            raise Broken(error.errno) from None
        if data == b"":
            raise Broken
        self.inbox += data or b""
        found = []
        while b"\n" in self.inbox:
            line, _, rest = bytes(self.inbox).partition(b"\n")
            self.inbox = bytearray(rest)
            if self.session is None:
                theirs = line.decode("ascii", "replace")[:64]
                self.session = self.nonce + theirs if self.is_hub else theirs + self.nonce
                continue
            payload, _, mac = line.rpartition(b" ")
            if not hmac.compare_digest(mac, self.mac(not self.is_hub, self.heard, payload)):
                raise Broken
            self.heard += 1
            found.append(json.loads(payload))
        if len(self.inbox) > MAX_LINE:
            raise Broken
        return found

    def check_greeting(self, now):
        """Who has not proven who he is for a while is a stranger."""
        if self.heard == 0 and now - self.since > GREETING_S:
            raise Broken

    def close(self):
        self.sock.close()


class Side:
    """What both sides share.

    because: why this node's rank must end, "" while it need not.
    """

    TICK_S = 0.5  # between two looks

    def __init__(self, plan):
        self.plan = plan
        self.key = bytes.fromhex(plan["key"])
        self.silence = float(plan["silence_s"])
        self.beat_at = 0.0
        self.because = ""
        self.end = None  # how our own rank ended

    def is_beat(self, now):
        if now < self.beat_at:
            return False
        self.beat_at = now + self.silence / BEATS
        return True

    def own_end(self, kind, words):
        """Our rank has ended: "ok", "failed", "stopped" by somebody, or "told" to by the others."""
        self.end = {"end": kind, "because": "node rank %d (%s) %s" % (self.plan["rank"], self.plan["name"], words)}

    def wait(self, poll):
        for fd in self.fds():
            poll.register(fd, select.POLLIN)


class Hub(Side):
    """Node rank 0's side: it hears of all and tells all."""

    is_hub = True

    def __init__(self, plan):
        Side.__init__(self, plan)
        self.server = listening(plan["port"])
        self.lines = []
        self.heard_at = {}  # rank -> when it was heard
        self.ended = {}  # rank -> how, see own_end
        self.stop_at = None
        self.began = time.monotonic()

    def fds(self):
        return [self.server.fileno(), *(line.sock.fileno() for line in self.lines)]

    def tick(self, now):
        """Do what there is to do."""
        self.accept()
        beat = self.is_beat(now)
        for line in list(self.lines):
            try:
                for message in line.hear():
                    self.take(line, message, now)
                line.check_greeting(now)
                if beat and line.rank is not None:
                    line.say({"beat": 1})
                line.flush()
            except (Broken, ValueError, KeyError, TypeError):
                self.lines.remove(line)
                line.close()
        for rank in range(1, self.plan["count"]):
            if rank not in self.ended and now - self.heard_at.get(rank, self.began) > self.silence:
                self.ended[rank] = "failed"
                for line in [line for line in self.lines if line.rank == rank]:
                    self.lines.remove(line)
                    line.close()
                name = self.plan["names"][rank]
                self.tell("node rank %d (%s) fell silent for %.0f s" % (rank, name, self.silence))
        if self.stop_at is not None and now >= self.stop_at[0]:
            self.tell(self.stop_at[1])

    def accept(self):
        while len(self.lines) < MAX_GUESTS:
            try:
                sock = self.server.accept()[0]
            except OSError:
                return
            sock.setblocking(False)
            self.lines.append(Line(sock, self.key, True))

    def take(self, line, message, now):
        rank = int(message["rank"])
        if not 0 < rank < self.plan["count"] or line.rank not in (None, rank):
            raise Broken
        if line.rank is None:
            line.say({"stop": self.because} if self.because else {"beat": 1})
        line.rank = rank
        self.heard_at[rank] = now
        if "end" in message:
            line.say({"heard": 1})
            self.note(rank, message, now)

    def note(self, rank, message, now):
        if rank not in self.ended:
            self.ended[rank] = message["end"]
            if message["end"] == "failed":
                self.tell(str(message["because"])[:300])
            elif message["end"] == "stopped" and self.stop_at is None:
                self.stop_at = now + STOPPED_LATER_S, str(message["because"])[:300]

    def tell(self, because):
        """All must end; what ended the first one stays the reason."""
        if not self.because:
            self.because = because
            for line in self.lines:
                if line.rank is not None:
                    line.say({"stop": because})

    def own_end(self, kind, words):
        Side.own_end(self, kind, words)
        self.note(0, self.end, time.monotonic())

    def busy(self):
        """Whether others still need us: who has not ended, or has not come yet to hear that it must."""
        if any(line.outbox for line in self.lines if line.rank is not None):
            return True
        if self.ended.get(0) != "stopped":
            return any(rank not in self.ended for rank in range(1, self.plan["count"]))
        # Whoever stops us stops the others too, or never started them; to the rest we say it, if they are still there.
        now, linked = time.monotonic(), {line.rank for line in self.lines}
        awaited = [rank for rank, at in self.heard_at.items() if rank in linked or now - at < RETURN_S]
        return any(rank not in self.ended for rank in awaited)

    def close(self):
        for each in [self.server, *self.lines]:
            each.close()


class Guest(Side):
    """The side of every other node."""

    is_hub = False

    def __init__(self, plan):
        Side.__init__(self, plan)
        self.line = None
        self.try_at = 0.0
        self.pause = 0.2
        self.heard_at = None  # None until the link stood once
        self.began = time.monotonic()
        self.acknowledged = False
        self.told_end = self.told_once = False

    def fds(self):
        return [self.line.sock.fileno()] if self.line is not None else []

    def tick(self, now):
        """Do what there is to do."""
        if self.line is None and now >= self.try_at:
            self.connect(now)
        if self.line is not None:
            try:
                self.talk(now)
            except (Broken, ValueError, KeyError, TypeError) as error:
                # Whoever heard our end and has left may have taken his word of it along.
                if self.told_once and error.args == (errno.ECONNREFUSED,):
                    self.acknowledged = True
                self.line.close()
                self.line, self.try_at = None, now + self.pause
                self.pause = min(self.pause * 2, 5.0)
        heard_at = self.heard_at or self.began + (FIRST_LINK - 1) * self.silence
        if now - heard_at > self.silence and not self.because:
            how = "was silent for" if self.heard_at is not None else "has not been heard of since the start, for over"
            self.because = "node rank 0 (%s) %s %.0f s" % (self.plan["names"][0], how, self.silence)
            self.acknowledged = True  # nobody is left to hear of our end

    def connect(self, now):
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                self.plan["host"], self.plan["port"], type=socket.SOCK_STREAM
            )[0]
            sock = socket.socket(family, kind)
            sock.setblocking(False)
            problem = sock.connect_ex(address)
        except OSError:
            self.try_at = now + self.pause
            return
        if problem not in (0, errno.EINPROGRESS):
            sock.close()
            self.acknowledged = self.acknowledged or (self.told_once and problem == errno.ECONNREFUSED)
            self.try_at = now + self.pause
            return
        self.line = Line(sock, self.key, False)
        self.told_end = False

    def talk(self, now):
        line = self.line
        for message in line.hear():
            self.heard_at, self.pause = now, 0.2
            if "stop" in message and not self.because:
                self.because = str(message["stop"])[:300]
            if "heard" in message:
                self.acknowledged = True
        if line.session is None:
            line.check_greeting(now)
        elif self.end is not None and not self.told_end:
            line.say({"rank": self.plan["rank"], **self.end})
            self.told_end = self.told_once = True
        elif line.sent == 0 or self.is_beat(now):
            line.say({"rank": self.plan["rank"], "beat": 1})
        line.flush()

    def busy(self):
        """Whether our end has not been heard yet."""
        linked = self.line is not None and self.line.session is not None
        if self.end is not None and self.end["end"] == "stopped" and not linked:
            # Whoever stops us stops the others too; a node rank 0 that is gone need not hear of it.
            return self.heard_at is not None and time.monotonic() - self.heard_at < RETURN_S
        return not self.acknowledged

    def close(self):
        if self.line is not None:
            self.line.close()


def listening(port):
    """Listen on a port of every address; the last user's waiting sockets are no hindrance."""
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            server = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((host, port))
            server.listen(128)
            server.setblocking(False)
            return server
        except OSError:
            server.close()
            if family == socket.AF_INET:
                raise
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
