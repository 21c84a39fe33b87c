"""Who is let in at the port of a launch's link: strangers few and not for long, guests as many as there are.

Runs on a node, loaded by gang.py: Python >= 3.8, standard library only.

Anybody may connect. Who has not proven yet that he knows the launch's key is a stranger; a crowd of them must take
neither the descriptors with which the supervisor ends its job, nor its time, nor the place of an honest guest: each has
a moment to prove himself, then the next one's turn comes. Guests that have a link keep it meanwhile.
"""

import errno
import select

from asyncdeploy.node_side import open_files
from asyncdeploy.node_side.launch import sockets
from asyncdeploy.node_side.launch.link import Broken, Link

RESERVED = 32  # descriptors for all else: a supervisor has ten, and takes a few more to end its job
MOST_STRANGERS = 256  # at once; the others wait in the kernel
TURN_S = 1.0  # while others wait; a guest proves himself within one round trip
AT_ONCE = 64  # are let in before those who are in are heard again
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Door:
    """The listening socket and all links behind it.

    Attributes: strangers (in the order in which they came), guests (rank -> link).
    """

    def __init__(self, host, port, key):
        self.key = key
        self.most = max(open_files.raise_limit()[0] - RESERVED, 2)
        self.most_strangers = min(MOST_STRANGERS, max(self.most // 4, 1))
        self.server = sockets.listen(port, reuse=True, host=host)
        # One descriptor to wait for, however many links there are, and only those with news are looked at.
        self.epoll = select.epoll()
        self.epoll.register(self.server, select.EPOLLIN)
        self.strangers, self.guests, self.by_fd = [], {}, {}

    def links(self):
        return [*self.strangers, *self.guests.values()]

    def let_in(self, now):
        """Let in who waits, as far as there is room."""
        for _ in range(AT_ONCE):
            if not self.make_room(now):
                return self.listen(False)
            try:
                sock = self.server.accept()[0]
            except BlockingIOError:
                return self.listen(True)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    continue  # he has left again
                if self.strangers:
                    self.drop(self.strangers[0])
                return self.listen(False)
            sock.setblocking(False)
            link = Link(sock, self.key, True)
            self.strangers.append(link)
            self.by_fd[sock.fileno()] = link
            self.epoll.register(sock, select.EPOLLIN)
            try:
                link.flush()
            except Broken:
                self.drop(link)
        return self.listen(True)

    def listen(self, on):
        """Be woken by who waits to come in, or not: while there is no room that would be at once, again and again."""
        self.epoll.modify(self.server, select.EPOLLIN if on else 0)

    def make_room(self, now):
        """Whether one more may come in; if need be the one who has been here the longest must go.

        Where there are more guests than descriptors they take turns as well: each comes back at once.
        """
        if len(self.strangers) < self.most_strangers and len(self.by_fd) < self.most:
            return True
        oldest = self.strangers[0] if self.strangers else min(self.guests.values(), key=lambda link: link.since)
        if now - oldest.since < TURN_S:
            return False
        self.drop(oldest)
        return True

    def with_news(self):
        """Return the links on which something came."""
        found = [self.by_fd.get(fd) for fd, _ in self.epoll.poll(0)]
        return [link for link in found if link is not None]

    def admit(self, link, rank):
        """A stranger has proven that he is this rank; an earlier link of it is of no more use."""
        self.strangers.remove(link)
        if rank in self.guests:
            self.drop(self.guests[rank])
        link.rank = rank
        self.guests[rank] = link

    def drop(self, link):
        if self.by_fd.pop(link.sock.fileno(), None) is None:
            return  # it is gone already
        self.epoll.unregister(link.sock)
        if link.rank is None:
            self.strangers.remove(link)
        else:
            del self.guests[link.rank]
        link.close()

    def close(self):
        for link in self.links():
            link.close()
        self.server.close()
        self.epoll.close()
