"""The receiver: takes a workspace, puts it in place whole, and remembers what it put there.

Runs on a node: Python >= 3.8, standard library only. All words are fields joined by NUL, which no path holds: exact
for every name and cheaper to read than JSON. What the client must classify is returned as such a record; its first
field says what it is.

Below ``<site>/.asyncdeploy/`` (0700) lie: ``lock`` (flock, its text names the holder), ``state`` (the tree as it was
put there), ``staging/`` (contents under their sha256, and what is ready to be renamed into place) and ``journal`` (a
swap that has begun). A swap is decided by the journal's rename: before it the old tree stands, after it the new one
will, whoever dies meanwhile. Every path is walked from the site's own descriptor without following a link.
"""

import errno
import fcntl
import os
import stat
import time
import zlib

META = b".asyncdeploy"
FILE, DIR, LINK = b"f", b"d", b"l"
IN_PLACE = b"="  # staged name of an entry that stands already and only needs its mode
NAMES = 10  # names in one answer: enough to see what is meant
MAX_RECORD = 512 << 20  # a manifest or state: a million entries of 500 bytes
CHUNK = 1 << 20
MAX_DEPTH = 1000  # folders in folders; PATH_MAX is 4096
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
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

    def __init__(self, kind, mode, size, mtime, sha, path, target, ctime=0, ino=0, staged=b""):
        self.kind, self.mode, self.size, self.mtime, self.sha = kind, int(mode), int(size), int(mtime), sha
        self.path, self.target, self.ctime, self.ino, self.staged = path, target, int(ctime), int(ino), staged

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

    def fields(self):
        return (
            self.kind, b"%o" % self.mode, b"%d" % self.size, b"%d" % self.mtime, self.sha,
            self.path, self.target, b"%d" % self.ctime, b"%d" % self.ino, self.staged,
        )  # fmt: skip


def read_entries(fields, width):
    if len(fields) % width:
        raise ValueError("a manifest is cut")
    columns = [fields[i::width] for i in range(width)]
    columns[1] = [int(mode, 8) for mode in columns[1]]
    return list(map(Entry, *columns))


def check_paths(entries):
    """ValueError for a path that could leave the site or meet our own folder."""
    for entry in entries:
        parts = entry.path.split(b"/")
        if parts[0] == META or b"" in parts or b"." in parts or b".." in parts or len(parts) > MAX_DEPTH:
            raise ValueError("a path of the manifest is not allowed: %r" % entry.path)


class Record:
    """A tree as it stands (state), or as it will stand once the swap is done (journal)."""

    def __init__(self, project=b"", digest=b"", entries=(), removals=(), label=b""):
        self.project, self.digest, self.label = project, digest, label
        self.entries, self.removals = list(entries), list(removals)

    def pack(self):
        fields = [STATE_HEAD, self.project, self.digest, self.label, b"%d" % len(self.removals)]
        fields += self.removals
        for entry in self.entries:
            fields += entry.fields()
        body = b"\0".join(fields)
        return body + b"\0%d" % zlib.crc32(body)

    @classmethod
    def parse(cls, data):
        """Return the record, or None if it is torn or of another version."""
        body, _, check = data.rpartition(b"\0")
        if not body.startswith(STATE_HEAD + b"\0") or not check.isdigit() or int(check) != zlib.crc32(body):
            return None
        fields = body.split(b"\0")
        start = 5 + int(fields[4])
        return cls(fields[1], fields[2], read_entries(fields[start:], STATE_FIELDS), fields[5:start], fields[3])


class Site:
    """The folder on the node, its own folder within, and the descriptors they are reached by."""

    def __init__(self, path):
        self.path = path
        self.fd = self.meta = self.staging = self.lock = -1
        self.near = (None, -1)

    def open(self, allow_foreign):
        """Open the site, made if absent; Refused if it is not ours to take."""
        os.makedirs(self.path, exist_ok=True)
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.lstat(META, dir_fd=self.fd)
        except FileNotFoundError:
            if not allow_foreign and os.listdir(self.fd):
                raise Refused(b"conflict", self.path, b"foreign") from None
            quietly(FileExistsError, os.mkdir, META, 0o700, dir_fd=self.fd)
        self.meta = self.own_folder(META, self.fd)
        quietly(FileExistsError, os.mkdir, b"staging", 0o700, dir_fd=self.meta)
        self.staging = self.own_folder(b"staging", self.meta)

    def own_folder(self, name, parent):
        try:
            fd = os.open(name, FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused(b"conflict", self.path, b"owner") from None
            raise
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            os.close(fd)
            raise Refused(b"conflict", self.path, b"owner")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(fd, 0o700)
        return fd

    def close(self):
        for fd in (self.near[1], self.lock, self.staging, self.meta, self.fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self.meta = self.staging = self.lock = -1
        self.near = (None, -1)

    def take_lock(self, worker, wait_s):
        """Hold the site; Refused, naming the holder, if it stays taken. The lock frees itself when we die."""
        self.lock = os.open(b"lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.meta)
        end = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Refused(b"busy", self.path, os.pread(self.lock, 400, 0).replace(b"\0", b"")) from None
            worker.poll()
            time.sleep(0.02)
        if not os.fstat(self.lock).st_nlink:
            raise Refused(b"busy", self.path, b"the folder was removed meanwhile")

    def name_holder(self, text):
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, text[:400], 0)

    def parent(self, path, make=False):
        """Return (descriptor of the folder that holds path, last name); the descriptor is ours until the next call."""
        folder, _, name = path.rpartition(b"/")
        if not folder:
            return self.fd, name
        if self.near[0] != folder:
            self.forget()
            fd = self.walk(folder, make)
            self.near = (folder, fd)
        return self.near[1], name

    def forget(self):
        """Drop the remembered folder: it may have been removed."""
        if self.near[1] >= 0:
            os.close(self.near[1])
        self.near = (None, -1)

    def walk(self, folder, make):
        fd = self.fd
        try:
            for part in folder.split(b"/"):
                try:
                    below = os.open(part, FOLDER, dir_fd=fd)
                except FileNotFoundError:
                    if not make:
                        raise
                    os.mkdir(part, 0o755, dir_fd=fd)
                    below = os.open(part, FOLDER, dir_fd=fd)
                if fd != self.fd:
                    os.close(fd)
                fd = below
        except BaseException:
            if fd != self.fd:
                os.close(fd)
            raise
        return fd

    def look(self, path):
        """Return lstat of a path, None if it is not there; no link is followed on the way."""
        try:
            fd, name = self.parent(path)
            return os.lstat(name, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def read_record(self, name):
        try:
            fd = os.open(name, READ, dir_fd=self.meta)
        except FileNotFoundError:
            return None
        try:
            if os.fstat(fd).st_size > MAX_RECORD:
                return None
            with os.fdopen(os.dup(fd), "rb") as file:
                return Record.parse(file.read())
        finally:
            os.close(fd)

    def write_record(self, name, record, sync):
        """Write a record whole or not at all."""
        fresh = name + b".new"
        quietly(FileNotFoundError, os.unlink, fresh, dir_fd=self.meta)
        fd = os.open(fresh, CREATE, 0o600, dir_fd=self.meta)
        try:
            write_all(fd, record.pack())
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(fresh, name, src_dir_fd=self.meta, dst_dir_fd=self.meta)

    def clear_staging(self):
        for name in os.listdir(self.staging):
            quietly(FileNotFoundError, os.unlink, os.fsencode(name), dir_fd=self.staging)

    def room(self):
        """Return (free bytes, free inodes or None where the file system has no such count) for us."""
        found = os.fstatvfs(self.fd)
        free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
        return free * found.f_frsize, (found.f_favail if found.f_files else None)


def quietly(expected, function, *args, **kwargs):
    """Call a function of os; what was expected to go wrong is fine."""
    try:
        function(*args, **kwargs)
    except expected:
        pass  # the caller named it: it is fine


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def hash_file(worker, folder, name):
    """Return the sha256 of a regular file as hex."""
    import hashlib

    digest = hashlib.sha256()
    fd = os.open(name, READ, dir_fd=folder)
    try:
        while True:
            data = os.read(fd, CHUNK)
            if not data:
                return digest.hexdigest().encode()
            digest.update(data)
            worker.poll()
    finally:
        os.close(fd)


def content_of(worker, site, path, found):
    """Return what stands at a path in the form of Entry.content; None for anything that no manifest can hold."""
    folder, name = site.parent(path)
    if stat.S_ISREG(found.st_mode):
        return FILE, hash_file(worker, folder, name), b""
    if stat.S_ISLNK(found.st_mode):
        return LINK, b"", os.readlink(name, dir_fd=folder)
    return (DIR, b"", b"") if stat.S_ISDIR(found.st_mode) else None


class Plan:
    """What a push must do: found by looking at every name, changing nothing.

    Attributes: moves (entries to be renamed into place), modes (entries that only need their mode), removals (paths),
    edited (paths whose loss must be agreed to), restored (paths that had been removed on the node), have (sha256 to a
    path here).
    """

    def __init__(self, worker, site, old, new, fresh):
        self.worker, self.site = worker, site
        self.old = {entry.path: entry for entry in old}
        self.new = {entry.path: entry for entry in new}
        self.moves, self.modes, self.removals, self.edited, self.restored = [], [], [], [], []
        self.have = {}
        self.gone = set()  # folders that are not there, or are something else: nothing of ours stands below
        self.blockers = []
        self.folders = 0  # how many must be made
        if fresh:
            self.moves, self.folders = list(new), len(ancestors(self.new))
            return
        self.check_parents()
        for entry in old:
            if entry.path not in self.new:
                self.leave(entry)
        for entry in new:
            self.meet(entry)

    def changes(self):
        return bool(self.moves or self.modes or self.removals)

    def check_parents(self):
        wanted = ancestors(self.new)
        for path in sorted(wanted | ancestors(self.old)):
            if path.rpartition(b"/")[0] in self.gone:
                self.gone.add(path)
                self.folders += path in wanted
                continue
            found = self.site.look(path)
            if found is None or not stat.S_ISDIR(found.st_mode):
                self.gone.add(path)
                self.folders += path in wanted
                if found is not None and path in wanted and path not in self.old:
                    self.edited.append(path)
                    self.blockers.append(path)

    def find(self, entry):
        return None if entry.path.rpartition(b"/")[0] in self.gone else self.site.look(entry.path)

    def leave(self, entry):
        """Decide on a name that is no longer wanted."""
        found = self.find(entry)
        if found is None:
            return
        if not entry.holds(found):
            content = content_of(self.worker, self.site, entry.path, found)
            if content is None or content[0] == DIR:
                return  # somebody put something else there: not ours to remove
            if content != entry.content():
                self.edited.append(entry.path)
        elif entry.kind == FILE:
            self.have[entry.sha] = entry.path
        self.removals.append(entry.path)

    def meet(self, entry):
        """Decide on a name that is wanted."""
        old, found = self.old.get(entry.path), self.find(entry)
        if found is None:
            if old is not None:
                self.restored.append(entry.path)
            self.moves.append(entry)
            return
        if old is not None and old.holds(found):
            content, mode = old.content(), old.mode
            if old.kind == FILE:
                self.have[old.sha] = old.path
        else:
            content, mode = content_of(self.worker, self.site, entry.path, found), stat.S_IMODE(found.st_mode)
            lost = old is not None and found.st_size == 0  # a crash of the node can leave that of a file
            if content != entry.content() and not lost and (old is None or content != old.content()):
                self.meet_stranger(entry, content)
        if content != entry.content():
            self.moves.append(entry)
            return
        if entry.kind != DIR:
            entry.note(found)
        if entry.kind != LINK and mode != entry.mode and not (entry.kind == DIR and old is None):
            self.modes.append(entry)

    def meet_stranger(self, entry, content):
        if content is not None and content[0] == DIR:
            if not self.only_ours(entry.path, 0):
                raise Refused(b"conflict", self.site.path, b"blocked", entry.path)
            return
        self.edited.append(entry.path)
        if entry.kind == DIR:
            self.blockers.append(entry.path)

    def only_ours(self, folder, depth):
        """Whether a folder holds nothing but names that this push removes."""
        if depth > MAX_DEPTH:
            return False
        fd = self.site.walk(folder, False)
        try:
            names = os.listdir(fd)
        finally:
            os.close(fd)
        for name in names:
            path = folder + b"/" + os.fsencode(name)
            found = self.site.look(path)
            if found is not None and stat.S_ISDIR(found.st_mode):
                if not self.only_ours(path, depth + 1):
                    return False
            elif path not in self.old or path in self.new:
                return False
        return True


def ancestors(paths):
    found = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
    return found


class Intake:
    """Contents on their way into staging: kept ones, copies of what is here, and the client's frames."""

    def __init__(self, worker, site, plan):
        self.worker, self.site = worker, site
        self.users = {}
        self.data, self.at = memoryview(b""), 0
        for entry in plan.moves:
            if entry.kind == FILE:
                users = self.users.setdefault(entry.sha, [])
                entry.staged = b"%s.%d" % (entry.sha, len(users))
                users.append(entry)
            elif entry.kind == LINK:
                entry.staged = b"link.%d" % len(self.users.setdefault(b"", []))
                self.users[b""].append(entry)
        self.links = self.users.pop(b"", [])

    def stage_here(self, have):
        """Stage all that needs nothing of the client; return the sha256 of the rest."""
        staged = self.left_over()
        for entry in self.links:
            os.symlink(entry.target, entry.staged, dir_fd=self.site.staging)
        missing = set()
        for sha, users in self.users.items():
            first, source = users[0], have.get(sha)
            if sha in staged:
                fd = os.open(first.staged, READ, dir_fd=self.site.staging)
                try:
                    os.fchmod(fd, first.mode)
                    os.utime(fd, ns=(first.mtime, first.mtime))
                finally:
                    os.close(fd)
            elif not (source and self.copy_here(source, first)) and first.size:
                missing.add(sha)
                continue
            elif not first.size and not source:
                self.store(first, 0)
            self.copy_users(users)
        return missing

    def left_over(self):
        """Return the sha256 of what a cut push left whole and is wanted now; the rest of it goes."""
        kept = set()
        for name in map(os.fsencode, os.listdir(self.site.staging)):
            sha, _, number = name.partition(b".")
            if number == b"0" and sha in self.users and hash_file(self.worker, self.site.staging, name) == sha:
                kept.add(sha)
            else:
                os.unlink(name, dir_fd=self.site.staging)
        return kept

    def copy_here(self, source, entry):
        """Stage a content that stands in the site under another name; False if it is gone or changed."""
        try:
            folder, name = self.site.parent(source)
            self.copy(folder, name, entry)
            return True
        except (FileNotFoundError, ChangedError):
            return False

    def copy(self, folder, name, entry):
        source = os.open(name, READ, dir_fd=folder)
        try:
            self.write(entry, lambda _left: os.read(source, CHUNK))
        finally:
            os.close(source)

    def copy_users(self, users):
        for entry in users[1:]:
            self.copy(self.site.staging, users[0].staged, entry)

    def take(self, left):
        """Return up to ``left`` bytes of the client's contents."""
        if self.at == len(self.data):
            kind, payload = self.worker.receive()
            if kind != b"D":
                raise ValueError("contents were expected")
            if payload[:1] == b"z":
                inflate = zlib.decompressobj()
                payload = b" " + inflate.decompress(payload[1:], CHUNK)
                if not inflate.eof:
                    raise ValueError("a frame of contents is cut or too large")
            self.data, self.at = memoryview(payload)[1:], 0
        chunk = self.data[self.at : self.at + left]
        self.at += len(chunk)
        return chunk

    def store(self, entry, size):
        self.write(entry, self.take if size else lambda _left: b"")

    def write(self, entry, read):
        """Write one staged file, verified."""
        import hashlib

        digest, left = hashlib.sha256(), entry.size
        fd = os.open(entry.staged, CREATE, entry.mode, dir_fd=self.site.staging)
        try:
            while left:
                chunk = read(left)
                if not len(chunk):
                    break
                digest.update(chunk)
                left -= len(chunk)
                write_all(fd, chunk)
            if left or digest.hexdigest().encode() != entry.sha:
                os.unlink(entry.staged, dir_fd=self.site.staging)
                raise ChangedError(entry.path)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def stage_sent(self, order):
        for sha in order:
            users = self.users[sha]
            try:
                self.store(users[0], users[0].size)
            except ChangedError:
                raise Refused(b"changed", self.site.path, users[0].path) from None
            self.copy_users(users)


class ChangedError(Exception):
    """A content is not what its name says."""


# Why a folder that should go may stay: others' files are in it, or it is gone or no folder any more.
KEEP_FOLDER = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBUSY)


class Swap:
    """Puts a journal's tree in place; may be cut anywhere and done again."""

    def __init__(self, worker, site, record, redo):
        self.worker, self.site, self.record, self.redo = worker, site, record, redo
        self.lost = []

    def run(self):
        self.remove()
        for entry in self.record.entries:
            if entry.staged:
                self.place(entry)
                entry.staged = b""
        if self.lost:
            self.go_back()
        self.record.removals = []
        self.site.write_record(b"state", self.record, False)
        os.unlink(b"journal", dir_fd=self.site.meta)
        self.site.clear_staging()

    def go_back(self):
        """Remember the old entry where the new content was lost, so that the next push brings it again."""
        state = self.site.read_record(b"state")
        old = {entry.path: entry for entry in state.entries} if state else {}
        lost = set(self.lost)
        entries = [old.get(entry.path) if entry in lost else entry for entry in self.record.entries]
        self.record.entries = [entry for entry in entries if entry]
        self.record.digest = b""

    def remove(self):
        keep = ancestors(entry.path for entry in self.record.entries)
        keep.update(entry.path for entry in self.record.entries if entry.kind == DIR)
        folders = ancestors(self.record.removals)
        for path in self.record.removals:
            try:
                folder, name = self.site.parent(path)
                os.unlink(name, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.EPERM, errno.ELOOP):
                    raise
                folders.add(path)
        self.site.forget()
        for path in sorted(folders - keep, reverse=True):
            try:
                folder, name = self.site.parent(path)
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in KEEP_FOLDER:
                    raise
            self.site.forget()

    def place(self, entry):
        folder, name = self.site.parent(entry.path, make=True)
        if entry.kind == DIR:
            quietly(FileExistsError, os.mkdir, name, entry.mode, dir_fd=folder)
            os.chmod(name, entry.mode, dir_fd=folder)
            return
        if entry.staged == IN_PLACE:
            if stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
                os.chmod(name, entry.mode, dir_fd=folder)
        elif not self.rename(entry, folder, name):
            self.lost.append(entry)
            return
        entry.note(os.lstat(name, dir_fd=folder))

    def rename(self, entry, folder, name):
        if self.redo and not self.whole(entry, folder, name):
            return False
        try:
            os.rename(entry.staged, name, src_dir_fd=self.site.staging, dst_dir_fd=folder)
        except FileNotFoundError:
            if not self.redo:
                raise
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder)
            os.rename(entry.staged, name, src_dir_fd=self.site.staging, dst_dir_fd=folder)
        return True

    def whole(self, entry, folder, name):
        """After a crash: whether the content survived, staged or in place (a node that lost power may have lost it)."""
        if entry.kind == LINK:
            return True
        for place, label in ((self.site.staging, entry.staged), (folder, name)):
            try:
                if stat.S_ISREG(os.lstat(label, dir_fd=place).st_mode):
                    if hash_file(self.worker, place, label) == entry.sha:
                        return True
                    if not os.lstat(label, dir_fd=place).st_size or place == self.site.staging:
                        os.unlink(label, dir_fd=place)
            except FileNotFoundError:
                continue
        return False


class Deaf:
    """Stands for the worker where our client's death must not stop us."""

    def poll(self):
        pass


def finish_journal(site):
    """Finish a swap that somebody began and did not end."""
    record = site.read_record(b"journal")
    if record is not None:
        Swap(Deaf(), site, record, True).run()
    else:
        quietly(FileNotFoundError, os.unlink, b"journal", dir_fd=site.meta)


class Push:
    """One push, from the first look to the swap."""

    def __init__(self, worker, site, args):
        self.worker, self.site = worker, site
        _, _, self.digest, self.project, self.label, self.holder, self.conflict, self.jobs = args[:8]
        self.needed = 0

    def run(self):
        finish_journal(self.site)
        state = self.site.read_record(b"state")
        overwrite = self.conflict == b"overwrite"
        if state is not None:
            if state.project != self.project and not overwrite:
                raise Refused(b"conflict", self.site.path, b"project", state.label or state.project)
            if state.digest == self.digest and self.stands(state.entries):
                return b"same", self.site.path
        self.site.name_holder(self.holder)
        new = self.receive_manifest()
        fresh = state is None and os.listdir(self.site.fd) == [META.decode()]
        plan = Plan(self.worker, self.site, state.entries if state else (), new, fresh)
        if plan.edited and not overwrite:
            names = sorted(plan.edited)
            raise Refused(b"conflict", self.site.path, b"edited", b"%d" % len(names), *names[:NAMES])
        if plan.changes() and self.jobs != b"overwrite":
            running = running_jobs(self.site.path)
            if running:
                raise Refused(b"jobs", self.site.path, *running[:NAMES])
        return self.fill(plan, new)

    def stands(self, entries):
        fd = self.site.fd
        lstat = os.lstat
        try:
            return all(entry.holds(lstat(entry.path, dir_fd=fd)) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def receive_manifest(self):
        import hashlib

        self.worker.send(b"M")
        inflate, parts, size = zlib.decompressobj(), [], 0
        while True:
            kind, payload = self.worker.receive()
            if kind == b"E":
                break
            parts.append(inflate.decompress(payload, MAX_RECORD))
            size += len(parts[-1])
            if kind != b"M" or size > MAX_RECORD:
                raise ValueError("a manifest was expected")
        fields = b"".join(parts).split(b"\0")
        if fields[0] != MANIFEST_HEAD or not inflate.eof:
            raise ValueError("a manifest of another version")
        named = hashlib.sha256(b"\0".join(f for i in (5, 0, 1, 4, 6) for f in fields[1 + i :: MANIFEST_FIELDS]))
        if named.hexdigest().encode() != self.digest:
            raise ValueError("the manifest is not the one that was named")
        entries = read_entries(fields[1:], MANIFEST_FIELDS)
        check_paths(entries)
        return entries

    def fill(self, plan, new):
        """Stage what is missing, then swap; the client may go once all is verified."""
        intake = Intake(self.worker, self.site, plan)
        order = {}
        for entry in new:
            if entry.kind == FILE:
                order.setdefault(entry.sha, len(order))
        self.check_room(plan)
        missing = intake.stage_here(plan.have)
        wanted = sorted(missing, key=order.__getitem__)
        if wanted:
            numbers = [order[sha].to_bytes(4, "big") for sha in wanted]
            for start in range(0, len(numbers), 200000):
                self.worker.send(b"N", b"".join(numbers[start : start + 200000]))
            self.worker.send(b"G")
            intake.stage_sent(wanted)
        for entry in plan.modes:
            entry.staged = IN_PLACE
        for entry in plan.moves:
            if entry.kind == DIR:
                entry.staged = b"folder"
        record = Record(self.project, self.digest, new, plan.removals + plan.blockers, self.label)
        self.swap(record, plan.changes())
        moved = b"%d" % (len(plan.moves) + len(plan.modes))
        names = [b"restored " + path for path in plan.restored[:NAMES]]
        names += [b"overwritten " + path for path in sorted(plan.edited)[:NAMES]]
        counts = (moved, b"%d" % len(plan.removals), b"%d" % len(plan.restored), b"%d" % len(plan.edited))
        return (b"done", self.site.path, *counts, *names)

    def check_room(self, plan):
        """Refused before anything travels if it cannot fit; what is kept in staging is counted as if it were not."""
        self.needed = sum(entry.size for entry in plan.moves if entry.kind == FILE)
        free, inodes = self.site.room()
        for name in os.listdir(self.site.staging):
            free += os.lstat(name, dir_fd=self.site.staging).st_size
        self.needed += 400 * (len(plan.new) + len(plan.removals))  # journal and state, at about 200 bytes an entry
        if self.needed + 4096 * plan.folders > free:
            raise OSError(errno.ENOSPC, "no space")
        if inodes is not None and len(plan.moves) + plan.folders + 4 > inodes:
            raise OSError(errno.ENOSPC, "no inodes")

    def swap(self, record, changes):
        if not changes:
            self.site.write_record(b"state", record, False)
            self.site.clear_staging()
            return
        import signal

        kept = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGHUP, signal.SIGTERM)]
        try:
            self.site.write_record(b"journal", record, True)
            Swap(Deaf(), self.site, record, False).run()
        finally:
            for number, handler in kept:
                signal.signal(number, handler)


def running_jobs(site):
    """Return names of the jobs that run in the site."""
    base = os.path.join(os.path.expanduser(b"~"), META, b"jobs")
    try:
        ids = os.listdir(base)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [name for name in ids if not os.path.exists(os.path.join(base, name, b"exit")) and runs(base, name, site)]


def runs(base, name, site):
    import json

    try:
        with open(os.path.join(base, name, b"spec.json"), "rb") as file:
            spec = json.loads(file.read(CHUNK))
        with open(os.path.join(base, name, b"pid"), "rb") as file:
            pid, start = file.read(100).split()[:2]
        if os.path.realpath(os.fsencode(str(spec["site"]))) != os.path.realpath(site):
            return False
        with open(b"/proc/%d/stat" % int(pid), "rb") as file:
            after_name = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return after_name[19] == start and after_name[0] != b"Z"


def failed(error, site, push):
    """Return the answer for a call of the node's system that went wrong."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free, inodes = site.room() if site.fd >= 0 else (0, None)
        begun = site.meta >= 0 and exists(b"journal", site.meta)
        if site.staging >= 0 and not begun:
            site.clear_staging()
        needed = push.needed if push else 0
        return b"full", site.path, b"%d" % free, b"%d" % needed, b"%d" % (-1 if inodes is None else inodes)
    name = errno.errorcode.get(error.errno, "")
    path = error.filename if isinstance(error.filename, bytes) else site.path
    text = (error.strerror or str(error)).encode("utf-8", "replace")
    return b"error", site.path, name.encode(), text, path


def exists(name, folder):
    try:
        os.lstat(name, dir_fd=folder)
        return True
    except FileNotFoundError:
        return False


def main(worker, args):
    """Serve one push. Args: what, site path, digest, project id and label, holder, on_conflict, under_jobs, wait_s."""
    fields = args.split(b"\0")
    path = fields[1]
    if path == b"~" or path.startswith(b"~/"):
        path = os.path.expanduser(b"~") + path[1:]
    site, push = Site(os.path.normpath(path)), None
    umask = os.umask(0o022)
    try:
        if fields[0] == b"finish":
            if not exists(os.path.join(site.path, META, b"journal"), None):
                return b"same\0" + site.path
            site.open(False)
            site.take_lock(worker, float(fields[8]))
            finish_journal(site)
            return b"same\0" + site.path
        site.open(fields[6] == b"overwrite")
        site.take_lock(worker, float(fields[8]))
        os.umask(0)  # modes are given with each file
        push = Push(worker, site, fields)
        return b"\0".join(push.run())
    except Refused as refused:
        return b"\0".join(refused.fields)
    except OSError as error:
        return b"\0".join(failed(error, site, push))
    finally:
        os.umask(umask)
        site.close()
