"""A large content made of what is here and what the client sends: after a change, an appended end, a cut push."""

import os

from asyncdeploy.node_side.pieces import DIGEST, PIECE, SHORT, ContentHash, hash_pieces, zero_digest
from asyncdeploy.node_side.site_folder import READ

MEND = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
KEEP, ZERO, SENT = b"k", b"z", b"s"
BASE_FRAME = 100000 * SHORT
RUN = 5  # one letter, four bytes of count


class Mend:
    """One large content on its way into a file of its own in staging, "<name>.part", which a cut push leaves there.

    Its base is what such a part holds, or a copy of what stood at its place in the tree.
    """

    def __init__(self, worker, site, entry, number):
        self.worker, self.site, self.entry = worker, site, entry
        self.number = number.to_bytes(4, "big")
        self.part = entry.sha + b".part"
        self.base = b""
        self.runs = []

    def find_base(self, path):
        """Take as base what a cut push left, else what stands at a path of the site (None: nothing does)."""
        fd = os.open(self.part, MEND, 0o600, dir_fd=self.site.staging)
        try:
            size = min(os.fstat(fd).st_size, self.entry.size)
            if size:
                self.base = hash_pieces(self.worker, fd, size)
            elif path is not None:
                self.base = self.copy_base(fd, path)
        finally:
            os.close(fd)

    def copy_base(self, fd, path):
        try:
            folder, name = self.site.parent(path)
            source = os.open(name, READ, dir_fd=folder)
        except OSError:
            return b""  # gone or something else by now: all of it is sent
        try:
            size = min(os.fstat(source).st_size, self.entry.size)
            return hash_pieces(self.worker, source, size, lambda data, at: os.pwrite(fd, data, at))
        finally:
            os.close(source)

    def offer_base(self):
        """Tell the client what the base holds, in few bytes."""
        shorts = b"".join([self.base[at : at + SHORT] for at in range(0, len(self.base), DIGEST)])
        for start in range(0, len(shorts), BASE_FRAME):
            self.worker.send(b"B", self.number + shorts[start : start + BASE_FRAME])

    def receive_runs(self):
        """Take the client's word on where each piece comes from."""
        left = -(-self.entry.size // PIECE)
        while left:
            kind, payload = self.worker.receive()
            if kind != b"K" or payload[:4] != self.number or len(payload) % RUN != 4:
                raise ValueError("the pieces of a content were expected")
            for at in range(4, len(payload), RUN):
                count = int.from_bytes(payload[at + 1 : at + RUN], "big")
                self.runs.append((payload[at : at + 1], count))
                left -= count
            if left < 0:
                raise ValueError("a content has fewer pieces than that")

    def sent_bytes(self):
        return sum(count * PIECE for letter, count in self.runs if letter == SENT)

    def write(self, take):
        """Write the file, verify it and put its name into staging; False if it is not what its name says.

        take(left): returns some of the client's bytes, at most so many.
        """
        entry, at, zero = self.entry, 0, zero_digest()
        hashed = ContentHash(entry.size)
        fd = os.open(self.part, MEND, 0o600, dir_fd=self.site.staging)
        try:
            for letter, count in self.runs:
                end = min(at + count * PIECE, entry.size)
                if letter == KEEP:
                    hashed.add_digests(self.base[at // PIECE * DIGEST :][: count * DIGEST])
                elif letter == ZERO:
                    clear(fd, at, end)
                    hashed.add_digests(zero * count)
                else:
                    self.write_sent(fd, at, end, take, hashed)
                at = end
            os.ftruncate(fd, entry.size)
            if hashed.name() != entry.sha:
                return False
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)
        os.rename(self.part, entry.staged, src_dir_fd=self.site.staging, dst_dir_fd=self.site.staging)
        return True

    def write_sent(self, fd, at, end, take, hashed):
        while at < end:
            chunk = take(end - at)
            hashed.update(chunk)
            done = 0
            while done < len(chunk):
                done += os.pwrite(fd, chunk[done:], at + done)
            at += done


def clear(fd, at, end):
    """Make a range read as zeros; what lies beyond the end of the file is a hole already."""
    end = min(end, os.fstat(fd).st_size)
    while at < end:
        at += os.pwrite(fd, bytes(min(PIECE * 16, end - at)), at)
