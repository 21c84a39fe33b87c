"""A docker daemon or a podman of the test run's own, and an image made from nothing: no registry is asked."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.support.tools import find, missing, need, need_root
from tests.support.waiting import eventually_sync

IMAGE = "adtest/small:1"
PYTHON_MOUNTS = tuple(
    f"{path}:{path}:ro"
    for path in dict.fromkeys(("/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix))
    if Path(path).is_dir() and not (path not in ("/usr", "/lib", "/lib64") and path.startswith("/usr/"))
)
"""The machine's own Python, torch included, in an image that has none."""

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


@attrs.frozen
class Daemon:
    """A docker daemon: the variables that lead to it, and its log."""

    socket: Path
    log: Path

    @property
    def env(self) -> dict[str, str]:
        """What a client of it needs."""
        return {"DOCKER_HOST": f"unix://{self.socket}"}

    def run(self, *words: str, stdin: bytes | None = None) -> str:
        """Run docker and return what it prints."""
        docker = find("docker")
        assert docker is not None
        done = subprocess.run([docker, *words], env={**os.environ, **self.env}, input=stdin, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def containers(self) -> list[str]:
        """The names of all containers, running or not."""
        return self.run("ps", "-a", "--format", "{{.Names}}").split()


@contextmanager
def docker_daemon() -> Iterator[Daemon]:
    """A daemon with its own folders and socket, without bridge and firewall, with IMAGE in it."""
    need_root()
    need("dockerd", "docker", "busybox", "runc")
    folder = Path(tempfile.mkdtemp(prefix="addocker-"))
    folder.chmod(0o711)
    daemon = Daemon(folder / "sock", folder / "log")
    words = ["--iptables=false", "--ip6tables=false", "--bridge=none", f"--data-root={folder}/data"]
    words += [f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host=unix://{daemon.socket}"]
    process = None
    try:
        with daemon.log.open("wb") as log:
            dockerd = find("dockerd")
            assert dockerd is not None
            process = subprocess.Popen(
                [dockerd, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        eventually_sync(lambda: _answers(daemon) or process.poll() is not None, "dockerd answers", within_s=60)
        if process.poll() is not None:
            missing(f"dockerd does not run here: {daemon.log.read_text()[-800:]}")
        daemon.socket.chmod(0o666)  # plain users of the tests' nodes are let in too
        daemon.run("import", "-", IMAGE, stdin=small_system())
        yield daemon
    finally:
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(30)
        _unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


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


def small_system() -> bytes:
    """A tar of a root file system with busybox, and nothing else."""
    busybox = find("busybox")
    assert busybox is not None
    linked = subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout
    libraries = [word for line in linked.splitlines() for word in line.split() if word.startswith("/")]
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for path in ("bin", "etc", "tmp", "proc", "sys", "dev", "usr", "var"):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for library in libraries:
            tar.add(library, library.lstrip("/"))
        for applet in {*applets, "sh"} - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return out.getvalue()


def _answers(daemon: Daemon) -> bool:
    docker = find("docker")
    assert docker is not None
    words = [docker, "version"]
    return subprocess.run(words, env={**os.environ, **daemon.env}, capture_output=True).returncode == 0


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounts if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", place], check=False)
