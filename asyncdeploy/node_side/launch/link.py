"""One connection between two supervisors of a launch, on which each message is proven.

Runs on a node, loaded by gang.py: Python >= 3.8, standard library only.

First each side sends a line with a nonce. Then a message is a line: JSON, a space, and in hex the HMAC-SHA256, under
the launch's key, of both nonces, who speaks, how many he has sent before, and the JSON itself.
"""

import hashlib
import hmac
import json
import os
import time

MAX_LINE = 4096  # bytes; a reason of 300 characters takes a third of it
MAX_OUTBOX = 16 * MAX_LINE  # for a peer that reads nothing
GREETING_S = 10.0  # for a stranger to prove who he is


class Broken(Exception):
    """The link is of no more use; where the system said why, its errno is our argument."""


class Link:
    """Messages in and out, each proven, and never a wait.

    Attributes: sock, session (both nonces, None until the other's came), sent and heard (how many messages), outbox
    (bytes not sent yet), rank (of the other side, once it has said so and proven it).
    """

    def __init__(self, sock, key, is_hub):
        self.sock = sock
        self.key = key
        self.is_hub = is_hub
        self.nonce = os.urandom(16).hex()
        self.session = None
        self.sent = self.heard = 0
        self.inbox, self.outbox = bytearray(), bytearray(self.nonce.encode() + b"\n")
        self.rank = None
        self.since = time.monotonic()

    def mac(self, from_hub, count, payload):
        """Return what proves a message."""
        # Both nonces bind it to this connection: our own is new, so nothing that was recorded on another one fits. Who
        # speaks is named, or what we said could be sent back to us as the other's word. The count keeps one message
        # from being repeated, dropped or put before another.
        head = "%s %s %d " % (self.session, "hub" if from_hub else "guest", count)
        return hmac.new(self.key, head.encode() + payload, hashlib.sha256).hexdigest().encode()

    def say(self, message):
        """Queue a message; the other's nonce must have come."""
        payload = json.dumps(message).encode()
        self.outbox += payload + b" " + self.mac(self.is_hub, self.sent, payload) + b"\n"
        self.sent += 1

    def flush(self):
        """Send what the connection takes now; Broken where it is gone, or the other has read nothing for long."""
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except BlockingIOError:
            if len(self.outbox) > MAX_OUTBOX:
                raise Broken from None
        except OSError:
            raise Broken from None

    def hear(self):
        """Return the messages that came; Broken where the connection ended or something on it is not proven.

        At most a line of MAX_LINE and a read of as much are kept: of 256 strangers 2 MiB.
        """
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
                self.greet(line)
            else:
                found.append(self.proven(line))
        if len(self.inbox) > MAX_LINE:
            raise Broken  # a stranger who talks without end
        return found

    def greet(self, line):
        """Take the other's nonce. It may be anything: whoever does not know the key gets no further with it."""
        theirs = line.decode("ascii", "replace")[:64]
        self.session = self.nonce + theirs if self.is_hub else theirs + self.nonce

    def proven(self, line):
        """Return a line's message."""
        payload, _, mac = line.rpartition(b" ")
        # Nothing of a payload is read before its proof is: a stranger meets no parser of ours.
        if not hmac.compare_digest(mac, self.mac(not self.is_hub, self.heard, payload)):
            raise Broken
        self.heard += 1
        return json.loads(payload)

    def check_greeting(self, now):
        """Broken for a stranger: one who has not proven for a while who he is."""
        if self.heard == 0 and now - self.since > GREETING_S:
            raise Broken

    def close(self):
        self.sock.close()
