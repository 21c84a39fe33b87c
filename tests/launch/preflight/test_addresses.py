"""Ring 1: where the nodes meet and how many processes each runs, from facts alone."""

import pytest

from asyncdeploy.launch.preflight.addresses import MAX_CANDIDATES, count_processes, interface_of, meeting_addresses
from asyncdeploy.nodes.facts import Gpu, NodeFacts
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.values.errors import PreflightFailed


def facts(*addresses: str, gpus: int = 0, identity: str = "", ssh_address: str = "") -> NodeFacts:
    """Facts with interfaces eth0, eth1, ... in the order of the addresses."""
    return NodeFacts(
        "/root",
        "root",
        0,
        gpus=tuple(Gpu(index, "H100") for index in range(gpus)),
        addresses=tuple((f"eth{index}", address) for index, address in enumerate(addresses)),
        identity=identity,
        ssh_address=ssh_address,
    )


def test_a_single_node_meets_itself_on_loopback() -> None:
    assert meeting_addresses([Node("gpu1")], [facts("10.0.0.1")]) == ("127.0.0.1",)


def test_nodes_on_loopback_are_one_machine_first_and_tunnels_last() -> None:
    nodes = parse_nodes("root@127.0.0.1:2201 root@127.0.0.1:2202")
    found = meeting_addresses(nodes, [facts("10.0.0.1"), facts("10.0.0.2")])
    assert found == ("127.0.0.1", "10.0.0.1")


def test_a_given_address_is_the_only_one() -> None:
    nodes = [Node("gpu1", address="192.168.7.1"), Node("gpu2")]
    assert meeting_addresses(nodes, [facts("10.0.0.1"), facts("10.0.0.2")]) == ("192.168.7.1",)


def test_the_network_that_all_others_share_comes_first() -> None:
    nodes = parse_nodes("gpu[1-3]")
    known = [
        facts("203.0.113.9", "172.17.0.1", "10.5.0.1"),
        facts("198.51.100.3", "172.17.0.1", "10.5.0.2"),
        facts("192.0.2.77", "172.17.0.1", "10.5.0.3"),
    ]
    found = meeting_addresses(nodes, known)
    assert found[0] == "10.5.0.1"
    assert "172.17.0.1" not in found, "an address that every node has leads each of them to itself"
    assert found[-1] == "gpu1"


def test_loopback_is_never_tried_between_machines() -> None:
    nodes = parse_nodes("gpu1 gpu2")
    found = meeting_addresses(nodes, [facts("10.0.0.1", identity="a"), facts("10.0.0.2", identity="b")])
    assert "127.0.0.1" not in found


def test_aliases_of_one_machine_meet_on_loopback() -> None:
    found = meeting_addresses(parse_nodes("box-a box-b"), [facts("10.0.0.1", identity="x")] * 2)
    assert found[:2] == ("127.0.0.1", "10.0.0.1")


def test_candidates_are_bounded() -> None:
    many = [f"10.{number}.0.1" for number in range(40)]
    assert len(meeting_addresses(parse_nodes("a b"), [facts(*many), facts("10.3.0.2")])) == MAX_CANDIDATES


def test_processes_are_said_or_slots_or_gpus_or_one() -> None:
    nodes = (Node("a", slots=4), Node("b"))
    assert count_processes(nodes, [facts(), facts(gpus=4)]) == (4, 4)
    assert count_processes(nodes, [facts(), facts(gpus=8)], 2) == (2, 2)
    assert count_processes((Node("a"),), [facts()]) == (1,)


def test_uneven_processes_need_a_word() -> None:
    nodes = parse_nodes("a b c")
    known = [facts(gpus=8), facts(gpus=7), facts(gpus=8)]
    with pytest.raises(PreflightFailed, match=r"7 processes would run here, but 8 on a") as caught:
        count_processes(nodes, known)
    assert caught.value.node == "b"
    assert count_processes(nodes, known, uneven=True) == (8, 7, 8)


def test_interfaces_are_found_by_address() -> None:
    known = facts("10.0.0.1", "10.5.0.1/24")
    assert interface_of(known, "10.5.0.1") == "eth1"
    assert interface_of(known, "127.0.0.1") == "lo"
    assert interface_of(known, "10.9.9.9") == ""
