"""Where the blocks of a push come from: the client, or another node that has them already; and where they go on to.

Every block that did not come from the client itself is verified against the digest that did.
"""

import os
import select

PROOF = 16  # bytes of a block's sha256: what a peer would have to find a second block for
LOOK_MS = 5000  # between two looks at whether the client lives, and at whether it should hear of us


class Feed:
    """The blocks of one push, in order, each once."""

    def __init__(self, worker):
        self.worker = worker
        self.next = 0
        self.answer = False  # the client waits for word of this block
        self.digests = {}
        self.parent = self.bell = self.held = None
        self.children, self.told = [], {}

    def block(self):
        """Return the next block as it travels."""
        while True:
            found = self.from_parent()
            if found is None:
                frame = self.worker.receive() if self.bell is None else self.listen()
                if frame is None:
                    continue
                found = self.heed(*frame)
            if found is not None:
                self.pass_on(found)
                return found

    def pass_on(self, block):
        for child in self.children:
            child.put(self.next, bytes(block))
        self.digests.pop(self.next, None)
        self.next += 1
        if self.bell is not None or self.answer:
            self.answer = False
            self.worker.send(b"Q", self.next.to_bytes(4, "big"))

    def listen(self):
        """Wait for the client or a peer; return the client's next frame, if it is there."""
        self.report_children()
        frame = self.worker.take()
        if frame is None:
            poll = select.poll()
            poll.register(0, select.POLLIN)
            poll.register(self.bell.fd, select.POLLIN)
            if any(fd == self.bell.fd for fd, _ in poll.poll(LOOK_MS)):
                self.bell.hear()
            self.worker.poll()
            frame = self.worker.take()
        return frame

    def heed(self, kind, payload):
        """Do what the client says; return the next block if that is what it sent."""
        if kind in (b"D", b"A"):
            number = int.from_bytes(payload[:4], "big")
            if number > self.next:
                raise ValueError("a block was left out")
            if number < self.next:
                return None
            self.answer = kind == b"A"
            return memoryview(payload)[4:]
        if kind == b"V":
            first = int.from_bytes(payload[:4], "big")
            for at in range(4, len(payload), PROOF):
                self.digests[first + (at - 4) // PROOF] = payload[at : at + PROOF]
        elif kind == b"R":
            import json

            self.obey(json.loads(payload))
        else:
            raise ValueError("contents were expected")
        return None

    def from_parent(self):
        """Return the next block if another node sent it."""
        if self.parent is None:
            return None
        if self.held is None:
            self.held = self.parent.take()
        if self.held is None:
            if self.parent.ended:
                self.leave_parent(self.parent.ended)
            return None
        number, block = self.held
        if number < self.next:
            self.held = None
        elif number > self.next:
            self.leave_parent("the node before this one left a block out")
        elif number in self.digests:
            self.held = None
            if self.is_the_clients(number, block):
                return block
            self.leave_parent("the node before this one sent a block that is not the client's")
        return None

    def is_the_clients(self, number, block):
        import hashlib

        return hashlib.sha256(block).digest()[:PROOF] == self.digests[number]

    def leave_parent(self, why):
        """Give the parent up; the client sends the rest."""
        self.parent.end(why)
        self.parent = self.held = None
        self.worker.send(b"X", self.next.to_bytes(4, "big") + why.encode("utf-8", "replace")[:400])

    def obey(self, order):
        # Most pushes have no relay; its imports take 9 ms.
        from asyncdeploy.node_side.push import relay_link as links

        self.bell = self.bell or links.Bell()
        if order["do"] == "leave":
            if self.parent is not None:
                self.leave_parent("the client said so")
            return
        try:
            if order["do"] == "listen":
                address = order["address"] or own_address()
                self.parent = links.Parent(address, order["identity"], order["peer"], self.bell)
                self.tell({"address": address, "port": self.parent.port})
            else:
                name, address, port = order["name"], order["address"], order["port"]
                self.children.append(links.Child(name, address, port, order["identity"], order["peer"], self.bell))
        except Exception as error:  # no ssl, no memfd, no such address: the client sends the blocks itself
            self.tell({"cannot": order["do"], "why": str(error) or type(error).__name__})

    def report_children(self):
        for child in self.children:
            news = child.ended or ("linked" if child.linked else "")
            if news and self.told.get(child.name) != news:
                self.told[child.name] = news
                self.tell({"child": child.name, "linked": not child.ended, "why": child.ended})

    def tell(self, news):
        import json

        self.worker.send(b"R", json.dumps(news).encode())

    def close(self):
        """Let the parent go; what children still need is sent by threads of their own."""
        if self.parent is not None:
            self.parent.end("done")
        for child in self.children:
            child.finish()
        if self.bell is not None:
            self.bell.close()


def own_address():
    """Return the address at which the client reached us."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    if len(words) != 4:
        raise OSError("the node does not know its address")
    return words[2]
