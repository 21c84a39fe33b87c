"""Disks that are full, may not be written or refuse something.

Of a node: `start_sshd("n", disks={"/tmp": "full", home: "read-only"})`. Each is a mount of the node's own namespace,
made before its sshd starts and gone with it. Here: `with exfat_disk(path)`, `with small_disk(path, 1)`;
`refused("symlinkat")` before a program.
"""

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.support.tools import need, need_root

Disk = Literal["full", "read-only"]


def prepare(disks: Mapping[str, Disk], keep: Path) -> str:
    """Shell that makes the disks; what lies in `keep` (the bed's own folder) stays to be seen."""
    lines = []
    for place, state in disks.items():
        where = shlex.quote(place)
        if state == "read-only":
            lines.append(f"mount --bind {where} {where} && mount -o remount,bind,ro {where} || exit")
            continue
        hides = keep.is_relative_to(place)
        held = shlex.quote(str(keep))
        if hides:
            lines.append(f"mount -t tmpfs none /mnt && mkdir /mnt/keep && mount --rbind {held} /mnt/keep || exit")
        lines.append(f"mount -t tmpfs -o size=64k,mode={1777 if hides else 700} none {where} || exit")
        if hides:
            lines.append(f"mkdir -p {held} && mount --rbind /mnt/keep {held} || exit")
        lines.append(f"head -c 1000000 /dev/zero > {where}/.all-of-it 2>/dev/null")
    return "\n".join([*lines, ""])


@contextmanager
def exfat_disk(where: Path, megabytes: int = 64, *, options: str = "rw") -> Iterator[Path]:
    """An exFAT disk at ``where``: no links, no modes, times of whole seconds, no ":" in names, "a" and "A" are one.

    options: of the mount, such as "umask=022", without which all may write there.
    """
    need_root()
    need("losetup", "mkfs.exfat", "mount.exfat-fuse", "umount")
    image = where.with_name(f"{where.name}.img")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.exfat", image], check=True, stdout=subprocess.DEVNULL)
    found = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if found.returncode:  # a matter of the machine and not of its packages: in CI too
        pytest.skip(f"needs a loop device: {found.stderr.strip()}")
    device = found.stdout.strip()
    try:
        where.mkdir()
        made = subprocess.run(
            ["mount.exfat-fuse", "-o", options, device, where], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"needs fuse: {made.stderr.strip()}")
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=False)  # also where a test has left something open there
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def small_disk(where: Path, megabytes: int) -> Iterator[Path]:
    """A disk that is soon full, mounted on a new folder."""
    need_root()
    need("mount", "umount")
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def refused(*calls: str, error: str = "EPERM") -> tuple[str, ...]:
    """Words before a program's own, to which the system then refuses these calls: `refused("fchmod", "symlinkat")`."""
    need("strace")
    names = ",".join(calls)
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={names}", "-e", f"inject={names}:error={error}")
