"""A site's folder, reached by descriptors only: every path is walked from its top without following a link."""

import errno
import os
import stat

from asyncdeploy.node_side.files import write_all
from asyncdeploy.node_side.push.pieces import ContentHash, hash_pieces
from asyncdeploy.node_side.push.place import check_place
from asyncdeploy.node_side.push.site_lock import SiteLock
from asyncdeploy.node_side.push.site_record import DIR, FILE, LINK, MAX_RECORD, META, Record, Refused

CHUNK = 1 << 20
LACKING = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # how a file system says that it has no modes or links
MAX_WAY = 32  # folders kept open on the way to a name: neighbours in a sorted tree share most of it
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Site:
    """The folder on the node, its own folder within, and the descriptors they are reached by."""

    def __init__(self, path):
        self.path = path
        self.fd = self.meta = self.staging = -1
        self.lock = self.steps = None
        self.way = []

    def open(self, allow_foreign):
        """Open the site, made if absent; Refused if it is not ours to take."""
        check_place(self.path)
        if not os.path.isdir(self.path):
            os.makedirs(self.path, exist_ok=True)
            check_place(self.path)  # in a folder that all share somebody else may have been quicker
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.lstat(META, dir_fd=self.fd)
        except FileNotFoundError:
            found = os.listdir(self.fd)
            # Another deployer may have made our folder since we looked.
            if not allow_foreign and found and META.decode() not in found:
                raise Refused(b"conflict", self.path, b"foreign") from None
            quietly(FileExistsError, os.mkdir, META, 0o700, dir_fd=self.fd)
            self.meta = self.own_folder(META, self.fd, is_new=True)
        else:
            self.meta = self.own_folder(META, self.fd)
        quietly(FileExistsError, os.mkdir, b"staging", 0o700, dir_fd=self.meta)
        self.staging = self.own_folder(b"staging", self.meta)

    def own_folder(self, name, parent, is_new=False):
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
        if is_new or stat.S_IMODE(found.st_mode) != 0o700:
            self.need(b"modes", os.fchmod, fd, 0o700)
        return fd

    def need(self, what, function, *args, **kwargs):
        """Call a function of os; Refused, naming what it lacks, on a file system that has no such thing."""
        try:
            function(*args, **kwargs)
        except OSError as error:
            if error.errno in LACKING:
                text = (error.strerror or str(error)).encode("utf-8", "replace")
                raise Refused(b"lacks", self.path, what, text) from None
            raise

    def close(self):
        self.forget()
        if self.lock is not None:
            self.lock.release()
        for fd in (self.staging, self.meta, self.fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self.meta = self.staging = -1
        self.lock = None

    def take_lock(self, worker, wait_s, ours=None):
        """Hold the site; see SiteLock.take."""
        self.lock = SiteLock(self.path, self.meta)
        self.lock.take(worker, wait_s, ours)

    def parent(self, path, make=False):
        """Return (descriptor of the folder that holds path, last name); the descriptor is ours until the next call."""
        folder, _, name = path.rpartition(b"/")
        if not folder:
            return self.fd, name
        parts = folder.split(b"/")
        if len(parts) > MAX_WAY:
            self.forget()
            self.way = [(folder, self.walk(folder, make))]
            return self.way[0][1], name
        same = 0
        for (known, _), part in zip(self.way, parts):
            if known != part:
                break
            same += 1
        self.forget(same)
        for part in parts[same:]:
            above = self.way[-1][1] if self.way else self.fd
            self.way.append((part, self.enter(part, above, make)))
        return self.way[-1][1], name

    def forget(self, kept=0):
        """Drop the remembered folders, but for the first ones of the way: they may have been removed."""
        for _, fd in self.way[kept:]:
            os.close(fd)
        del self.way[kept:]

    def enter(self, part, above, make):
        try:
            return os.open(part, FOLDER, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
        os.mkdir(part, 0o755, dir_fd=above)
        return os.open(part, FOLDER, dir_fd=above)

    def walk(self, folder, make):
        fd = self.fd
        try:
            for part in folder.split(b"/"):
                below = self.enter(part, fd, make)
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
        if self.fd < 0:
            return None  # a preview of a site that was never made
        try:
            fd, name = self.parent(path)
            return os.lstat(name, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def is_by_step(self, found):
        """Whether a file was changed, or made, while a step that makes an environment ran: by us and by no person."""
        if self.steps is None:
            self.steps = self.read_steps()
        changed = found.st_ctime_ns
        return stat.S_ISREG(found.st_mode) and any(began <= changed <= ended for began, ended in self.steps)

    def read_steps(self):
        """Return when steps ran, as (began, ended); node_side/envs/env.sh leaves two files for each time."""
        times = {}
        try:
            fd = os.open(b"steps", FOLDER, dir_fd=self.meta)
        except OSError:
            return []
        try:
            for name in os.listdir(fd):
                times[name] = os.lstat(name, dir_fd=fd).st_mtime_ns
        except FileNotFoundError:
            pass  # another time has just begun or ended
        finally:
            os.close(fd)
        return pairs_of(times)

    def content_of(self, worker, path, found):
        """Return what stands at a path in the form of Entry.content; None for anything that no manifest can hold."""
        folder, name = self.parent(path)
        if stat.S_ISREG(found.st_mode):
            return FILE, hash_file(worker, folder, name), b""
        if stat.S_ISLNK(found.st_mode):
            return LINK, b"", os.readlink(name, dir_fd=folder)
        return (DIR, b"", b"") if stat.S_ISDIR(found.st_mode) else None

    def names_in(self, folder):
        """Return the names in a folder; no link is followed on the way."""
        fd = self.walk(folder, False)
        try:
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)

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

    def kept_bytes(self):
        """Return how much of the disk staging takes."""
        return sum(512 * os.lstat(name, dir_fd=self.staging).st_blocks for name in os.listdir(self.staging))

    def clear_staging(self):
        for name in os.listdir(self.staging):
            quietly(FileNotFoundError, os.unlink, os.fsencode(name), dir_fd=self.staging)

    def clear(self, record):
        """Remove what only the way to a tree needed, and what was kept of contents that are no longer in it."""
        self.clear_staging()
        try:
            fd = os.open(b"pieces", FOLDER, dir_fd=self.meta)
        except FileNotFoundError:
            return
        names = {entry.sha for entry in record.entries}
        try:
            for name in map(os.fsencode, os.listdir(fd)):
                if name not in names:
                    quietly(FileNotFoundError, os.unlink, name, dir_fd=fd)
        finally:
            os.close(fd)

    def room(self):
        """Return (free bytes, free inodes or None where the file system has no such count) for us."""
        found = os.fstatvfs(self.fd)
        free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
        return free * found.f_frsize, (found.f_favail if found.f_files else None)


def pairs_of(times):
    """Return the times of "N.began" and "N.ended" as pairs, of those that have both."""
    ends = {name[:-6]: time for name, time in times.items() if name.endswith(".ended")}
    begins = {name[:-6]: time for name, time in times.items() if name.endswith(".began")}
    return [(time, ends[name]) for name, time in begins.items() if name in ends]


def quietly(expected, function, *args, **kwargs):
    """Call a function of os; what was expected to go wrong is fine."""
    try:
        function(*args, **kwargs)
    except expected:
        pass  # the caller named it: it is fine


def exists(name, folder):
    try:
        os.lstat(name, dir_fd=folder)
        return True
    except FileNotFoundError:
        return False


def hash_file(worker, folder, name):
    """Return what names the content of a regular file."""
    fd = os.open(name, READ, dir_fd=folder)
    try:
        size = os.fstat(fd).st_size
        hashed = ContentHash(size)
        if hashed.large:
            hashed.add_digests(hash_pieces(worker, fd, size))
            return hashed.name()
        while True:
            data = os.read(fd, CHUNK)
            if not data:
                return hashed.name()
            hashed.update(data)
            worker.poll()
    finally:
        os.close(fd)
