"""A disk that stands still keeps no supervisor from its word to the others."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import asyncdeploy as ad
from asyncdeploy.connect.pool import Pool
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need, need_root

SILENCE_S = 3.0
TALKS = "until [ -e go ]; do echo step; sleep 0.1; done"


class Disk:
    """A disk of its own below a node's ~/.asyncdeploy."""

    def __init__(self, sshd: SshdNode, where: Path) -> None:
        self.words = ("nsenter", f"--mount=/proc/{sshd.pid}/ns/mnt")
        self.where = where

    def call(self, *words: str) -> None:
        subprocess.run([*self.words, *words], check=True, capture_output=True)


@contextmanager
def disk_of(sshd: SshdNode, image: Path) -> Iterator[Disk]:
    need_root()
    need("mkfs.ext4", "fsfreeze", "losetup")
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    disk = Disk(sshd, sshd.home / ".asyncdeploy")
    disk.where.mkdir(mode=0o700, exist_ok=True)
    try:
        disk.call("mount", "-o", "loop", str(image), str(disk.where))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs a loop device: {error.stderr.decode()}")
    yield disk  # the mount goes with the node, and the loop device with the mount


async def test_l14_a_disk_that_stands_still_silences_no_supervisor(
    network: Network, workspace: ad.Workspace, tmp_path: Path
) -> None:
    nodes = [network.start(name) for name in ("a", "b")]
    with disk_of(nodes[1], tmp_path / "disk.img") as disk:
        async with Pool(host_keys=ad.HostKeys.strict(nodes[0].known_hosts)) as pool:
            asked = [each.node for each in nodes]
            deployed = (await ad.deploy_all(asked, workspace, ad.SystemEnv(), pool=pool)).unwrap()
            launch = await ad.start_launch(
                pool, deployed, ad.Ranks(TALKS, nproc_per_node=1), grace_s=1, silence_s=SILENCE_S
            )
            await anyio.sleep(1)
            disk.call("fsfreeze", "--freeze", str(disk.where))
            try:
                await anyio.sleep(3 * SILENCE_S)  # the others would have ended it in a third of that
            finally:
                disk.call("fsfreeze", "--unfreeze", str(disk.where))
            for sshd in nodes:
                (sshd.home / "project" / "go").touch()
            report = await ad.wait_launch(launch, pool=pool)
    assert report.ok, [outcome.value and outcome.value.because for outcome in report]
