"""What a node finds on its disks: folders that are full or cannot be written.

Each is a step, a shell line; `prepared` makes a `Place` of any number of them, done in their order in a mount namespace
of the node's own before its server starts. Nothing of the machine changes:

    place = mounts.prepared(mounts.full(home), mounts.no_tmp(bed))
    sshd = bed.start("odd", home=home, place=place)
"""

import shlex
from pathlib import Path

from tests.support import tools
from tests.support.beds.sshd import Place, SshdBed


def prepared(*steps: str) -> Place:
    """Where a server listens for which these steps were done before."""
    tools.need_root()
    tools.need("unshare", "mount")
    script = " && ".join([*steps, 'exec "$@"'])
    return Place(enter=("unshare", "--mount", "--", "sh", "-c", script, "prepared"))


def read_only(folder: Path) -> str:
    """Nothing can be written in a folder."""
    at = shlex.quote(str(folder))
    return f"mount --bind {at} {at} && mount -o remount,bind,ro {at}"


def full(folder: Path) -> str:
    """A folder is a disk of its own, and not a byte fits into it."""
    at = shlex.quote(str(folder))
    return f"mount -t tmpfs -o size=8k,mode=1777 tmpfs {at} && {{ head -c 8192 /dev/zero >{at}/full || true; }}"


def full_tmp(bed: SshdBed) -> str:
    """No byte fits into /tmp; the bed, which may lie in there, stays where it is."""
    return f"{_tmp_of_its_own(bed, ',size=16k')} && {{ head -c 65536 /dev/zero >/tmp/full || true; }}"


def no_tmp(bed: SshdBed) -> str:
    """Nothing can be made in /tmp, as if there were none; the bed stays where it is."""
    return f"{_tmp_of_its_own(bed)} && mount -o remount,ro /tmp"


def _tmp_of_its_own(bed: SshdBed, options: str = "") -> str:
    at = shlex.quote(str(bed.folder))
    disk = f"mount -t tmpfs -o mode=1777{options} tmpfs /tmp"
    return f"mount --bind {at} /mnt && {disk} && mkdir -p {at} && mount --bind /mnt {at} && umount /mnt"
