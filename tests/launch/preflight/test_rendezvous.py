"""Ring 3 and 4: an address and a port that every node of a launch reaches, proven by the nodes themselves."""

import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.launch.preflight.addresses import interface_of, meeting_addresses
from asyncdeploy.launch.preflight.rendezvous import port_opened, prove_meeting
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.node_side.launch.ports import ephemeral_from
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parallel import map_nodes
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.values.errors import PreflightFailed
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.beds.users import STRANGER, Stranger


async def test_nodes_of_one_machine_meet_on_loopback() -> None:
    async with LocalCluster(3) as cluster, cluster.pool() as pool:
        facts = [await probe_node(pool.at(node)) for node in cluster.nodes]
        addresses = meeting_addresses(cluster.nodes, facts)
        meeting = await prove_meeting(pool, cluster.nodes, addresses)
        assert (meeting.address, meeting.locals) == ("127.0.0.1", ("127.0.0.1",) * 3)
        assert 10_000 <= meeting.port < ephemeral_from()
        with socket.socket() as server:  # the proof left nothing behind
            server.bind(("127.0.0.1", meeting.port))


async def test_a_port_that_a_stranger_holds() -> None:
    """F11."""
    async with LocalCluster(2) as cluster, cluster.pool() as pool:
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            port = stranger.getsockname()[1]
            with pytest.raises(PreflightFailed, match=f"port {port} cannot be taken: Address already in use") as caught:
                await prove_meeting(pool, cluster.nodes, ["127.0.0.1"], port)
        assert caught.value.node == "local-0"


async def test_an_address_that_is_none() -> None:
    async with LocalCluster(2) as cluster, cluster.pool() as pool:
        with pytest.raises(PreflightFailed, match=r"cannot reach local-0 at name\.invalid port [0-9]+: .*") as caught:
            await prove_meeting(pool, cluster.nodes, ["name.invalid"])
        assert caught.value.node == "local-1"
        assert caught.value.evidence == "name.invalid: 2 of 2 nodes cannot reach it"


async def test_only_a_process_of_the_launch_counts_as_its_listener() -> None:
    async with LocalCluster(1) as cluster, cluster.pool() as pool:
        remote = pool.at(cluster.nodes[0])
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            assert await port_opened(remote, "train-abcdefgh", stranger.getsockname()[1]) is False
            free = stranger.getsockname()[1]
        assert await port_opened(remote, "train-abcdefgh", free) is False


async def test_l15_a_stranger_who_calls_himself_the_launch_is_no_listener_of_it(stranger: Stranger) -> None:
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    )
    env = {"ASYNCDEPLOY_RUN_ID": "train-abcdefgh"}
    async with LocalCluster(1) as cluster, cluster.pool() as pool:
        remote = pool.at(cluster.nodes[0])
        for user, believed in ((STRANGER, False), (os.getuid(), True)):
            words = ["/usr/bin/python3", "-I", "-c", program]
            with subprocess.Popen(words, stdout=subprocess.PIPE, env=env, user=user, cwd=stranger.shared) as listener:
                assert listener.stdout is not None
                port = int(listener.stdout.readline())
                assert await port_opened(remote, "train-abcdefgh", port) is believed
                listener.kill()


async def known(pool: Pool, machines: list[SshdNode]) -> tuple[NodeFacts, ...]:
    """The facts of all machines."""
    return (await map_nodes([sshd.node for sshd in machines], lambda node: probe_node(pool.at(node)))).unwrap()


async def test_machines_meet_in_their_network(start_machines: Callable[[int], list[SshdNode]]) -> None:
    machines = start_machines(3)
    nodes = [sshd.node for sshd in machines]
    async with Pool(host_keys=HostKeys.strict(machines[0].known_hosts)) as pool:
        facts = await known(pool, machines)
        meeting = await prove_meeting(pool, nodes, meeting_addresses(nodes, facts))
    assert meeting.address == nodes[0].host
    assert meeting.locals == tuple(node.host for node in nodes)
    assert [interface_of(facts[rank], meeting.locals[rank]) for rank in range(3)] == ["eth0"] * 3


async def test_a_firewall_between_two_nodes_names_both(network: Network) -> None:
    """F11."""
    machines = [network.start("first"), network.start("second"), network.start("third")]
    network.block(machines[0], machines[2])
    nodes = [sshd.node for sshd in machines]
    async with Pool(host_keys=HostKeys.strict(machines[0].known_hosts)) as pool:
        facts = await known(pool, machines)
        with pytest.raises(
            PreflightFailed, match=f"cannot reach first at {nodes[0].host} port [0-9]+: no answer"
        ) as caught:
            await prove_meeting(pool, nodes, meeting_addresses(nodes, facts))
    assert caught.value.node == "third"
    assert "must be open" in caught.value.hint
