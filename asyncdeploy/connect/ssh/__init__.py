"""The only door to asyncssh: foreign exceptions, keys and configuration are translated here, once.

Its import asks ctypes for two libraries that few have, liboqs and nettle. What ldconfig does not know ctypes looks for
with a compiler and a linker, six programs that take a tenth of the whole import. Here it goes without them, as on a
machine that has none: what asyncssh finds does not depend on that any more.
"""

import ctypes.util
import os
import sys


def _open() -> None:
    """Import asyncssh while ctypes asks ldconfig alone; not where somebody's own libraries lie elsewhere."""
    ask = getattr(ctypes.util, "_findSoname_ldconfig", None)
    if ask is None or "asyncssh" in sys.modules or "LD_LIBRARY_PATH" in os.environ:
        return
    usual = ctypes.util.find_library
    setattr(ctypes.util, "find_library", ask)  # noqa: B010 - a type checker takes no assignment here
    try:
        import asyncssh  # noqa: F401
    finally:
        setattr(ctypes.util, "find_library", usual)  # noqa: B010


_open()
