"""Take one file from the client, verify it and put it in place; an equal one that lies there is left alone.

Runs on a node inside the worker: Python >= 3.8, standard library only.

Arguments: target (absolute), sha256 in hex, size, mode in octal. We send W when the file is wanted; then D frames come
with its content, and E. Returned: have, done, bad (it is not what its hash says), full FREE NEEDED, or error TEXT, with
NUL between.
"""

import errno
import hashlib
import os

from asyncdeploy.node_side.files import write_all

BLOCK = 1 << 20


def main(worker, args):
    target, sha256, size, mode = args.split(b"\0")
    size, mode = int(size), int(mode, 8)
    try:
        if is_equal(worker, target, sha256.decode(), size):
            os.chmod(target, mode)
            os.utime(target)  # it is in use: cleaning goes by that
            return b"have"
        folder = os.path.dirname(target)
        make_folder(folder)
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < size:
            return b"full\0%d\0%d" % (room.f_bavail * room.f_frsize, size)
        return take(worker, target, sha256.decode(), mode)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return b"full\0%d\0%d" % (0, size)
        return b"error\0" + os.strerror(error.errno or 0).encode() + b": " + os.fsencode(error.filename or target)


def is_equal(worker, path, sha256, size):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            while True:
                block = file.read(BLOCK)
                if not block:
                    return digest.hexdigest() == sha256
                digest.update(block)
                worker.poll()
    except FileNotFoundError:
        return False


def make_folder(folder):
    """Make a folder and those above it, ours alone."""
    old = os.umask(0o077)
    try:
        os.makedirs(folder, exist_ok=True)
    finally:
        os.umask(old)


def take(worker, target, sha256, mode):
    folder, name = os.path.split(target)
    # Not named by our pid: two machines that share a home may have the same.
    part = os.path.join(folder, b".%s.%s.part" % (name, os.urandom(8).hex().encode()))
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            sound = receive(worker, fd, sha256)
            os.fchmod(fd, mode)
            os.fsync(fd)
        finally:
            # Before it gets its name: a program that somebody still writes cannot be run ("Text file busy"), and with a
            # home that machines share another one runs it as soon as it is there.
            os.close(fd)
        if not sound:
            return b"bad"
        os.rename(part, target)
        part = None
        return b"done"
    finally:
        if part is not None:
            os.unlink(part)


def receive(worker, fd, sha256):
    """Write what comes into a file; return whether it is what its hash says."""
    digest = hashlib.sha256()
    worker.send(b"W")
    while True:
        kind, payload = worker.receive()
        if kind == b"E":
            return digest.hexdigest() == sha256
        digest.update(payload)
        write_all(fd, payload)
