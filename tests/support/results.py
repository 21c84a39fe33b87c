"""Results on a node, and what has come home of them."""

import os
from pathlib import Path

LONG_AGO_NS = 1_234_567_890_123_456_789


def write(root: Path, files: dict[str, str | bytes]) -> None:
    """Write files that were last changed long ago, as results mostly are."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def tree(root: Path) -> dict[bytes, object]:
    """Every name below a folder, with its content, its link target, or None for a folder."""
    found: dict[bytes, object] = {}
    for path in root.rglob("*"):
        name = os.fsencode(path.relative_to(root))
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def parts(root: Path) -> list[Path]:
    return list(root.rglob(".asyncdeploy-part-*"))
