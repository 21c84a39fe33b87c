"""Ring 1: who runs what where, as data."""

import json

import pytest

from asyncdeploy.launch.placement import NodePlace, Placement, rank_env
from asyncdeploy.nodes.parse import Node
from tests.support.launches import plan


def test_first_ranks_and_world_size_of_uneven_nodes() -> None:
    placement = plan(8, 7, 8)
    assert [placement.first_rank(node_rank) for node_rank in range(3)] == [0, 8, 15]
    assert placement.world_size == 23


def test_every_rank_finds_its_variables() -> None:
    placement = plan(2, 2)
    env = rank_env(placement, placement.places[1])
    assert env == {
        "ASYNCDEPLOY_RUN_ID": "train-abcdefgh",
        "ASYNCDEPLOY_ATTEMPT": "0",
        "ASYNCDEPLOY_NODE_RANK": "1",
        "ASYNCDEPLOY_NUM_NODES": "2",
        "ASYNCDEPLOY_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "ASYNCDEPLOY_GPUS_PER_NODE": "2",
        "ASYNCDEPLOY_GRACE_S": "5",
        "NODE_RANK": "1",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "23456",
    }


def test_what_all_nodes_are_told_is_one_text() -> None:
    placement = plan(*[1] * 300)
    told = [rank_env(placement, place)["ASYNCDEPLOY_NODE_IPS"] for place in placement.places]
    assert told[0].count("\n") == 299
    assert all(text is told[0] for text in told)


def test_a_plan_travels_through_json() -> None:
    placement = plan(8, 8)
    assert Placement.from_dict(json.loads(json.dumps(placement.to_dict()))) == placement


def test_a_bad_plan_is_refused() -> None:
    place = NodePlace(Node("a"), 1, 1, "10.0.0.1")
    with pytest.raises(ValueError, match="in order"):
        Placement("x-abcdefgh", "10.0.0.1", 2000, (place,))
    with pytest.raises(ValueError, match="does not appear to be an IPv4"):
        Placement("x-abcdefgh", "gpu1", 2000, plan(1).places)
    with pytest.raises(ValueError, match="at least 1"):
        NodePlace(Node("a"), 0, 0, "10.0.0.1")
