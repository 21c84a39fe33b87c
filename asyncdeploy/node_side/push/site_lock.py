"""One deployer at a time in a site: flock, or a folder on a file system without locks; push.sh takes the same ones."""

import errno
import fcntl
import os
import time

from asyncdeploy.node_side import proc
from asyncdeploy.node_side.push.site_record import Refused

LOOK_S = 0.02
NO_OWNER_S = 60  # a folder whose owner has not said who he is by then is that of a dead one
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
HOLDER = 400  # bytes of a holder's name
FOLDER = b"lock.d"


class SiteLock:
    """The lock of a site; flock frees itself when we die, and a folder is taken over from a process that is gone."""

    def __init__(self, path, meta):
        self.path, self.meta = path, meta
        self.fd = os.open(b"lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=meta)
        self.attempt = self.try_flock
        self.holds_folder = False

    def take(self, worker, wait_s, ours=None):
        """Hold the site; Refused, naming the holder, if it stays taken.

        A holder named ``ours`` is the same push at work through another node: they share a disk, and it is waited for.
        """
        end, shared = time.monotonic() + wait_s, False
        while not self.attempt():
            holder = self.holder()
            if ours is not None and holder == ours[:HOLDER]:
                end = time.monotonic() + wait_s
                if not shared:
                    worker.send(b"S")
                shared = True
            elif time.monotonic() > end:
                raise Refused(b"busy", self.path, holder)
            worker.poll()
            time.sleep(LOOK_S)
        if not os.fstat(self.fd).st_nlink:
            raise Refused(b"busy", self.path, b"the folder was removed meanwhile")

    def try_flock(self):
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            self.attempt = self.try_folder
            return self.try_folder()
        return True

    def try_folder(self):
        try:
            os.mkdir(FOLDER, 0o700, dir_fd=self.meta)
        except FileExistsError:
            return self.is_left() and self.take_over()
        self.holds_folder = True
        row = proc.process(os.getpid())
        self.write(
            FOLDER + b"/owner", b"%s %d %d\n" % (os.fsencode(proc.place()), os.getpid(), row.start if row else 0)
        )
        return True

    def is_left(self):
        """Whether the folder's owner is gone; another machine's pid, on a disk that both have, only looks dead."""
        words = self.read(FOLDER + b"/owner").split()
        if len(words) == 3:
            place, pid, start = (os.fsdecode(word) for word in words)
            ours = proc.is_here(place) or proc.host_of(place) == os.uname().nodename  # or an earlier boot of this one
            return ours and pid.isdigit() and not proc.is_same(int(pid), int(start) if start.isdigit() else 0)
        try:
            return time.time() - os.lstat(FOLDER, dir_fd=self.meta).st_mtime > NO_OWNER_S
        except FileNotFoundError:
            return False  # it was given back this moment

    def take_over(self):
        left = b"%s.%d" % (FOLDER, os.getpid())
        try:
            os.rename(FOLDER, left, src_dir_fd=self.meta, dst_dir_fd=self.meta)
        except OSError:
            return False  # somebody else was quicker
        self.remove(left)
        return self.try_folder()

    def holder(self):
        text = self.read(FOLDER + b"/holder") if self.attempt == self.try_folder else os.pread(self.fd, HOLDER, 0)
        return text[:HOLDER].replace(b"\0", b"")

    def name_holder(self, text):
        """Say who holds it, for those who wait."""
        if self.holds_folder:
            self.write(FOLDER + b"/holder", text[:HOLDER])
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, text[:HOLDER], 0)

    def release(self):
        if self.holds_folder:
            self.remove(FOLDER)
        os.close(self.fd)

    def read(self, name):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.meta)
        except OSError:
            return b""
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)

    def write(self, name, data):
        fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.meta
        )
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def remove(self, folder):
        for function, name in ((os.unlink, b"/owner"), (os.unlink, b"/holder"), (os.rmdir, b"")):
            try:
                function(folder + name, dir_fd=self.meta)
            except FileNotFoundError:
                continue
