"""Whether nodes can run one job together: the verdict as arithmetic, and asked of nodes with addresses of their own."""

import asyncio
import contextlib
import itertools
import json
import pickle
import re
import resource
import socket

import anyio
import anyio.to_thread
import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.envs.built import Built
from asyncdeploy.launch.preflight.disturbances import warnings_of
from asyncdeploy.launch.preflight.problems import NOTHING_SHARED, network_problems, pair_problems
from asyncdeploy.launch.preflight.reachability import PORTION, _Gathering
from asyncdeploy.launch.preflight.torch_cuda import cuda_warnings
from asyncdeploy.launch.preflight.verdict import GpuUser, NodeSeen, Preflight, Problem, Unreached
from asyncdeploy.launch.preflight.visible_gpus import gpu_choices, hidden_gpus
from asyncdeploy.node_side.launch.connections import Guests, Tries
from asyncdeploy.nodes.facts import Gpu, NodeFacts
from asyncdeploy.remote.worker import call_once
from asyncdeploy.values.errors import PreflightFailed
from asyncdeploy.values.events import Event, Noted
from tests.support.beds.network import Network
from tests.support.beds.sshd import Place, SshdBed
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually, eventually_sync

FOUR = """#!/bin/sh
case $1 in
--query-gpu=index*) for n in 0 1 2 3; do echo "$n, H100, 81559, 0, 550.54, GPU-$n"; done ;;
--query-gpu=uuid*) for n in 0 1 2 3; do echo "GPU-$n, 0"; done ;;
--query-compute-apps*) echo 'GPU-3, 9912, 61000, python' ;;
esac
"""
NAMES = ("gpu-a", "gpu-b", "gpu-c")
SMI = """#!/bin/sh
case $1 in
--query-gpu=uuid,memory.used) echo 'GPU-0, 0'; echo 'GPU-1, 61000' ;;
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


def test_of_hundreds_of_nodes_who_is_not_reached_is_said_once_too() -> None:
    """There each node is tried by 127 others, and not by all."""
    names = [f"n{number}" for number in range(300)]
    (problem,) = pair_problems(names, [miss(source, "n200") for source in names[73:200]])
    assert str(problem).startswith("none of the 127 nodes that tried reaches n200 at 10.0.0.3 (eth1)")
    several = pair_problems(names, [miss(source, "n200") for source in names[73:199]])
    assert [problem.node for problem in several] == names[73:199]
    bad = [miss(names[rank], names[(rank + step) % 300]) for rank in range(300) for step in range(1, 128)]
    assert [str(problem) for problem in pair_problems(names, bad)] == [NOTHING_SHARED]


async def test_all_that_waited_go_on_a_few_at_a_time() -> None:
    gathering, gone_on = _Gathering(500), []

    async def wait(number: int) -> None:
        await gathering.until("all are there")
        gone_on.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(500)]
    portions = [0]
    while len(gone_on) < 500:
        await asyncio.sleep(0)
        portions.append(len(gone_on))
    await asyncio.gather(*tasks)
    assert max(after - before for before, after in itertools.pairwise(portions)) <= PORTION


def test_no_pair_at_all_is_no_network() -> None:
    bad = [miss(source, target) for source in NAMES for target in NAMES if source != target]
    (problem,) = pair_problems(NAMES, bad)
    assert str(problem) == NOTHING_SHARED == "these nodes share no private network; a multi-node job cannot work"
    assert "gpu-a cannot reach gpu-b" in problem.evidence
    assert pair_problems(NAMES, []) == ()


def test_what_the_meeting_has_said_is_not_said_again() -> None:
    meeting = [Problem("gpu-b", "cannot reach gpu-a at 10.0.0.1 port 29500: no answer within 4 s")]
    to_first, other = miss("gpu-b", "gpu-a"), miss("gpu-b", "gpu-c")
    assert network_problems(NAMES, [to_first], meeting) == tuple(meeting)
    assert network_problems(NAMES, [to_first, other], meeting) == (*meeting, *pair_problems(NAMES, [other]))
    taken = [Problem("gpu-a", "port 29500 cannot be taken: Address already in use")]
    assert network_problems(NAMES, [to_first], taken) == (*taken, *pair_problems(NAMES, [to_first]))
    assert network_problems(NAMES, [other], []) == pair_problems(NAMES, [other])


def test_what_might_disturb_is_said() -> None:
    look = NodeSeen("gpu-a", gpus=("H100", "H100"), nproc=2, free_bytes=10**12)
    assert warnings_of([look, attrs.evolve(look, node="gpu-b", clock_offset_s=1.0)]) == ()
    held = attrs.evolve(look, gpu_users=(GpuUser(1, 9912, 61 << 30, "python"),))
    assert warnings_of([held]) == ("gpu-a: pid 9912 (python) holds 61.0 GiB of GPU 1",)
    hidden = attrs.evolve(look, gpu_used=(600 << 20, 61 << 30))
    assert warnings_of([hidden]) == ("gpu-a: 61.0 GiB of GPU 1 are held by somebody who cannot be seen from here",)
    assert warnings_of([attrs.evolve(held, gpu_used=(0, 61 << 30))]) == warnings_of([held])
    assert warnings_of([attrs.evolve(look, nproc=8)]) == ("gpu-a: 8 processes for 2 GPUs",)
    bare = attrs.evolve(look, node="gpu-b", gpus=())
    assert warnings_of([look, bare]) == ("gpu-b: 2 processes for no GPUs",)
    assert warnings_of([bare]) == ()
    full = attrs.evolve(look, free_bytes=10**9, folder="/data/p")
    assert warnings_of([full]) == ("gpu-a: 1.0 GB free on the disk of /data/p",)
    small = attrs.evolve(look, shared_memory_bytes=64 << 20)
    assert warnings_of([small]) == ("gpu-a: 64 MiB of shared memory; NCCL and DataLoader workers need more",)
    late = attrs.evolve(look, node="gpu-b", clock_offset_s=-7.5)
    assert warnings_of([look, late]) == ("the clock of gpu-a is 7.5 s ahead of that of gpu-b",)
    stray = [attrs.evolve(look, node=f"gpu{number}", stray=("RANK", "WORLD_SIZE")) for number in (1, 2)]
    text = "gpu[1-2]: RANK, WORLD_SIZE in the login environment; ranks start without them"
    assert warnings_of(stray) == (text,)


def test_it_is_data_and_words_for_people() -> None:
    tools = (("git", "/usr/bin/git"), ("docker", "/usr/bin/docker"), ("tar", "/bin/tar"), ("uv", "/root/uv"))
    facts = NodeFacts("/root", "root", 0, gpus=(Gpu(0, "H100", driver="550.54"),) * 8, tools=tools)
    facts = attrs.evolve(facts, python_version="3.11.2", uv_version="0.9.2")
    look = attrs.evolve(NodeSeen.of("gpu-a", facts), address="10.0.0.2", interface="eth1", free_bytes=912 * 10**9)
    good = Preflight((look, attrs.evolve(look, node="gpu-bb")), "10.0.0.2", 23456)
    assert good.ok
    assert good.check() is good
    assert good.describe().splitlines() == [
        "node rank  node    address        GPUs    driver  clock  disk         tools",
        "0          gpu-a   10.0.0.2 eth1  8xH100  550.54  +0.0s  912 GB free  python 3.11.2, uv 0.9.2, docker, git",
        "1          gpu-bb  10.0.0.2 eth1  8xH100  550.54  +0.0s  912 GB free  python 3.11.2, uv 0.9.2, docker, git",
        "ok: they meet at 10.0.0.2 port 23456",
    ]
    bad = attrs.evolve(
        good, problems=(Problem("gpu-a", "is odd", "do this"), Problem("", "all is odd")), warnings=("w",)
    )
    assert bad.describe().splitlines()[3:] == [
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


GPUS = tuple(Gpu(number, "H100", uuid=f"GPU-{number}a") for number in range(4))


@pytest.mark.parametrize(
    "words, seen",
    [
        (None, [0, 1, 2, 3]),
        ("all", [0, 1, 2, 3]),
        ("0,1", [0, 1]),
        ("3, 1", [1, 3]),
        ("GPU-2a,GPU-0", [0, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,9,2", [1]),
        ("2,-1,3", [2]),
        ("2,2", []),
        ("GPU-", []),
        ("MIG-GPU-3a/1/0,MIG-GPU-3a/2/0", [3]),
    ],
    ids=str,
)
def test_l19_which_gpus_a_value_shows(words: str | None, seen: list[int]) -> None:
    hidden = hidden_gpus(GPUS, (words,), None)
    assert [gpu.index for gpu in GPUS if gpu.index not in hidden] == seen


def test_l19_who_decides_which_gpus_are_seen() -> None:
    assert hidden_gpus(GPUS, gpu_choices(ad.SystemEnv()), "0,1") == (2, 3)
    assert hidden_gpus(GPUS, gpu_choices(ad.SystemEnv(), "3"), "0,1") == (0, 1, 2)
    assert hidden_gpus(GPUS, gpu_choices(ad.DockerEnv("i")), "0,1") == (), "no variable of the login goes into it"
    assert hidden_gpus(GPUS, gpu_choices(ad.DockerEnv("i", gpus="1,3")), None) == (0, 2)
    assert hidden_gpus(GPUS, gpu_choices(ad.DockerEnv("i", gpus="1,3"), "1"), None) == (0, 1, 2), (
        "it counts anew inside"
    )
    assert hidden_gpus(GPUS, gpu_choices(ad.DockerEnv("i", gpus=None)), None) == (0, 1, 2, 3)
    assert ad.Torchrun("t.py", env={"CUDA_VISIBLE_DEVICES": "2"}).variable("CUDA_VISIBLE_DEVICES") == "2"
    assert ad.Ranks(ad.Command("t", env={"CUDA_VISIBLE_DEVICES": "2"})).variable("CUDA_VISIBLE_DEVICES") == "2"
    assert ad.Ranks("t").variable("CUDA_VISIBLE_DEVICES") is None


@pytest.mark.parametrize(
    "driver, torch, cuda, said",
    [
        (
            "550.54.15",
            "2.13.0+cu130",
            "13.0",
            "torch 2.13.0+cu130 is made for CUDA 13.0, which needs a driver from 580 on;",
        ),
        ("470.82.01", "2.6.0", "12.4", "torch 2.6.0 is made for CUDA 12.4, which needs a driver from 525.60.13 on;"),
        ("550.54.15", "2.13.0+cpu", "", "torch 2.13.0+cpu is made for CPUs: ranks use none of the 2 GPUs"),
        ("550.54.15", "2.13.0", "", "torch 2.13.0 does not say for which CUDA it is made: ranks may use none of the 2"),
        ("525.60.13", "2.9.0", "12.9", ""),
        ("580.65", "2.13.0+cu130", "13.0", ""),
        ("450.80.02", "1.13.1", "11.7", ""),
        ("", "2.6.0", "12.4", ""),
        ("550.54.15", "2.6.0", "99.1", ""),
        ("550.54.15", "", "", ""),
    ],
)
def test_l20_a_torch_that_will_not_find_the_gpus_is_said(driver: str, torch: str, cuda: str, said: str) -> None:
    facts = NodeFacts("/root", "root", 0, gpus=(Gpu(0, "H100", driver=driver), Gpu(1, "H100", driver=driver)))
    nodes = [(f"gpu{number}", facts, Built("3.12.1", torch, cuda)) for number in (1, 2)]
    lines = cuda_warnings(nodes)
    assert lines == () if not said else lines[0].startswith(f"gpu[1-2]: {said}")
    assert len(lines) == bool(said)
    assert cuda_warnings([("gpu1", attrs.evolve(facts, gpus=()), nodes[0][2]), ("gpu2", facts, None)]) == ()


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


async def test_f11_a_firewall_that_knows_ranges_of_ports(network: Network) -> None:
    """NCCL's and gloo's connections go to ephemeral ports, the launch's own to one below them."""
    machines = [network.start(f"m{number}") for number in range(3)]
    network.filter(machines[2], "tcp dport >= 32768 ct state new drop", "tcp dport 1-2 drop")
    async with pool_of(machines) as pool:
        found = await ad.preflight([machine.node for machine in machines], pool=pool)
    (problem,) = found.problems
    assert problem.text.startswith(f"no node reaches m2 at {network.address(machines[2])} (eth0): no answer within")
    assert re.search(r"at port [0-9]+, though port [0-9]+ answers", problem.text)


async def test_l12_more_nodes_than_a_node_may_open_files_for(sshd_test_bed: SshdBed) -> None:
    """Twenty nodes connect to each other at two ports each, and may open 64 files."""
    machine = sshd_test_bed.start("small", config={"MaxStartups": "100"}, place=Place("0.0.0.0"))
    resource.prlimit(machine.pid, resource.RLIMIT_NOFILE, (64, 64))
    hosts = [f"127.0.0.{number}" for number in range(1, 21)]
    nodes = [attrs.evolve(machine.node, host=host, name=host) for host in hosts]
    lines = machine.known_hosts_lines.replace("0.0.0.0", "{}").replace(",small", "")
    machine.known_hosts.write_text("".join(lines.replace("{}", host) for host in hosts))
    async with pool_of([machine]) as pool:
        found = await ad.preflight(nodes, pool=pool)
        (soft,) = {
            (await ad.run_command(pool.at(node), "ulimit -n")).stdout for node in nodes[:2]
        }  # what runs next has the limit of before
    assert found.ok, found.describe()
    assert soft == b"64\n"
    await eventually(lambda: not machine.processes(), "no worker stays behind")


def test_l12_who_connects_and_stays_holds_up_nobody_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as crowd:
        server.setblocking(False)
        place = server.getsockname()
        guests = Guests([server], b"n" * 32, at_once=4)
        for _ in range(9):
            crowd.enter_context(socket.create_connection(place))
            guests.step()
        assert len(guests.here) == 4
        tries = Tries([[*place, "n" * 32]] * 6, at_once=2, timeout_s=3600)

        def is_over() -> bool:
            tries.step()
            guests.step()
            assert len(tries.open) <= 2
            return tries.are_over()

        eventually_sync(is_over, "all were answered")
        assert [result["peer"] for result in tries.results] == ["127.0.0.1"] * 6
        guests.close()


@pytest.mark.parametrize("count", [2, 3])
async def test_f11_nodes_without_a_common_network(network: Network, count: int) -> None:
    machines = [network.start(f"m{number}") for number in range(count)]
    for machine in machines:
        others = ", ".join(network.address(other) for other in machines if other is not machine)
        network.filter(machine, f"ip saddr {{ {others} }} drop", f"ip daddr {{ {others} }} drop")
    async with pool_of(machines) as pool:
        found = await ad.preflight([machine.node for machine in machines], pool=pool)
    (problem,) = found.problems
    assert str(problem) == NOTHING_SHARED
    assert "nodes cannot reach it" in problem.evidence
    assert "m0 cannot reach m1 at" in problem.evidence


async def test_f11_an_address_that_swallows_packets_is_not_waited_for_once_another_answered() -> None:
    """Without it, an IPv6 address behind a firewall would cost every launch its whole patience."""
    async with ad.LocalCluster(1) as cluster, cluster.pool() as pool:
        with socket.create_server(("127.0.0.1", 0)) as server:
            remote = pool.at(cluster.nodes[0])
            port = server.getsockname()[1]
            request = {"do": "connect", "nonce": "n" * 32, "port": port, "targets": ["127.0.0.1", "192.0.2.1"]}
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, welcome, server, b"n" * 32)
                answer = json.loads(
                    await call_once(
                        remote, "launch.ports", json.dumps({**request, "timeout_s": 3600, "more_s": 0.1}).encode()
                    )
                )
    assert answer["127.0.0.1"]["peer"] == "127.0.0.1"
    assert "peer" not in answer["192.0.2.1"]


def welcome(server: socket.socket, nonce: bytes) -> None:
    guest = server.accept()[0]
    guest.sendall(nonce)
    guest.recv(1)
    guest.close()


async def test_f11_a_port_that_a_stranger_holds_hides_nothing_else(network: Network) -> None:
    machines = [network.start(f"m{number}") for number in range(3)]
    network.block(machines[1], machines[2])
    async with pool_of(machines) as pool:
        holder = "python3 -c \"import socket; s = socket.create_server(('', 29511)); print(flush=True); s.accept()\""
        job = await ad.start_job(pool.at(machines[0].node), holder, name="stranger")
        async with ad.follow_job(pool.at(machines[0].node), job) as log:
            await anext(log)
        found = await ad.preflight([machine.node for machine in machines], master_port=29511, pool=pool)
        await ad.stop_job(pool.at(machines[0].node), job)
    assert [str(problem).partition(" at ")[0] for problem in found.problems[1:]] == [
        "m2 cannot reach m1",
        "m1 cannot reach m2",
    ]
    assert found.problems[0].node == "m0"
    assert re.fullmatch(
        r"port 29511 cannot be taken: Address already in use by pid [0-9]+ \(python3?\)", found.problems[0].text
    )
    assert [look.interface for look in found.nodes] == ["eth0"] * 3
    assert all(look.free_bytes > 0 and look.folder for look in found.nodes)


async def test_f11_a_node_that_does_not_answer_is_a_problem_among_others(network: Network) -> None:
    machines = [network.start(f"m{number}") for number in range(3)]
    nodes = [machine.node for machine in machines]
    machines[1].stop()
    async with pool_of(machines) as pool:
        found = await ad.preflight(nodes, pool=pool)
    (problem,) = found.problems
    assert str(problem).startswith("m1 does not take part: ")
    assert [look.node for look in found.nodes] == ["m0", "m1", "m2"]
    assert [look.interface for look in found.nodes] == ["eth0", "", "eth0"]
    assert (found.master_addr, found.master_port) == ("", 0)


async def test_f14_deployments_with_another_torch() -> None:
    async with ad.LocalCluster(2) as cluster, cluster.pool() as pool:
        versions = [Built("3.11.2", torch) for torch in ("2.13.0", "2.12.1")]
        standing = [
            attrs.evolve(each, built=built)
            for each, built in zip(await deployed(pool, list(cluster.nodes)), versions, strict=True)
        ]
        found = await ad.preflight(standing, pool=pool)
        with pytest.raises(TypeError, match="a list of Deployments was expected"):
            await ad.preflight([*standing, cluster.nodes[0]], pool=pool)  # type: ignore[arg-type]  # what is tested
    assert found.ok
    assert (
        "the nodes of this launch are not alike: torch differs: 2.13.0 on local-0; 2.12.1 on local-1" in found.warnings
    )
    assert {look.folder for look in found.nodes} == {"/tmp"}


@pytest.mark.parametrize("own", [None, "1"])
async def test_l19_ranks_are_as_many_as_the_gpus_that_they_see(network: Network, own: str | None) -> None:
    machine = network.start("few", config={"SetEnv": "CUDA_VISIBLE_DEVICES=1,0"})
    tool = machine.home / ".local/bin/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text(FOUR)
    tool.chmod(0o755)
    seen = list[Event]()
    async with pool_of([machine], seen) as pool:
        env = {} if own is None else {"CUDA_VISIBLE_DEVICES": own}
        launcher = ad.Ranks(ad.Command("true", env=env), nproc_per_node=None)
        launch = await ad.start_launch(pool, await deployed(pool, [machine.node]), launcher)
        (await ad.watch_launch(pool, launch)).unwrap()
    count = 2 if own is None else 1
    assert launch.placement.places[0].nproc == count
    text = f"few: {count} of 4 GPUs are seen by its ranks (CUDA_VISIBLE_DEVICES, or its container)"
    assert [each.text for each in seen if isinstance(each, Noted)] == [text]


async def test_l21_the_variables_of_a_session_are_said_once_and_dropped(network: Network) -> None:
    session = "SLURM_NTASKS=8 SLURM_JOB_NAME=train PMI_RANK=1"
    machines = [network.start(f"s{number}", config={"SetEnv": session}) for number in range(2)]
    nodes, seen = [machine.node for machine in machines], list[Event]()
    async with pool_of(machines, seen) as pool:
        standing = await deployed(pool, nodes)
        launch = await ad.start_launch(pool, standing, ad.Ranks('test -z "$SLURM_NTASKS$PMI_RANK"'))
        (await ad.watch_launch(pool, launch)).unwrap()
        kept = ad.Ranks('test "$SLURM_NTASKS$PMI_RANK" = 81', keep_env=("SLURM_*", "PMI_RANK"))
        launch = await ad.start_launch(pool, standing, kept)
        (await ad.watch_launch(pool, launch)).unwrap()
    text = "s[0-1]: PMI_RANK, SLURM_* (2) in the login environment; ranks start without them"
    assert [each.text for each in seen if isinstance(each, Noted)] == [text]


async def test_l20_a_launch_says_that_its_torch_is_made_for_cpus(network: Network) -> None:
    machine = network.start("gpus")
    tool = machine.home / ".local/bin/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text(FOUR)
    tool.chmod(0o755)
    seen = list[Event]()
    async with pool_of([machine], seen) as pool:
        (standing,) = await deployed(pool, [machine.node])
        standing = attrs.evolve(standing, built=Built("3.12.1", "2.13.0+cpu"))
        launch = await ad.start_launch(pool, [standing], ad.Ranks("true", nproc_per_node=None))
        (await ad.watch_launch(pool, launch)).unwrap()
    text = "gpus: torch 2.13.0+cpu is made for CPUs: ranks use none of the 4 GPUs"
    assert [each.text for each in seen if isinstance(each, Noted) and "torch" in each.text] == [text]


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
    assert [look.gpu_used for look in found.nodes] == [(), (0, 61000 << 20)]
    assert "odd: pid 9912 (python) holds 59.6 GiB of GPU 1" in found.warnings
    assert "odd: PET_NNODES, RANK, WORLD_SIZE in the login environment; ranks start without them" in found.warnings
    assert any(line.startswith("the nodes of this launch are not alike: GPUs differs") for line in found.warnings)
    assert {event.text for event in seen if isinstance(event, Noted)} >= set(found.warnings)
