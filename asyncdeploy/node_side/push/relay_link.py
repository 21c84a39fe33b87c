"""Links between the nodes of one push: blocks come from a parent and go on to children, over mutual TLS.

Runs on a node: Python >= 3.8, standard library only. Certificates are made by the client for this one run, and come
with those of the peers over SSH; a key is kept in memory only. A link that breaks is gone: its child asks the client.

On a link: four bytes of a block's number, four of its length, the block.

A thread a link: blocks must come and go on while the receiver writes one to the disk, and TLS on sockets that never
wait is a machine of its own, where a read may want to write. A thread touches nothing but its link and what lies
between it and the receiver: an inbox or a queue, and a bell that wakes the receiver's poll.
"""

import os
import socket
import threading
import time

LINK_S = 5.0  # for a peer to connect and prove who it is: several round trips around the world
STALL_S = 30.0  # a child that takes nothing for so long is gone
MAX_BLOCK = 1 << 20
MAX_QUEUE = 16 << 20  # bytes on their way to a child; a child that falls behind further is left to the client
MAX_INBOX = 8  # blocks from the parent that wait for the disk
HEAD = 8
WELCOME = b"+"


def make_context(server, identity, peer):
    """Return a TLS context that shows ``identity`` (certificate and key) and takes none but ``peer`` (certificate)."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # peers are known by their certificates
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=peer)
    if server:
        context.num_tickets = 0
    fd = os.memfd_create("asyncdeploy", os.MFD_CLOEXEC)
    try:
        os.write(fd, identity.encode())
        context.load_cert_chain("/proc/self/fd/%d" % fd)
    finally:
        os.close(fd)
    return context


def secure(connection, context, server, peer):
    """Return the connection under TLS; OSError unless it is the peer that answers."""
    connection.settimeout(LINK_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link = context.wrap_socket(connection, server_side=server)
    try:
        welcome(link, server, peer)
    except OSError:
        link.close()
        raise
    return link


def welcome(link, server, peer):
    """Make sure of the peer; in TLS 1.3 a client's handshake is over before the server has looked at who it is."""
    import ssl

    if link.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert(peer):
        raise OSError("another peer answered")
    if server:
        link.sendall(WELCOME)
    elif link.recv(1) != WELCOME:
        raise OSError("the peer did not let us in")


class Bell:
    """What wakes a poll when another thread has news."""

    # The lock is for the end: threads outlive the push, and the number of a descriptor that was closed is soon that of
    # a file, into which a late ring would be written.

    def __init__(self):
        self.fd, self.other = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self.other, False)
        self.lock = threading.Lock()

    def ring(self):
        with self.lock:
            if self.other >= 0:
                try:
                    os.write(self.other, b"!")
                except BlockingIOError:
                    pass  # it rings already

    def hear(self):
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            pass  # heard before

    def close(self):
        with self.lock:
            os.close(self.fd)
            os.close(self.other)
            self.fd = self.other = -1


class Parent:
    """The link on which blocks come: a listener, then the one peer that may use it."""

    def __init__(self, address, identity, peer, bell):
        self.bell, self.peer = bell, peer
        self.context = make_context(True, identity, peer)
        self.inbox = []  # the thread appends, the receiver pops: each of them is one step for Python
        # Where the disk is slower than the link the thread waits, and the peer feels that through TCP.
        self.room = threading.Semaphore(MAX_INBOX)
        self.ended = ""  # why
        self.link = None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.listener.bind((address, 0))
            self.listener.listen(4)
        except OSError:
            self.listener.close()
            raise
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            self.accept()
            self.read_blocks()
        except Exception as error:
            self.end(str(error) or type(error).__name__)

    def accept(self):
        """Wait for the peer; whoever else knocks is sent away."""
        end = time.monotonic() + LINK_S
        while True:
            self.listener.settimeout(max(0.01, end - time.monotonic()))
            connection = self.listener.accept()[0]
            try:
                self.link = secure(connection, self.context, True, self.peer)
                break
            except OSError:
                connection.close()
        self.listener.close()
        self.link.settimeout(None)

    def read_blocks(self):
        while True:
            head = self.read(HEAD)
            number, size = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
            if size > MAX_BLOCK:
                raise OSError("a block is too large")
            block = self.read(size)
            self.room.acquire()
            if self.ended:
                return
            self.inbox.append((number, block))
            self.bell.ring()

    def read(self, size):
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            got = self.link.recv_into(view[done:])
            if not got:
                raise OSError("the node before this one closed the link")
            done += got
        return bytes(data)

    def take(self):
        """Return the next (number, block), or None."""
        if not self.inbox:
            return None
        self.room.release()
        return self.inbox.pop(0)

    def end(self, why):
        self.ended = self.ended or why
        self.room.release()  # the thread may wait for the receiver, which will take no more
        shut(self.link)
        shut(self.listener)
        self.bell.ring()


class Child:
    """A link on which blocks go on to the next node."""

    def __init__(self, name, address, port, identity, peer, bell):
        self.name, self.address, self.port, self.peer, self.bell = name, address, port, peer, bell
        self.context = make_context(False, identity, peer)
        self.queue, self.size = [], 0
        self.news = threading.Condition()  # of queue, size, last and ended: the receiver changes them, the thread waits
        self.ended = ""
        self.linked = self.last = False
        self.link = None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            connection = socket.create_connection((self.address, self.port), LINK_S)
            try:
                self.link = secure(connection, self.context, False, self.peer)
            except OSError:
                connection.close()
                raise
            self.link.settimeout(STALL_S)
            self.linked = True
            self.bell.ring()
            self.send_blocks()
        except Exception as error:
            self.end(str(error) or type(error).__name__)

    def send_blocks(self):
        while True:
            with self.news:
                while not self.queue and not self.last and not self.ended:
                    self.news.wait()
                if not self.queue:
                    break
                number, block = self.queue.pop(0)
                self.size -= len(block)
            # Outside the lock: a child that takes its time must hold up neither the receiver nor the other children.
            self.link.sendall(number.to_bytes(4, "big") + len(block).to_bytes(4, "big") + block)
        self.end("done")

    def put(self, number, block):
        with self.news:
            if self.ended:
                return
            if self.size + len(block) > MAX_QUEUE:
                self.ended = "it is too slow"  # waiting for it would make all nodes as slow as this one
            else:
                self.queue.append((number, block))
                self.size += len(block)
            self.news.notify()
        if self.ended:
            self.end(self.ended)

    def finish(self):
        """Close the link when all that is queued is sent; nobody waits for that."""
        with self.news:
            self.last = True
            self.news.notify()

    def end(self, why):
        with self.news:
            self.ended = self.ended or why
            self.queue, self.size = [], 0
            self.news.notify()
        shut(self.link)
        self.bell.ring()


def shut(connection):
    """Close a socket that another thread may be waiting on."""
    if connection is None:
        return
    try:
        # To close is not enough: a thread that waits in the kernel holds the connection open, and would wait on.
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed, or was never connected
    connection.close()
