"""The swap of an old tree for a new one, under a journal: whoever dies meanwhile, the next one finishes it."""

import errno
import os
import stat

from asyncdeploy.node_side.push.site_folder import FOLDER, hash_file, quietly
from asyncdeploy.node_side.push.site_record import DIR, IN_PLACE, LINK, ancestors

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
        self.site.clear(self.record)

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
            made = os.open(name, FOLDER, dir_fd=folder)
            try:
                os.fchmod(made, entry.mode)
            finally:
                os.close(made)
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
            remove_folders(name, folder)
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


def remove_folders(name, parent):
    """Remove a folder and the empty folders in it; OSError, with all of them that hold something in place."""
    fd = os.open(name, FOLDER, dir_fd=parent)
    try:
        for below in os.listdir(fd):
            quietly(NotADirectoryError, remove_folders, os.fsencode(below), fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


class Deaf:
    """Stands for the worker where our client's death must not stop us; it still hears that we live."""

    def __init__(self, worker):
        self.worker = worker

    def poll(self):
        try:
            self.worker.sign_life()
        except SystemExit:
            pass  # nobody is there to hear it; what was begun is finished all the same


def finish_journal(worker, site):
    """Finish a swap that somebody began and did not end."""
    record = site.read_record(b"journal")
    if record is not None:
        Swap(Deaf(worker), site, record, True).run()
    else:
        quietly(FileNotFoundError, os.unlink, b"journal", dir_fd=site.meta)
