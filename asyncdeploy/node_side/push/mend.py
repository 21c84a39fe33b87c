"""A large content made of what is here and what the client sends: after a change, an appended end, a cut push."""

import os

from asyncdeploy.node_side.files import write_all
from asyncdeploy.node_side.push.pieces import (
    DIGEST,
    LARGE,
    PIECE,
    SHORT,
    ContentHash,
    hash_pieces,
    skip_hole,
    zero_digest,
)
from asyncdeploy.node_side.push.site_folder import CREATE, READ, quietly

MEND = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
KEEP, ZERO, SENT = b"k", b"z", b"s"
BASE_FRAME = 100000 * SHORT
COPY = 4 * PIECE  # what is still in a core's own cache when it is written: a megabyte takes up to three times the CPU
RUN = 5  # one letter, four bytes of count


class Mend:
    """One large content on its way into a file of its own in staging, "<name>.part", which a cut push leaves there.

    Its base is what such a part holds, and behind that what stands at its place in the tree: copied at once where only
    its bytes can say what it is, else when it is known which of its pieces are right.
    """

    def __init__(self, worker, site, entry, number):
        self.worker, self.site, self.entry = worker, site, entry
        self.number = number.to_bytes(4, "big")
        self.part = entry.sha + b".part"
        self.base = b""
        self.own = 0  # where the part's share of the base ends
        self.old = None  # the entry whose file has the rest of it
        self.held = 0  # bytes of the disk that this file takes
        self.runs = []

    def find_base(self, old):
        """Take as base what a cut push left and what stands in the tree as an entry says (None: nothing does)."""
        fd = os.open(self.part, MEND, 0o600, dir_fd=self.site.staging)
        try:
            size = min(os.fstat(fd).st_size, self.entry.size)
            if size:
                self.base = hash_pieces(self.worker, fd, size)
            if old is not None:
                self.look_at(old, fd)
        finally:
            os.close(fd)

    def look_at(self, old, fd):
        try:
            source = self.open_old(old)
        except OSError:
            return  # gone or something else by now: all of it is sent
        try:
            found = os.fstat(source)
            known = known_pieces(self.site, old) if old.holds(found) else b""
            if known:
                self.held = 512 * found.st_blocks
                self.own, self.old = len(self.base) // DIGEST * PIECE, old
                self.base += known[len(self.base) : -(-self.entry.size // PIECE) * DIGEST]
            elif not self.base:
                size = min(os.fstat(source).st_size, self.entry.size)
                self.base = hash_pieces(self.worker, source, size, lambda data, at: os.pwrite(fd, data, at))
        finally:
            os.close(source)

    def open_old(self, old):
        folder, name = self.site.parent(old.path)
        return os.open(name, READ, dir_fd=folder)

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

    def needed_bytes(self):
        """Return how much more of the disk it takes."""
        needed = sum(count * PIECE for letter, count in self.runs if letter == SENT)
        return needed + min(self.held, self.entry.size)

    def write(self, take):
        """Write the file, verify it and put its name into staging; False if it is not what its name says.

        take(left): returns some of the client's bytes, at most so many.
        """
        entry, at, zero = self.entry, 0, zero_digest()
        hashed = ContentHash(entry.size)
        fd = os.open(self.part, MEND, 0o600, dir_fd=self.site.staging)
        source = self.open_old(self.old) if self.old is not None else -1
        try:
            for letter, count in self.runs:
                end = min(at + count * PIECE, entry.size)
                if letter == KEEP:
                    start = max(at, self.own)
                    if source >= 0 and not copy_range(self.worker, source, fd, start, end):
                        return False
                    hashed.add_digests(self.base[at // PIECE * DIGEST :][: count * DIGEST])
                elif letter == ZERO:
                    clear(fd, at, end)
                    hashed.add_digests(zero * count)
                else:
                    self.write_sent(fd, at, end, take, hashed)
                at = end
            os.ftruncate(fd, entry.size)
            if hashed.name() != entry.sha or (source >= 0 and not self.old.holds(os.fstat(source))):
                return False
            os.fchmod(fd, entry.mode)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)
            if source >= 0:
                os.close(source)
        keep_pieces(self.site, entry.sha, hashed.pieces())
        os.rename(self.part, entry.staged, src_dir_fd=self.site.staging, dst_dir_fd=self.site.staging)
        return True

    def write_sent(self, fd, at, end, take, hashed):
        while at < end:
            chunk = take(end - at)
            hashed.update(chunk)
            at += write_at(fd, chunk, at)


def clear(fd, at, end):
    """Make a range read as zeros; what lies beyond the end of the file is a hole already."""
    end = min(end, os.fstat(fd).st_size)
    while at < end:
        at += os.pwrite(fd, bytes(min(PIECE * 16, end - at)), at)


def copy_range(worker, source, fd, at, end):
    """Copy what is no hole; False if the source is shorter than that by now."""
    buffer = memoryview(bytearray(COPY))
    while at < end:
        at += skip_hole(source, at, end) * PIECE
        got = os.preadv(source, [buffer[: min(len(buffer), end - at)]], at) if at < end else 0
        if not got and at < end:
            return False
        at += write_at(fd, buffer[:got], at)
        worker.poll()
    return True


def write_at(fd, data, at):
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)
    return done


def keep_pieces(site, name, digests):
    """Remember what the pieces of a content are: its file need not be read the next time that it changes."""
    quietly(FileExistsError, os.mkdir, b"pieces", 0o700, dir_fd=site.meta)
    quietly(FileNotFoundError, os.unlink, b"pieces/new", dir_fd=site.meta)
    fd = os.open(b"pieces/new", CREATE, 0o600, dir_fd=site.meta)
    try:
        write_all(fd, digests)
    finally:
        os.close(fd)
    os.rename(b"pieces/new", b"pieces/" + name, src_dir_fd=site.meta, dst_dir_fd=site.meta)


def known_pieces(site, entry):
    """Return the digests of the pieces of a content, b"" if they were not kept; its name proves them."""
    size = -(-entry.size // PIECE) * DIGEST
    try:
        fd = os.open(b"pieces/" + entry.sha, READ, dir_fd=site.meta)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        digests = file.read(size)
    hashed = ContentHash(LARGE)
    hashed.add_digests(digests)
    return digests if hashed.name() == entry.sha else b""
