"""Send what lies at a path to the client: first a listing, then the contents it asks for.

Runs on a node inside the worker: Python >= 3.8, standard library only. The argument is JSON: source, max_files,
max_depth, max_bytes (of contents), max_listing (bytes of its frames).

Frames out: L entries (kind, mode, size, mtime_ns, path, link target, each length-framed), N a path and why it was
left behind (separated by NUL), M end of the listing, B a file begins (its number, the offset of what follows), D its
data, G a gap in it (how many bytes), T its end (sha256 of the whole), X a file cannot be sent (its number, why).
Frames in: W what is wanted (number, offset, sha256 of the client's bytes up to there), Y end of that. Returned:
nothing; or a reason, where there is no source.
"""

import errno
import hashlib
import itertools
import json
import os
import stat
import time

from asyncdeploy.node_side.files import expand, widen

BLOCK = 1 << 19
LARGE = 1 << 16  # of such a block a copy costs more than a system call
BATCH = 1 << 17
HOLE = 1 << 26  # bytes of one frame that says so: what is hashed before the client is listened to again
ZEROS = bytes(BLOCK)
STATE = b".asyncdeploy"
RACY_NS = 2 * 10**9  # the coarsest clock of a file system that is still in use


def main(worker, args):
    request = json.loads(args)
    source = expand(request["source"].encode("utf-8", "surrogateescape"))
    try:
        info = os.stat(source)
    except OSError as error:
        return os.strerror(error.errno).encode()
    if stat.S_ISDIR(info.st_mode):
        base, listing = source, walk(source, request)
    else:
        base, name = os.path.split(source)
        listing = iter([(name, info, None)])
    sender = Sender(worker, base, request)
    sender.list(listing)
    sender.send_wanted()
    return b""


def walk(top, limits):
    """Yield (relative path, lstat or None, why it is left behind or None), folders before what is in them."""
    waiting = [(b"", 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(os.path.join(top, folder)) as entries:
                # Of more names than may be sent at all not even the names are kept.
                some = itertools.islice(entries, limits["max_files"] + 1)
                found = sorted(some, key=lambda entry: entry.name)
        except OSError as error:
            yield folder, None, os.strerror(error.errno)
            continue
        for entry in found:
            path = os.path.join(folder, entry.name)
            if is_ours(entry):
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield path, None, os.strerror(error.errno)
                continue
            yield path, info, None
            if stat.S_ISDIR(info.st_mode):
                if depth + 1 >= limits["max_depth"]:
                    yield path, None, "deeper than %d folders" % limits["max_depth"]
                else:
                    waiting.append((path, depth + 1))


def is_ours(entry):
    """Whether it is a site's state (its environments are as large as results are) or a link into it: no result."""
    if entry.name == STATE:
        return True
    try:
        return entry.is_symlink() and b"/" + STATE + b"/" in os.readlink(entry.path)
    except OSError:
        return False


def pieces(fd, at, end):
    """Yield (where, bytes, whether it is a hole) of a file's content between two places."""
    while at < end:
        data = seek(fd, at, os.SEEK_DATA, end)
        while at < data:
            yield at, min(HOLE, data - at), True
            at += min(HOLE, data - at)
        hole = seek(fd, at, os.SEEK_HOLE, end) if at < end else end
        while at < hole:
            yield at, min(BLOCK, hole - at), False
            at += min(BLOCK, hole - at)


def seek(fd, at, what, end):
    """Return where a file's next data, or next hole, begins, at most ``end``; a disk that cannot tell has data only."""
    try:
        return max(at, min(os.lseek(fd, at, what), end))
    except OSError as error:
        return end if error.errno == errno.ENXIO or what == os.SEEK_HOLE else at


def hash_zeros(sha, length):
    while length:
        sha.update(ZEROS[:length])
        length -= min(length, len(ZEROS))


class Sender:
    """One conversation: what was listed, under its number, and the frames not yet sent."""

    def __init__(self, worker, base, limits):
        self.worker = worker
        self.base = base
        self.max_files = limits["max_files"]
        self.max_listing = limits["max_listing"]
        self.budget = limits["max_bytes"]
        self.paths = []
        self.out = bytearray()
        self.block = memoryview(bytearray(5 + BLOCK))  # a frame: its kind and length, and what is read of a file
        self.is_wide = False

    def frame(self, kind, payload):
        self.out += kind + len(payload).to_bytes(4, "big") + payload
        if len(self.out) >= BATCH:
            self.flush()

    def flush(self):
        if self.out:
            self.worker.write(self.out)
            self.out = bytearray()

    def skip(self, path, why):
        self.frame(b"N", path[:4096] + b"\0" + why.encode())

    def list(self, listing):
        batch = bytearray()
        left = self.max_listing
        for seen, (path, info, why) in enumerate(listing):
            if seen >= self.max_files:
                self.skip(path, "over the budget of %d files; this and all after it" % self.max_files)
                break
            if why is not None:
                self.skip(path, why)
                continue
            entry = self.describe(path, info)
            if entry is None:
                continue
            left -= len(entry)
            if left < 0:
                self.skip(path, "over the budget of %d bytes of names; this and all after it" % self.max_listing)
                break
            batch += entry
            self.paths.append(path)
            if len(batch) >= BATCH:
                self.frame(b"L", bytes(batch))
                batch.clear()
                self.worker.poll()
        if batch:
            self.frame(b"L", bytes(batch))
        self.frame(b"M", b"")
        self.flush()

    def describe(self, path, info):
        target = b""
        if stat.S_ISREG(info.st_mode):
            kind = b"f"
        elif stat.S_ISDIR(info.st_mode):
            kind = b"d"
        elif stat.S_ISLNK(info.st_mode):
            kind = b"l"
            try:
                target = os.readlink(os.path.join(self.base, path))
            except OSError as error:
                self.skip(path, os.strerror(error.errno))
                return None
        else:
            self.skip(path, "no regular file, folder or link")
            return None
        size = info.st_size if kind == b"f" else 0
        numbers = (
            info.st_mode.to_bytes(4, "big")
            + size.to_bytes(8, "big")
            + info.st_mtime_ns.to_bytes(12, "big", signed=True)
        )
        return kind + numbers + len(path).to_bytes(2, "big") + path + len(target).to_bytes(2, "big") + target

    def send_wanted(self):
        wanted = bytearray()
        while True:
            kind, payload = self.worker.receive()
            if kind == b"Y":
                break
            wanted += payload
        for at in range(0, len(wanted), 44):
            number = int.from_bytes(wanted[at : at + 4], "big")
            offset = int.from_bytes(wanted[at + 4 : at + 12], "big")
            try:
                self.send_file(number, offset, bytes(wanted[at + 12 : at + 44]))
            except OSError as error:
                why = "it vanished" if error.errno == errno.ENOENT else os.strerror(error.errno)
                self.fail(number, why)
        self.flush()

    def fail(self, number, why):
        self.frame(b"X", number.to_bytes(4, "big") + why.encode())

    def send_file(self, number, offset, known):
        path = os.path.join(self.base, self.paths[number])
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb", buffering=0) as file:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                return self.fail(number, "it is no regular file any more")
            size = info.st_size
            sha = hashlib.sha256()
            if offset and not self.same_beginning(file, sha, offset, size, known):
                file.seek(0)
                sha, offset = hashlib.sha256(), 0
            if size - offset > self.budget:
                return self.fail(number, "over the budget of bytes: it changed since it was listed")
            self.budget -= size - offset
            self.frame(b"B", number.to_bytes(4, "big") + offset.to_bytes(8, "big"))
            for at, length, is_hole in pieces(fd, offset, size):
                if is_hole:
                    hash_zeros(sha, length)
                    self.frame(b"G", length.to_bytes(8, "big"))
                    self.worker.poll()
                    continue
                if not self.send_block(file, at, length, sha):
                    return self.fail(number, "it became shorter while it was read")
            if not self.is_whole(file, info, sha.digest()):
                return self.fail(number, "it changed while it was read")
            stamp = info.st_mtime_ns
            # It may change once more within the same tick of its clock: another time makes the next collect look again.
            if abs(time.time_ns() - stamp) < RACY_NS:
                stamp -= 1
            self.frame(b"T", sha.digest() + stamp.to_bytes(12, "big", signed=True))
        return None

    def send_block(self, file, at, length, sha):
        """Send so many bytes of a file, hashed; False if it has fewer. Large ones are copied nowhere between."""
        file.seek(at)
        block = self.block[: 5 + length]
        if file.readinto(block[5:]) < length:
            return False
        sha.update(block[5:])
        if length < LARGE:
            self.frame(b"D", bytes(block[5:]))
            return True
        if not self.is_wide:
            self.is_wide = True
            widen(1)
        block[:5] = b"D" + length.to_bytes(4, "big")
        self.flush()
        self.worker.write(block)
        return True

    def is_whole(self, file, before, digest):
        """True if what was read is one state of the file, not a mixture of two."""
        after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
            return True
        # A log may grow meanwhile: whole is what it was when we began.
        file.seek(0)
        return self.same_beginning(file, hashlib.sha256(), before.st_size, after.st_size, digest)

    def same_beginning(self, file, sha, offset, size, known):
        """Hash the first bytes; True if they are those that the client has."""
        if offset > size:
            return False
        left = offset
        while left:
            data = file.read(min(BLOCK, left))
            if not data:
                return False
            sha.update(data)
            left -= len(data)
            self.worker.poll()
        return sha.digest() == known
