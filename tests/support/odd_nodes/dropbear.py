"""Dropbear as a node's SSH server: what routers, small containers and rescue systems have instead of OpenSSH's.

    sshd = dropbear.start(bed, "small")
    async with at(sshd) as remote: ...

It stands in sshd's place in the node's own namespace, so all else of a bed combines with it. Of sshd_config it knows
address and port; whoever may log in stands in the home's authorized_keys.
"""

import os
import shutil
from typing import Any

from tests.support import tools
from tests.support.beds.sshd import SshdBed
from tests.support.beds.sshd_node import SshdNode

_STANDS_IN = """#!/bin/sh
# dropbear in the place of: sshd -D -e -f CONFIG
place=$(awk '$1 == "ListenAddress" { a = $2 } $1 == "Port" { p = $2 } END { print a ":" p }' "$4")
dropbearconvert openssh dropbear "${4%/*}/ssh_host_ed25519_key" "${4%/*}/dropbear_key" 2>/dev/null || exit
exec dropbear -F -E -s -p "$place" -r "${4%/*}/dropbear_key" -P "${4%/*}/dropbear.pid"
"""


def start(bed: SshdBed, name: str, **options: Any) -> SshdNode:
    """Start a node that Dropbear serves; options as `SshdBed.start` takes them."""
    tools.need_root()
    tools.need("dropbear", "dropbearconvert")
    sshd = bed.start(name, files={str(tools.find("sshd")): _STANDS_IN}, **options)
    folder = sshd.home / ".ssh"
    folder.mkdir(mode=0o700)
    shutil.copy(bed.folder / "authorized_keys", folder)
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, sshd.account.uid, sshd.account.uid)
    return sshd
