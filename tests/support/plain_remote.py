"""A node without python3, whose /bin/sh is dash, bash or busybox ash."""

from pathlib import Path

from asyncdeploy.transport import Channel
from tests.support.shell_remote import ShellRemote
from tests.support.tools import find, need

SHELLS = ("dash", "bash", "busybox")
APPLETS = """ash sh cat chmod cut date dd find grep head id ln mkdir mv readlink rm rmdir sed sha256sum sleep stat sync
tail tar timeout tr uname wc"""


class PlainRemote(ShellRemote):
    """Our scripts are run by the shell that is named; with busybox nothing else is there, not even flock."""

    def __init__(self, home: Path, shell: str) -> None:
        super().__init__(home, python=False)
        need(shell)
        self.sh = find(shell) or shell
        if shell == "busybox":
            applets = home.with_name("applets")
            applets.mkdir(exist_ok=True)
            for name in APPLETS.split():
                if not (applets / name).exists():
                    (applets / name).symlink_to(self.sh)
            self.sh = str(applets / "ash")
            self.env["PATH"] = str(applets)

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        return await super().open(line.replace("/bin/sh", self.sh), kind=kind)
