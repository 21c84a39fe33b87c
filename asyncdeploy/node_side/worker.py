"""The worker: serves one call after another over its stdin and stdout until the client goes away.

Runs on a node: Python >= 3.8, standard library only. It is sent over the channel at its start (never kept on disk) by
a line that leaves ``f``, the buffered stdin, in our globals. Modules are imported with care: each millisecond here is
paid once a node.

A frame is one byte of kind, four bytes of length (big endian), the payload. Kinds from the client: P a module's name
below node_side and its source, C a call of one (what does not fit begins in frames of the kind + before it), H a sign
of life, others belong to the program. Kinds to the client: Z the program returned, F it raised, H a sign of life,
others belong to the program.
"""

import os
import select
import sys
import time

PACKAGE = "asyncdeploy.node_side."

MAX_FRAME = 1 << 20  # keeps both sides' memory bounded
MAX_INBOX = 8 << 20  # what may lie unread while a program sends
# Without a sign of life in a call the client is gone; it sends one every 15 s, so a short nap survives. A node's
# environment may say otherwise (sshd's SetEnv): longer where people's laptops sleep longer, shorter in tests.
SILENCE_S = float(os.environ.get("ASYNCDEPLOY_SILENCE_S") or 90)
LIFE_S = min(15.0, SILENCE_S / 6)  # we owe the client the same in a call: it gives up a node that has hung
LIFE = b"H\0\0\0\0"
READ = 1 << 18


class Worker:
    """What a program sees of its client."""

    def __init__(self, pending):
        self.inbox = bytearray(pending)
        self.buffer = memoryview(bytearray(READ))  # one for all reads: new memory costs more than the copy out of it
        self.incoming = select.poll()
        self.incoming.register(0, select.POLLIN)
        self.seen_at = self.heard_at = time.monotonic()  # the client by us, we by it
        self.sent = Sent()
        # Whether we are a step of a Slurm job, and what is to be done before that may end (run/outlive.py).
        self.in_step = os.environ.pop("ASYNCDEPLOY_STEP", None) is not None
        self.at_end = None
        os.set_blocking(0, False)
        os.set_blocking(1, False)

    def fill(self, wait_s):
        """Take what the client sent into the inbox, waiting up to wait_s for it; SystemExit at its end."""
        try:
            size = os.readv(0, [self.buffer])
        except BlockingIOError:
            # Asked first only then: while contents pour in, something is there as a rule.
            if wait_s and self.incoming.poll(wait_s * 1000):
                self.fill(0)
            return
        except OSError:
            size = 0
        if not size:
            raise SystemExit("the client closed the channel")
        self.seen_at = time.monotonic()
        self.inbox += self.buffer[:size]

    def take(self):
        """Return the next whole frame of the inbox as (kind, payload), or None; signs of life are swallowed.

        The inbox holds MAX_INBOX and a read at most, while nobody takes from it.
        """
        inbox = self.inbox
        while len(inbox) >= 5:
            size = int.from_bytes(inbox[1:5], "big")
            if size > MAX_FRAME:
                raise SystemExit("a frame is too large")
            if len(inbox) < 5 + size:
                return None
            with memoryview(inbox) as view:
                kind, payload = bytes(view[:1]), bytes(view[5 : 5 + size])
            del inbox[: 5 + size]
            if kind != b"H":
                return kind, payload
        return None

    def receive(self, idle=False):
        """Return the client's next frame; SystemExit when it is gone (between calls silence is no sign of that)."""
        while True:
            frame = self.take()
            if frame is not None:
                return frame
            self.fill(3600 if idle else LIFE_S)
            if not idle:
                self.check_life()
                self.sign_life()

    def check_life(self):
        """SystemExit if the client has been silent for too long."""
        if time.monotonic() - self.seen_at > SILENCE_S:
            raise SystemExit("the client fell silent")

    def life(self):
        """Return the frame that says that we live, if it is time for one."""
        if time.monotonic() - self.heard_at < LIFE_S:
            return b""
        self.heard_at = time.monotonic()
        return LIFE

    def sign_life(self):
        """Say that we live, if it is time for that; a channel that is full has said enough."""
        frame = self.life()
        try:
            frame = frame[os.write(1, frame) :] if frame else b""
        except BlockingIOError:
            return
        except OSError:
            raise SystemExit("the client closed the channel") from None
        self.write(frame)

    def poll(self):
        """SystemExit if the client is gone; for long loops, at least every few seconds."""
        if self.has_room():
            self.fill(0)
        self.check_life()
        self.sign_life()

    def has_room(self):
        """Whether more may be read; while it may not, the client's silence is our own deafness and says nothing."""
        if len(self.inbox) < MAX_INBOX:
            return True
        self.seen_at = time.monotonic()
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in self.incoming.poll(0)):
            raise SystemExit("the client closed the channel")
        return False

    def send(self, kind, payload=b""):
        """Send one frame; waits while the channel is full, SystemExit when the client is gone."""
        if len(payload) > MAX_FRAME:
            raise ValueError("a frame is too large")
        self.write(kind + len(payload).to_bytes(4, "big") + payload)
        self.heard_at = time.monotonic()

    def write(self, data):
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(1, view) :]
            except BlockingIOError:
                self.wait_writable()
            except OSError:
                raise SystemExit("the client closed the channel") from None

    def wait_writable(self):
        poll = select.poll()
        poll.register(1, select.POLLOUT)
        if self.has_room():
            poll.register(0, select.POLLIN)
        for fd, _ in poll.poll(SILENCE_S * 1000):
            if fd == 0:
                self.fill(0)
        self.has_room()
        self.check_life()

    def serve(self):
        begun = b""
        while True:
            kind, payload = self.receive(idle=True)
            if kind == b"+":
                begun += payload
                continue
            payload, begun = begun + payload, b""
            name, _, rest = payload.partition(b"\0")
            if kind == b"P":
                self.sent.add(PACKAGE + name.decode(), rest)
            elif kind == b"C":
                self.seen_at = self.heard_at = time.monotonic()
                self.call(name.decode(), rest)
            # Anything else belonged to a call that has ended meanwhile.

    def call(self, name, args):
        try:
            __import__(PACKAGE + name)
            result = sys.modules[PACKAGE + name].main(self, args) or b""
        except Exception as error:
            number, path = getattr(error, "errno", None) or 0, getattr(error, "filename", None) or ""
            path = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
            said = [type(error).__name__ + ": " + str(error), trace_of()[-8000:], str(number), path]
            self.send(b"F", "\0".join(said).encode("utf-8", "replace"))
        else:
            self.send(b"Z", result)


def trace_of():
    """Return the traceback of what is being handled, where a file can be opened to load what writes it."""
    try:
        import traceback
    except OSError:
        return ""
    return traceback.format_exc()


class Sent:
    """The modules that the client sent, found and loaded as any others: programs import each other as they stand."""

    def __init__(self):
        self.sources = {}
        sys.meta_path.insert(0, self)

    def add(self, name, source):
        """Take a module: its source, or, behind a NUL, what it compiles to here."""
        self.sources[name] = source
        while "." in name:
            name = name.rpartition(".")[0]
            if name not in sys.modules:
                package = sys.modules[name] = type(sys)(name)
                package.__path__ = []

    def find_spec(self, name, _path=None, _target=None):
        return type(sys.__spec__)(name, self) if name in self.sources else None

    def create_module(self, _spec):
        return None  # as any other

    def exec_module(self, module):
        source = self.sources.pop(module.__name__)
        if source[:1] == b"\0":
            import marshal

            code = marshal.loads(memoryview(source)[1:])
        else:
            code = compile(source, "<asyncdeploy " + module.__name__[len(PACKAGE) :] + ">", "exec")
        exec(code, module.__dict__)


if __name__ == "__main__":
    worker = Worker(f.peek())  # noqa: F821 - `f` comes from the line that started us
    try:
        worker.serve()
    except SystemExit:
        if worker.at_end is not None:
            worker.at_end()
        os._exit(0)  # nothing is left to do, and an interpreter takes 2 ms to tidy itself up
