"""How much a file or a folder takes on the disk; loaded by clean.py: Python >= 3.8, standard library only."""

import os


def size_of(worker, path):
    """Return bytes as the disk counts them; what is linked twice within counts once, and what cannot be read is 0."""
    seen, total, waiting = set(), 0, [path]
    while waiting:
        each = waiting.pop()
        try:
            found = os.lstat(each)
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            total += found.st_blocks * 512
            if found.st_mode & 0o170000 == 0o040000:
                waiting += [os.path.join(each, name) for name in os.listdir(each)]
        except OSError:
            continue
        worker.poll()
    return total
