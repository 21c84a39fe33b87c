"""Trees on disk: to write them, to commit them, to compare them, to prove that one was only looked at; a small disk."""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.support.tools import need, need_root

Tree = dict[str, tuple[str, int, bytes]]
Seen = dict[str, tuple[int, int, int, int, bytes]]
_WHO = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")


def tree(root: Path, prefix: str = "") -> Tree:
    """Every name below root but our own folder, behind a prefix: kind, permission bits, content or target."""
    found: Tree = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        if folder == os.fsencode(root):
            folders[:] = [name for name in folders if name != b".asyncdeploy"]
        for name in folders + files:
            path = Path(os.fsdecode(folder)) / os.fsdecode(name)
            mode = path.lstat().st_mode
            key = prefix + str(path.relative_to(root))
            if stat.S_ISLNK(mode):
                found[key] = ("link", 0, os.fsencode(path.readlink()))
            elif stat.S_ISDIR(mode):
                found[key] = ("dir", 0, b"")
            else:
                found[key] = ("file", stat.S_IMODE(mode), path.read_bytes())
    return found


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def git(folder: Path, *args: str) -> None:
    """Run git in a folder, where it must succeed."""
    need("git")
    subprocess.run(["git", *_WHO, *args], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, files: dict[str, str | bytes] | None = None) -> Path:
    """Write files into a repository, which is made where there is none, and commit all that is there."""
    write(folder, files or {})
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a step", "--allow-empty")
    return folder


def change_files(root: Path, dice: random.Random) -> None:
    """Change, add and remove some files, and turn one name into a folder or back."""
    for number in dice.sample(range(30), 8):
        write(root, {f"many/{number}": dice.randbytes(20_000)})
    for number in dice.sample(range(30), 4):
        (root / f"many/{number}").unlink(missing_ok=True)
    turned = root / "turned"
    if turned.is_dir():
        shutil.rmtree(turned)
        write(root, {"turned": dice.randbytes(10)})
    else:
        turned.unlink(missing_ok=True)
        write(root, {"turned/x/y": dice.randbytes(10)})


@asynccontextmanager
async def small_disk(where: Path, options: str) -> AsyncIterator[Path]:
    need_root()
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def seen(*roots: Path) -> Seen:
    """Every name at and below some folders: mode, inode, times of its last changes, content or target."""
    found: Seen = {}
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))]:
            info = path.lstat()
            content = b""
            if stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = os.fsencode(path.readlink())
            found[str(path)] = (info.st_mode, info.st_ino, info.st_mtime_ns, info.st_ctime_ns, content)
    return found


@contextmanager
def untouched(*roots: Path) -> Iterator[None]:
    """Fail unless all that lies below some folders is after the block what it was before, untouched."""
    before = seen(*roots)
    yield
    after = seen(*roots)
    assert sorted(after) == sorted(before)
    assert after == before
