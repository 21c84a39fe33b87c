"""The trees that are pushed and collected, made on the spot and the same each time."""

from __future__ import annotations

import hashlib
import os
import random
import sysconfig
from pathlib import Path


def make_repository(path: Path, files: int = 2000, size: int = 20_000_000) -> Path:
    """Make ``files`` files, ``size`` bytes in all: Python sources, which compress as a repository does."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(p for p in library.rglob("*.py") if p.is_file() and p.stat().st_size < 150_000)
    rng = random.Random(7)
    rng.shuffle(sources)
    total = 0
    for number, source in enumerate(sources[: files - 10]):
        data = source.read_bytes()
        data = data if total + len(data) < size * 0.9 else data[:2000]
        total += len(data)
        target = path / "src" / f"pkg{number % 23:02}" / f"{number}-{source.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o755 if number % 50 == 0 else 0o644)
    (path / "assets").mkdir()
    for number in range(8):
        (path / "assets" / f"image{number}.png").write_bytes(rng.randbytes(size // 80))
    (path / ".gitignore").write_text("__pycache__/\n*.pyc\n.venv/\n")
    return path


def change_one(path: Path, salt: int) -> None:
    """Rewrite one file: the same size, another content."""
    target = random.Random(salt).choice(sorted(path.rglob("*.py")))
    target.write_bytes((f"# {salt}\n".encode() * (target.stat().st_size // 8 + 1))[: max(target.stat().st_size, 32)])


def make_results(path: Path, seed: str, megabytes: int) -> None:
    """Make 200 files, 10 MB in all, and one of ``megabytes``."""
    rng = random.Random(seed)
    block = rng.randbytes(100_000)
    for number in range(200):
        target = path / f"part{number % 5}" / f"log{number}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(f"{seed} {number} ".encode() + block[number * 100 : number * 100 + 25_000].hex().encode())
    with (path / "metrics.bin").open("wb") as file:
        for _ in range(megabytes):
            file.write(rng.randbytes(1_000_000))


def digests(path: Path) -> dict[str, str]:
    """Return every regular file's and link's digest by its relative name; state folders of tools are left out."""
    found = {}
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if name != ".asyncdeploy"]
        for name in files:
            item = Path(folder, name)
            data = os.fsencode(item.readlink()) if item.is_symlink() else item.read_bytes()
            found[str(item.relative_to(path))] = hashlib.sha256(data).hexdigest()
    return {name: digest for name, digest in found.items() if not name.startswith(".asyncdeploy")}
