"""What names a content: its sha256, or of a large one that of its pieces' sha256; push/bundle has the client's half."""

import os

LARGE = 4 << 20
PIECE = 64 << 10
DIGEST = 32
SHORT = 8  # bytes of a digest that travel to find what is equal
PIECES_HEAD = b"asyncdeploy-pieces 1\0"


class ContentHash:
    """The name of a content whose size is known before its bytes."""

    def __init__(self, size):
        import hashlib

        self.new = hashlib.sha256
        self.large = size >= LARGE
        self.open, self.room = self.new(), PIECE
        self.digests = []

    def update(self, data):
        if not self.large:
            self.open.update(data)
            return
        view = memoryview(data)
        while len(view) >= self.room:
            self.open.update(view[: self.room])
            view = view[self.room :]
            self.digests.append(self.open.digest())
            self.open, self.room = self.new(), PIECE
        self.open.update(view)
        self.room -= len(view)

    def add_digests(self, digests):
        """Take the digests of whole pieces that were hashed already."""
        self.digests.append(digests)

    def pieces(self):
        """Return the digests of all pieces; nothing may follow."""
        if self.room < PIECE:
            self.digests.append(self.open.digest())
            self.room = PIECE
        return b"".join(self.digests)

    def name(self):
        """Return the content's name as hex."""
        if not self.large:
            return self.open.hexdigest().encode()
        return self.new(PIECES_HEAD + self.pieces()).hexdigest().encode()


def zero_digest():
    import hashlib

    return hashlib.sha256(bytes(PIECE)).digest()


def skip_hole(fd, at, size):
    """Return how many whole pieces of hole begin at an offset."""
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        data = size  # up to the end
    return max(0, min(data, size) - at) // PIECE


def hash_pieces(worker, fd, size, copy=None):
    """Return the digests of a file's pieces; ``copy(data, offset)`` is given what is no hole."""
    hashed, at, zero = ContentHash(LARGE), 0, None
    buffer = memoryview(bytearray(16 * PIECE))
    while at < size:
        holes = skip_hole(fd, at, size)
        if holes:
            zero = zero or zero_digest()
            hashed.add_digests(zero * holes)
            at += holes * PIECE
            continue
        got = os.preadv(fd, [buffer[: min(len(buffer), size - at)]], at)
        if not got:
            break
        hashed.update(buffer[:got])
        if copy is not None:
            copy(buffer[:got], at)
        at += got
        worker.poll()
    return hashed.pieces()
