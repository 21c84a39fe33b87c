"""Contents on their way into a site's staging folder, each verified before anything is put in place."""

import os
import zlib

from asyncdeploy.node_side.files import write_all
from asyncdeploy.node_side.push.feed import Feed
from asyncdeploy.node_side.push.mend import Mend
from asyncdeploy.node_side.push.pieces import LARGE, ContentHash
from asyncdeploy.node_side.push.site_folder import CHUNK, CREATE, READ, hash_file
from asyncdeploy.node_side.push.site_record import FILE, LINK, Refused

KEPT_HEAP = 16 << 20  # bytes that are taken and given back untouched; a block and its copies are 3 MiB


class Intake:
    """Contents on their way into staging: kept ones, copies of what is here, and the client's frames."""

    def __init__(self, worker, site, plan):
        import hashlib

        self.worker, self.site = worker, site
        self.sha256 = hashlib.sha256
        # glibc gives each freed block back to the kernel, which zeroes it anew for the next, until a large one was
        # freed: then it keeps up to twice as much (mallopt(3), M_MMAP_THRESHOLD). A fifth of a large file's CPU.
        try:
            bytes(KEPT_HEAP)
        except MemoryError:
            pass  # an account's memory may be bounded: then it goes as it went
        self.feed = Feed(worker)
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
            self.site.need(b"links", os.symlink, entry.target, entry.staged, dir_fd=self.site.staging)
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
            elif source and self.copy_here(source, first):
                pass  # it stood in the site under another name
            elif first.size:
                missing.add(sha)
                continue
            else:
                self.store(first)
            self.copy_users(users)
        return missing

    def left_over(self):
        """Return the sha256 of what a cut push left whole and is wanted now; the rest of it goes."""
        kept = set()
        for name in map(os.fsencode, os.listdir(self.site.staging)):
            sha, _, number = name.partition(b".")
            if number == b"0" and sha in self.users and hash_file(self.worker, self.site.staging, name) == sha:
                kept.add(sha)
            elif number != b"part" or sha not in self.users:
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

        def read(_left):
            self.worker.poll()  # many gigabytes take longer than the client waits for a sign of life
            return os.read(source, CHUNK)

        try:
            self.write(entry, read)
        finally:
            os.close(source)

    def copy_users(self, users):
        for entry in users[1:]:
            self.copy(self.site.staging, users[0].staged, entry)

    def take(self, left):
        """Return up to ``left`` bytes of the client's contents."""
        if self.at == len(self.data):
            payload = self.feed.block()
            if payload[:1] == b"z":
                inflate = zlib.decompressobj()
                payload = b" " + inflate.decompress(payload[1:], CHUNK)
                if not inflate.eof:
                    raise ValueError("a frame of contents is cut or too large")
            elif payload[:1] != b"r":
                raise ValueError("a frame of contents was expected")
            self.data, self.at = memoryview(payload)[1:], 0
        chunk = self.data[self.at : self.at + left]
        self.at += len(chunk)
        return chunk

    def store(self, entry):
        """Stage what the client sends of a content, verified."""
        size = entry.size
        chunk = self.take(size) if size else b""
        if len(chunk) < size:
            first = [chunk]
            self.write(entry, lambda left: first.pop() if first else self.take(left))
            return
        # Most are small and came in one block: nothing is written before it is verified, and nothing is asked twice.
        if self.sha256(chunk).hexdigest().encode() != entry.sha:
            raise ChangedError(entry.path)
        fd = os.open(entry.staged, CREATE, entry.mode, dir_fd=self.site.staging)
        try:
            if os.write(fd, chunk) < size:
                os.lseek(fd, 0, os.SEEK_SET)
                write_all(fd, chunk)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def write(self, entry, read):
        """Write one staged file, verified, as it is read."""
        hashed, left = ContentHash(entry.size), entry.size
        fd = os.open(entry.staged, CREATE, entry.mode, dir_fd=self.site.staging)
        try:
            while left:
                chunk = read(left)
                if not len(chunk):
                    break
                hashed.update(chunk)
                left -= len(chunk)
                write_all(fd, chunk)
            if left or hashed.name() != entry.sha:
                os.unlink(entry.staged, dir_fd=self.site.staging)
                raise ChangedError(entry.path)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def mends(self, order, numbers, old):
        """Return a content's name to its Mend, for the large ones among what is wanted; the bases are offered."""
        found = {}
        for sha in order:
            entry = self.users[sha][0]
            if entry.size >= LARGE:
                before = old.get(entry.path)
                found[sha] = Mend(self.worker, self.site, entry, numbers[sha])
                found[sha].find_base(before if before is not None and before.kind == FILE else None)
                found[sha].offer_base()
        return found

    def stage_sent(self, order, mends):
        """Stage what the client sends, each content verified."""
        for sha in order:
            users = self.users[sha]
            try:
                whole = mends[sha].write(self.take) if sha in mends else self.store(users[0])
            except ChangedError:
                whole = False
            if whole is False:
                raise Refused(b"changed", self.site.path, users[0].path)
            self.copy_users(users)


class ChangedError(Exception):
    """A content is not what its name says."""
