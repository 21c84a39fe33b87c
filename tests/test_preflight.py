"""Whether nodes can run one job together: the verdict as arithmetic, and asked of nodes with addresses of their own."""

import json
import pickle
import socket

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.errors import PreflightFailed
from asyncdeploy.events import Event, Noted
from asyncdeploy.facts import Disk, Gpu, NodeFacts
from asyncdeploy.node_side.look import parse
from asyncdeploy.verdict import (
    NOTHING_SHARED,
    GpuUser,
    NodeLook,
    Preflight,
    Problem,
    Unreached,
    pair_problems,
    warnings_of,
)
from tests.support.network import Network
from tests.support.sshd_node import SshdNode

NAMES = ("gpu-a", "gpu-b", "gpu-c")
SMI = """#!/bin/sh
case $1 in
--query-gpu*) echo '0, H100, 81559, 0, 550.54, GPU-0'; echo '1, H100, 81559, 61000, 550.54, GPU-1' ;;
--query-compute-apps*) echo 'GPU-1, 9912, 61000, python' ;;
esac
"""


def miss(source: str, target: str) -> Unreached:
    return Unreached(source, target, "10.0.0.3", "eth1", "no answer within 4 s")


# --- words


def test_f11_a_bad_pair_is_named_with_both_nodes() -> None:
    (problem,) = pair_problems(NAMES, [miss("gpu-b", "gpu-c")])
    assert str(problem) == "gpu-b cannot reach gpu-c at 10.0.0.3 (eth1): no answer within 4 s"
    assert "both ways" in problem.hint


def test_a_node_that_nobody_reaches_is_said_once() -> None:
    (problem,) = pair_problems(NAMES, [miss("gpu-a", "gpu-c"), miss("gpu-b", "gpu-c")])
    assert str(problem) == "no node reaches gpu-c at 10.0.0.3 (eth1): no answer within 4 s"


def test_no_pair_at_all_is_no_network() -> None:
    bad = [miss(source, target) for source in NAMES for target in NAMES if source != target]
    (problem,) = pair_problems(NAMES, bad)
    assert str(problem) == NOTHING_SHARED == "these nodes share no private network; a multi-node job cannot work"
    assert "gpu-a cannot reach gpu-b" in problem.evidence
    assert pair_problems(NAMES, []) == ()


def test_what_might_disturb_is_said() -> None:
    look = NodeLook("gpu-a", gpus=("H100", "H100"), nproc=2, free_bytes=10**12)
    assert warnings_of([look, attrs.evolve(look, node="gpu-b", clock_offset_s=1.0)]) == ()
    held = attrs.evolve(look, gpu_users=(GpuUser(1, 9912, 61 << 30, "python"),))
    assert warnings_of([held]) == ("gpu-a: pid 9912 (python) holds 61.0 GiB of GPU 1",)
    assert warnings_of([attrs.evolve(look, nproc=8)]) == ("gpu-a: 8 processes for 2 GPUs",)
    assert warnings_of([attrs.evolve(look, free_bytes=10**9)]) == ("gpu-a: 1.0 GB free in the home folder",)
    late = attrs.evolve(look, node="gpu-b", clock_offset_s=-7.5)
    assert warnings_of([look, late]) == ("the clock of gpu-a is 7.5 s ahead of that of gpu-b",)
    stray = [attrs.evolve(look, node=f"gpu{number}", stray=("RANK", "WORLD_SIZE")) for number in (1, 2)]
    text = "gpu[1-2]: RANK, WORLD_SIZE in the login environment; ranks start without them"
    assert warnings_of(stray) == (text,)


def test_it_is_data_and_words_for_people() -> None:
    facts = NodeFacts("/root", "root", 0, gpus=(Gpu(0, "H100", driver="550.54"),) * 8, disks=(Disk("/", 912 * 10**9),))
    look = attrs.evolve(NodeLook.of("gpu-a", facts), address="10.0.0.2", interface="eth1")
    good = Preflight((look, attrs.evolve(look, node="gpu-bb")), "10.0.0.2", 23456)
    assert good.ok
    assert good.check() is good
    assert good.describe().splitlines() == [
        "0  gpu-a   10.0.0.2 eth1  8xH100  550.54  +0.0s  912 GB free",
        "1  gpu-bb  10.0.0.2 eth1  8xH100  550.54  +0.0s  912 GB free",
        "ok: they meet at 10.0.0.2 port 23456",
    ]
    bad = attrs.evolve(
        good, problems=(Problem("gpu-a", "is odd", "do this"), Problem("", "all is odd")), warnings=("w",)
    )
    assert bad.describe().splitlines()[2:] == [
        "problem: gpu-a is odd",
        "problem: all is odd",
        "hint: do this",
        "warning: w",
        "they cannot run one job",
    ]
    with pytest.raises(PreflightFailed) as caught:
        bad.check()
    assert (caught.value.node, caught.value.message, caught.value.hint) == ("gpu-a", "is odd", "do this")
    assert caught.value.evidence == "all is odd"
    for each in (good, bad):
        assert Preflight.from_dict(json.loads(json.dumps(each.to_dict()))) == each
        assert pickle.loads(pickle.dumps(each)) == each


def test_what_nvidia_smi_prints() -> None:
    text = "GPU-1, 9912, 61000, python train.py, with a comma\nGPU-0, 17, [N/A], [Not Found]\nNo running processes\n"
    assert parse(text) == [
        ["GPU-1", 9912, 61000 << 20, "python train.py, with a comma"],
        ["GPU-0", 17, 0, "[Not Found]"],
    ]


# --- asked of nodes


def pool_of(machines: list[SshdNode], seen: list[Event] | None = None) -> ad.Pool:
    observer = seen.append if seen is not None else None
    return ad.Pool(host_keys=ad.HostKeys.strict(machines[0].known_hosts), observer=observer)


async def test_f11_all_is_well_with_a_trap_in_front(network: Network) -> None:
    machines = [network.start(f"m{number}", trap=True) for number in range(4)]
    nodes = [machine.node for machine in machines]
    async with pool_of(machines) as pool:
        found = await ad.preflight(nodes, pool=pool)
        assert found.ok, found.describe()
    assert [look.address for look in found.nodes] == [network.address(machine) for machine in machines]
    assert {look.interface for look in found.nodes} == {"eth0"}
    assert found.master_addr == network.address(machines[0])
    assert found.warnings == ()


async def test_f11_a_firewall_between_two_that_both_reach_the_first(network: Network) -> None:
    machines = [network.start(f"m{number}") for number in range(3)]
    network.block(machines[1], machines[2])
    nodes = [machine.node for machine in machines]
    async with pool_of(machines) as pool:
        found = await ad.preflight(nodes, pool=pool)
        with pytest.raises(PreflightFailed, match="cannot reach m1 at") as caught:
            await ad.start_launch(pool, await deployed(pool, nodes), ad.Ranks("true"))
    assert not found.ok
    assert [str(problem).partition(" at ")[0] for problem in found.problems] == [
        "m2 cannot reach m1",
        "m1 cannot reach m2",
    ]
    assert caught.value.node == "m2"
    assert caught.value.evidence.startswith("m1 cannot reach m2 at")


async def deployed(pool: ad.Pool, nodes: list[ad.Node]) -> list[ad.Deployment]:
    return [
        ad.Deployment(node, ad.Site("/tmp"), ad.SystemEnv(), await ad.probe_node(pool.at(node)), None) for node in nodes
    ]


async def test_f11_nodes_without_a_common_network(network: Network) -> None:
    machines = [network.start(f"m{number}") for number in range(3)]
    for machine in machines:
        others = ", ".join(network.address(other) for other in machines if other is not machine)
        network.filter(machine, f"ip saddr {{ {others} }} drop", f"ip daddr {{ {others} }} drop")
    async with pool_of(machines) as pool:
        found = await ad.preflight([machine.node for machine in machines], pool=pool)
    (problem,) = found.problems
    assert str(problem) == NOTHING_SHARED
    assert "nodes cannot reach it" in problem.evidence


async def test_f11_a_port_that_a_stranger_holds() -> None:
    async with ad.LocalCluster(2) as cluster, cluster.pool() as pool:
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            found = await ad.preflight(cluster.nodes, master_port=stranger.getsockname()[1], pool=pool)
    (problem,) = found.problems
    assert problem.node == "local-0"
    assert "Address already in use" in problem.text


async def test_f14_and_f15_a_stranger_on_a_gpu_and_variables_of_another_launch(network: Network) -> None:
    stray = "RANK=3 WORLD_SIZE=8 PET_NNODES=2"
    machines = [network.start("plain"), network.start("odd", config={"SetEnv": stray})]
    tool = machines[1].home / ".local/bin/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text(SMI)
    tool.chmod(0o755)
    nodes, seen = [machine.node for machine in machines], list[Event]()
    async with pool_of(machines, seen) as pool:
        uneven = await ad.preflight(nodes, pool=pool)
        found = await ad.preflight(nodes, nproc_per_node=1, pool=pool)
        launch = await ad.start_launch(
            pool, await deployed(pool, nodes), ad.Ranks('test -z "$PET_NNODES"', nproc_per_node=1)
        )
        (await ad.watch_launch(pool, launch)).unwrap()
    assert [str(problem) for problem in uneven.problems] == ["odd 2 processes would run here, but 1 on plain"]
    assert found.ok
    assert "odd: pid 9912 (python) holds 59.6 GiB of GPU 1" in found.warnings
    assert "odd: PET_NNODES, RANK, WORLD_SIZE in the login environment; ranks start without them" in found.warnings
    assert any(line.startswith("the nodes of this launch are not alike: GPUs differs") for line in found.warnings)
    assert {event.text for event in seen if isinstance(event, Noted)} >= set(found.warnings)
