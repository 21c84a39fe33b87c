"""The catalogue: what is said where nodes cannot run a job together, or one of its ranks ends it."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.network import Network
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.launched import SMI

StartSshd = Callable[..., SshdNode]
Told = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one program."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("import sys\nprint('begun')\nsys.exit(3)\n")
    return folder


def has_two_gpus(home: Path, held_mib: int = 0) -> None:
    """Put what plays nvidia-smi onto a node; of the second GPU so much memory is in use, by a python."""
    tool = home / ".local/bin/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text(SMI)
    tool.chmod(0o755)
    (home / "used").write_text(f"{held_mib}")
    (home / "users").write_text(f"GPU-1, 4242, {held_mib}, python\n" if held_mib else "")


async def launch_failure(
    nodes: Sequence[SshdNode], project: Path, launcher: ad.Launcher
) -> ad.DeployError | ad.FleetError:
    """How a launch ends, as who waits for it is told."""
    async with pool_for(nodes[0]) as pool:
        try:
            launch = await ad.fan_out([each.node for each in nodes], project, launcher, ad.SystemEnv(), pool=pool)
            (await ad.wait_launch(launch, pool=pool)).unwrap()
        except (ad.DeployError, ad.FleetError) as error:
            return error
    raise AssertionError("the launch did not fail")


async def test_nodes_without_a_common_network(network: Network, project: Path, told: Told) -> None:
    machines = [network.start(f"gpu-{name}") for name in "ab"]
    network.block(machines[0], machines[1])
    error = await launch_failure(machines, project, ad.Ranks("true", nproc_per_node=1))
    places = {f"address-{name}": network.address(each) for name, each in zip("ab", machines, strict=True)}
    assert (
        told(error, **places)
        == """\
these nodes share no private network; a multi-node job cannot work
  | gpu-b cannot reach gpu-a at <address-a> port <port>: no answer within 4 s
  | <address-a>: 1 of 2 nodes cannot reach it
  | gpu-a cannot reach gpu-b at <address-b> (eth0): no answer within 4 s
  | gpu-b cannot reach gpu-a at <address-a> (eth0): no answer within 4 s
hint: all TCP between the nodes must be open, both ways; Node(address=...) names a network that they share"""
    )


async def test_a_port_that_is_taken(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        launcher = ad.Torchrun("train.py", nproc_per_node=1, master_port=port)
        error = await launch_failure([sshd], project, launcher)
    assert (
        told(error, port=port)
        == """\
gpu-a: port <port> cannot be taken: Address already in use by pid <pid> (<name>)
hint: leave master_port out to get a free one"""
    )


async def test_a_gpu_that_somebody_holds(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    has_two_gpus(sshd.home, held_mib=62000)
    async with pool_for(sshd) as pool:
        found = await ad.preflight([sshd.node], pool=pool)
    assert (
        told(ad.PreflightFailed("", "\n".join(found.describe().splitlines()[2:])))
        == """\
warning: gpu-a: pid 4242 (python) holds 60.5 GiB of GPU 1
hint: `ps -o user,lstart,args -p 4242` on gpu-a says whose it is; CUDA_VISIBLE_DEVICES leaves GPUs out
ok: they meet at 127.0.0.1 port <port>"""
    )


async def test_a_gpu_s_memory_is_full(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    line = "echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB'; exit 1"
    assert (
        told(await launch_failure([sshd], project, ad.Ranks(line, nproc_per_node=1)))
        == """\
1 of 1 node failed: gpu-a: run ranks-<id> failed: rank 0 (status 1) on gpu-a (node rank 0, local rank 0) failed, its node exited 1 after <s>s
ROOT CAUSE  gpu-a, rank 0 (node rank 0, local rank 0)
  last 1 line of its log (full: <bed>/gpu-a/home/.asyncdeploy/launches/ranks-<id>/rank-0/0/stdout.log on gpu-a)
  torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB
hint: the GPU's memory was full: by this job, or by another process; preflight(nodes) names who holds it"""
    )


async def test_a_script_that_is_not_in_the_workspace(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    with pytest.raises(ValueError, match="trian") as caught:
        await launch_failure([sshd], project, ad.Torchrun("trian.py", nproc_per_node=1))
    assert str(caught.value).replace(str(project), "<project>") == (
        "'trian.py' is not among the files that are sent of <project>; did you mean 'train.py'?"
    )


async def test_a_rank_ends_it(sshd_nodes: Sequence[SshdNode], project: Path, told: Told) -> None:
    line = "test $NODE_RANK != 1 || { sleep 1; echo 'cannot read data.bin'; exit 3; }; exec sleep 999"
    error = await launch_failure(sshd_nodes, project, ad.Ranks(line, nproc_per_node=1))
    assert (
        told(error)
        == """\
1 of 4 nodes failed, 3 stopped because of it: node-1: run ranks-<id> failed: rank 1 (status 3) on node-1 (node rank 1, local rank 0) failed, its node exited 3 after <s>s
ROOT CAUSE  node-1, rank 1 (node rank 1, local rank 0), first of 4
  last 1 line of its log (full: <bed>/node-1/home/.asyncdeploy/launches/ranks-<id>/rank-1/0/stdout.log on node-1)
  cannot read data.bin
CONSEQUENCES
  node-[0,2-3] (3)  +<s>s  stopped by us"""
    )


async def test_a_node_that_is_off(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd.known_hosts), limits=ad.Limits(connect_deadline_s=4)) as pool:
        nodes = [sshd.node, ad.Node("127.0.0.1", user="root", port=1, name="gpu-b")]
        with pytest.raises(ad.LaunchFailed) as caught:
            await ad.fan_out(nodes, project, ad.Ranks("true", nproc_per_node=1), ad.SystemEnv(), pool=pool)
    assert (
        told(caught.value)
        == """\
node rank 1 is not ready, nothing was started: 127.0.0.1 port 1 refuses connections
ROOT CAUSE  gpu-b
hint: is sshd running there, and is this its port?"""
    )
