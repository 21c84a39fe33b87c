"""A real podman with a storage of the test run's own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.beds.docker import IMAGE, small_system
from tests.support.tools import find, missing, need, need_root

# What a virtual machine allows: runc where crun refuses its cgroups, and limits below the hard ones.
CONTAINERS = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
LIMITS = ("nofile=1024:1024", "nproc=1000:1000")


class Podman:
    """podman with its own storage."""

    def __init__(self, folder: Path) -> None:
        (folder / "containers.conf").write_text(CONTAINERS)
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
        self.env = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *words: str, stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
        """Run podman."""
        return subprocess.run(
            [str(find("podman")), *words], env={**os.environ, **self.env}, input=stdin, capture_output=True
        )

    def containers(self) -> list[str]:
        """The names of all containers."""
        return self.run("ps", "-a", "--format", "{{.Names}}").stdout.decode().split()


@contextmanager
def own_podman() -> Iterator[Podman]:
    """podman, if it can run anything here, with IMAGE in its storage."""
    need_root()
    need("podman", "runc", "busybox")
    # A short path: podman's sockets lie far below, and where one's name is too long it waits 20 s for each container.
    folder = Path(tempfile.mkdtemp(prefix="adpod-"))
    podman = Podman(folder)
    made = podman.run("import", "-", IMAGE, stdin=small_system())
    tried = podman.run("run", "--rm", "--network=host", IMAGE, "true")
    if made.returncode or tried.returncode:
        missing(f"podman does not run here: {(made.stderr + tried.stderr).decode()[-600:]}")
    yield podman
    podman.run("rm", "-fa")
    subprocess.run(["umount", "-l", f"{folder}/graph/overlay"], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
