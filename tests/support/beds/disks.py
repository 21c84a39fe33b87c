"""Folders of a node that are full, or may not be written: `start_sshd("n", disks={"/tmp": "full", home: "read-only"})`.

Each is a mount of the node's own namespace, made before its sshd starts and gone with it.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

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
