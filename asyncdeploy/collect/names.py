"""What a name below a folder may be: the node chose it, so it is judged before anything is done with it."""

from __future__ import annotations

PART = ".asyncdeploy-part-"
"""How the names of files on their way begin."""
MAX_NAME = 255


def misleads(path: bytes) -> bool:
    """Return whether no file below a folder can have this name."""
    return b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/"))


def why_not(path: bytes, max_depth: int) -> str | None:
    """Return why a name that a file may well have is refused here, or None."""
    parts = path.split(b"/")
    if len(parts) > max_depth:
        return f"deeper than {max_depth} folders"
    if any(len(part) > MAX_NAME for part in parts):
        return f"a name of over {MAX_NAME} bytes"
    if any(part.startswith(PART.encode()) for part in parts):
        return "its name is one of our own"
    return None


def link_escapes(path: bytes, target: bytes) -> bool:
    """Return whether a link could lead out of the tree it stands in.

    It may climb first and descend then. Climbing starts in a real folder, so counting is exact; a ".." behind a name
    is refused, because the name may be a link itself and counting would no longer tell where it leads.
    """
    if not target or target.startswith(b"/") or b"\0" in target:
        return True
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    climbs = next((number for number, part in enumerate(parts) if part != b".."), len(parts))
    return climbs > path.count(b"/") or b".." in parts[climbs:]
