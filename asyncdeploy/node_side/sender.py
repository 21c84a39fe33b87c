"""Send what lies at a path to the client: first a listing, then the contents it asks for.

Runs on a node inside the worker: Python >= 3.8, standard library only. The argument is JSON: source, max_files,
max_depth.

Frames out: L entries (kind, mode, size, mtime_ns, path, link target, each length-framed), N a path and why it was
left behind (separated by NUL), M end of the listing, B a file begins (its number, the offset of what follows), D its
data, T its end (sha256 of the whole), X a file cannot be sent (its number, why). Frames in: W what is wanted (number,
offset, sha256 of the client's bytes up to there), Y end of that. Returned: nothing; or a reason, where there is no
source.
"""

import errno
import hashlib
import json
import os
import stat

BLOCK = 1 << 18
BATCH = 1 << 17


def main(worker, args):
    request = json.loads(args)
    home = os.environ.get("HOME") or os.path.expanduser("~")
    source = request["source"]
    if source == "~" or source.startswith("~/"):
        source = home + source[1:]
    source = os.fsencode(source)
    try:
        info = os.stat(source)
    except OSError as error:
        return os.strerror(error.errno).encode()
    if stat.S_ISDIR(info.st_mode):
        base, listing = source, walk(source, request["max_depth"])
    else:
        base, name = os.path.split(source)
        listing = iter([(name, info, None)])
    sender = Sender(worker, base, request["max_files"])
    sender.list(listing)
    sender.send_wanted()
    return b""


def walk(top, max_depth):
    """Yield (relative path, lstat or None, why it is left behind or None), folders before what is in them."""
    waiting = [(b"", 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(os.path.join(top, folder)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield folder, None, os.strerror(error.errno)
            continue
        for entry in found:
            path = os.path.join(folder, entry.name)
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield path, None, os.strerror(error.errno)
                continue
            yield path, info, None
            if stat.S_ISDIR(info.st_mode):
                if depth + 1 >= max_depth:
                    yield path, None, "deeper than %d folders" % max_depth
                else:
                    waiting.append((path, depth + 1))


class Sender:
    """One conversation: what was listed, under its number, and the frames not yet sent."""

    def __init__(self, worker, base, max_files):
        self.worker = worker
        self.base = base
        self.max_files = max_files
        self.paths = []
        self.out = bytearray()

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
        for path, info, why in listing:
            if why is not None:
                self.skip(path, why)
                continue
            if len(self.paths) >= self.max_files:
                self.skip(path, "over the budget of %d files; this and all after it" % self.max_files)
                break
            entry = self.describe(path, info)
            if entry is not None:
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
            self.frame(b"B", number.to_bytes(4, "big") + offset.to_bytes(8, "big"))
            left = size - offset
            while left:
                data = file.read(min(BLOCK, left))
                if not data:
                    return self.fail(number, "it became shorter while it was read")
                sha.update(data)
                self.frame(b"D", data)
                left -= len(data)
            after = os.fstat(fd)
            # A log that grew meanwhile is whole up to the size we saw; anything else is a mixture of two states.
            if after.st_size == size and after.st_mtime_ns != info.st_mtime_ns:
                return self.fail(number, "it changed while it was read")
            self.frame(b"T", sha.digest() + info.st_mtime_ns.to_bytes(12, "big", signed=True))
        return None

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
