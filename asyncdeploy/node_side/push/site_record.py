"""A tree as a node remembers it: entries, and the records that hold them. Put into the programs that import it."""

import stat
import zlib

META = b".asyncdeploy"
FILE, DIR, LINK = b"f", b"d", b"l"
ABSENT = b"a"  # in a manifest only: what is not checked out at the client, so that what stands here of it stays
IN_PLACE = b"="  # staged name of an entry that stands already and only needs its mode
MAX_RECORD = 512 << 20  # a manifest or state: a million entries of 500 bytes
MAX_DEPTH = 400  # folders in folders: what walks them calls itself for each, and Python bounds that
MANIFEST_HEAD, STATE_HEAD = b"asyncdeploy-manifest 1", b"asyncdeploy-state 1"
MANIFEST_FIELDS, STATE_FIELDS = 7, 10


class Refused(Exception):
    """The push cannot be done; ``fields`` is the answer."""

    def __init__(self, *fields):
        Exception.__init__(self, fields)
        self.fields = fields


class Entry:
    """One name of a tree; the last three fields are known on the node only."""

    __slots__ = ("ctime", "ino", "kind", "mode", "mtime", "path", "sha", "size", "staged", "target")

    def __init__(self, fields):
        """Take the fields of a manifest, or those of a state in the same order and three more."""
        self.kind, mode, size, mtime, self.sha, self.path, self.target = fields[:MANIFEST_FIELDS]
        self.mode, self.size, self.mtime = int(mode, 8), int(size), int(mtime)
        self.ctime, self.ino, self.staged = 0, 0, b""
        if len(fields) > MANIFEST_FIELDS:
            self.ctime, self.ino, self.staged = int(fields[7]), int(fields[8]), fields[9]

    def content(self):
        return self.kind, self.sha, self.target

    def holds(self, found):
        """Whether what lstat found is what was put there."""
        if self.kind == DIR:
            return stat.S_ISDIR(found.st_mode)
        return (
            found.st_ino == self.ino
            and found.st_ctime_ns == self.ctime
            and found.st_mtime_ns == self.mtime
            and found.st_size == self.size
        )

    def note(self, found):
        self.size, self.mtime = found.st_size, found.st_mtime_ns
        self.ctime, self.ino = found.st_ctime_ns, found.st_ino

    def pack(self):
        return b"%s\0%o\0%d\0%d\0%s\0%s\0%s\0%d\0%d\0%s" % (
            self.kind, self.mode, self.size, self.mtime, self.sha,
            self.path, self.target, self.ctime, self.ino, self.staged,
        )  # fmt: skip


def read_entries(fields, width):
    if len(fields) % width:
        raise ValueError("a manifest is cut")
    return list(map(Entry, zip(*[fields[at::width] for at in range(width)])))


def check_paths(entries):
    """ValueError for a path that could leave the site or meet our own folder."""
    for entry in entries:
        parts = entry.path.split(b"/")
        if parts[0] == META or b"" in parts or b"." in parts or b".." in parts or len(parts) > MAX_DEPTH:
            raise ValueError("a path of the manifest is not allowed: %r" % entry.path[:200])


def ancestors(paths):
    found = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
    return found


class Record:
    """A tree as it stands (state), or as it will stand once the swap is done (journal)."""

    def __init__(self, project=b"", digest=b"", entries=(), removals=(), label=b""):
        self.project, self.digest, self.label = project, digest, label
        self.entries, self.removals = list(entries), list(removals)

    def pack(self):
        fields = [STATE_HEAD, self.project, self.digest, self.label, b"%d" % len(self.removals)]
        fields += self.removals
        fields += [entry.pack() for entry in self.entries]
        body = b"\0".join(fields)
        return body + b"\0%d" % zlib.crc32(body)

    @classmethod
    def parse(cls, data):
        """Return the record, or None if it is torn or of another version; it takes 22 times its length."""
        body, _, check = data.rpartition(b"\0")
        if not body.startswith(STATE_HEAD + b"\0") or check != b"%d" % zlib.crc32(body):
            return None
        fields = body.split(b"\0")
        try:
            start = 5 + int(fields[4])
            entries = read_entries(fields[start:], STATE_FIELDS)
        except (ValueError, IndexError):
            return None  # another program's, whose sum is right
        return cls(fields[1], fields[2], entries, fields[5:start], fields[3])
