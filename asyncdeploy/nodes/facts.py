"""What a node is: NodeFacts, Gpu, Disk. Read by probe.py, used by envs and launches; a node's words, so checked when
built.
"""

from __future__ import annotations

import attrs

from asyncdeploy.values.serialize import Pairs, PlainData, to_pairs


@attrs.frozen
class Gpu:
    """One GPU as nvidia-smi names it; memory in bytes."""

    index: int
    name: str
    memory_bytes: int = 0
    used_bytes: int = 0
    driver: str = ""
    uuid: str = ""


@attrs.frozen
class Disk:
    """The file system that holds ``path``."""

    path: str
    free_bytes: int
    total_bytes: int = 0
    free_inodes: int | None = None


@attrs.frozen
class NodeFacts(PlainData):
    """What a node answered when it was asked what it is.

    Attributes:
        home: absolute home folder of the login user.
        user / uid: who we are there.
        hostname: its own name for itself.
        system / arch: ``uname -s`` and ``uname -m`` ("Linux", "x86_64").
        libc: "glibc 2.36", "musl 1.2", or "".
        python: absolute path of a python3 >= 3.8, or "".
        python_version: "3.11.2", or "".
        tools: name -> absolute path of what is there: git, uv, tar, tmux, docker, podman, nix, nvidia-smi, bash,
            setsid, flock, sha256sum.
        uv_version: of that uv, "0.9.2", or "".
        cpus: processors we may use.
        memory_bytes: RAM.
        gpus: NVIDIA GPUs in index order.
        disks: of the home folder and /tmp (one entry a file system).
        addresses: (interface, address) of every global address, the interface names in the kernel's order.
        ssh_address: the node's own address of our SSH connection (inside a NAT), or "".
        identity: names this boot of this machine or container: boot id, start of pid 1, pid namespace.
        home_identity: names the home folder's file system (nodes that share one have the same), or "".
        clock_offset_s: the node's clock minus ours, in seconds, to about half a round trip.
    """

    home: str
    user: str
    uid: int
    hostname: str = ""
    system: str = "Linux"
    arch: str = ""
    libc: str = ""
    python: str = ""
    python_version: str = ""
    tools: Pairs = attrs.field(default=(), converter=to_pairs)
    uv_version: str = ""
    cpus: int = 1
    memory_bytes: int = 0
    gpus: tuple[Gpu, ...] = ()
    disks: tuple[Disk, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    ssh_address: str = ""
    identity: str = ""
    home_identity: str = ""
    clock_offset_s: float = 0.0

    def __attrs_post_init__(self) -> None:
        if not self.home.startswith("/"):
            raise ValueError(f"NodeFacts home: an absolute path was expected, got {self.home!r}")

    def tool(self, name: str) -> str | None:
        """Return a tool's absolute path, or None."""
        return dict(self.tools).get(name)

    def resolve(self, path: str) -> str:
        """Return ``path`` with a leading "~" replaced by the home folder."""
        if path == "~":
            return self.home
        return f"{self.home.rstrip('/')}/{path[2:]}" if path.startswith("~/") else path
