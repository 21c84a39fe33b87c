"""What engines' launchers write, and what they refuse; no engine is needed here."""

import pickle
from typing import Any

import pytest

import asyncdeploy as ad
from asyncdeploy.launch.gang.drivers import driver_command
from asyncdeploy.launch.launchers.rank_env import RANK_LINE
from tests.support.launches import launch_of, plan


def lines_of(launcher: Any, *counts: int, port: int = 23456) -> list[str]:
    """The line of each node's engine."""
    placement = ad.Placement("ray-abcdefgh", "10.0.0.1", port, plan(*counts).places)
    return [dict(command.env)[RANK_LINE] for command in launcher.commands(placement)]


@pytest.mark.parametrize("port", [10_002, 15_000, 19_999, 21_000])
def test_z1_ray_keeps_no_port_that_may_be_ours(port: int) -> None:
    """Its workers' ports, 10002 to 19999 by default, hold 44 % of those that a launch proves."""
    head, worker = lines_of(ad.RayCluster(), 1, 1, port=port)
    for line, address in ((head, "10.0.0.1"), (worker, "10.0.0.2")):
        assert f"--node-ip-address={address} " in line
        assert "--min-worker-port=0 --max-worker-port=0" in line
    assert f"ray start --block --disable-usage-stats --head --port={port} " in head
    assert "--include-dashboard=false" in head
    assert f"ray start --block --disable-usage-stats --address=10.0.0.1:{port} " in worker
    assert "--head" not in worker
    assert "dashboard" not in worker


def test_z1_every_process_of_ray_says_the_same_mode_and_token() -> None:
    """A mode that is not said depends on whether ~/.ray/auth_token is there, on each node by itself."""
    cluster = ad.RayCluster()
    first, second = cluster.commands(plan(1, 1))
    assert dict(first.env)["RAY_AUTH_MODE"] == dict(second.env)["RAY_AUTH_MODE"] == "token"
    assert first.secret_values() == second.secret_values()
    token = first.secret_values()["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    for text in (repr(cluster), repr(first), first.line, str(dict(first.env)), str(cluster.to_dict())):
        assert token not in text
    assert ad.RayCluster().token != cluster.token
    assert pickle.loads(pickle.dumps(cluster)).token == cluster.token
    assert ad.RayCluster.from_dict(cluster.to_dict()).token.value


def test_ray_is_told_what_a_node_offers() -> None:
    cluster = ad.RayCluster(cpus=3, gpus=0, resources={"disk": 2}, object_store_gb=0.1, options=("--labels=a=b c",))
    for line in lines_of(cluster, 1, 1):
        assert "--num-cpus=3 --num-gpus=0 '--resources={\"disk\": 2.0}' --object-store-memory=100000000" in line
        assert "'--labels=a=b c'" in line
    assert [dict(command.env)["VLLM_HOST_IP"] for command in cluster.commands(plan(1, 1))] == ["10.0.0.1", "10.0.0.2"]
    assert cluster.driver_env(plan(1)) == {"RAY_ADDRESS": "10.0.0.1:23456"}


@pytest.mark.parametrize("cluster", [ad.RayCluster(), ad.DaskCluster()], ids=["ray", "dask"])
def test_the_longest_name_leaves_room_for_sockets(cluster: Any) -> None:
    """Ray takes a folder of at most 40 characters; whose name it is decides nothing else."""
    longest = type(cluster)(name="x" * 48)
    places = plan(*[1] * 1000).places
    placement = ad.Placement(f"{longest.name}-abcdefgh", "10.0.0.1", 23456, places)
    line = dict(longest.commands(placement)[-1].env)[RANK_LINE]
    folder = line.partition("mkdir -m 700 ")[2].split()[0]
    assert folder == "/tmp/ad-abcdefgh-999"
    assert len(f"{folder}/r") <= 40


def test_dask_has_its_certificate_as_text() -> None:
    cluster = ad.DaskCluster()
    first, second = cluster.commands(plan(1, 1))
    assert first.secret_values() == second.secret_values()
    key = first.secret_values()["DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY"]
    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    for text in (repr(cluster), repr(first), str(dict(first.env)), str(cluster.to_dict())):
        assert "PRIVATE KEY" not in text


def test_dask_is_told_how_many_workers_a_node_has() -> None:
    cluster = ad.DaskCluster(threads=2, memory="1GiB", resources={"GPU": 1}, options=("--lifetime=1h",))
    first, second = lines_of(cluster, 1, 4)
    assert first.startswith("mkdir -m 700 /tmp/ad-abcdefgh-0 || exit\n")
    assert "dask scheduler --no-dashboard --host=tls://10.0.0.1 --port=23456 --dashboard-address=127.0.0.1:0 &" in first
    assert "$(($(nproc) / 2))" in first, "neither slots nor GPUs are known there"
    assert "--nworkers 4 --lifetime=1h" in second
    assert "dask scheduler" not in second
    for word in ("tls://10.0.0.1:23456", "--nthreads=2", "--memory-limit=1GiB", "--resources=GPU=1"):
        assert word in second
    assert cluster.members(plan(1, 4)) == ("gpu0", "0", "gpu1", "4")
    assert ad.DaskCluster(workers=1).members(plan(1, 1)) == ("gpu0", "1", "gpu1", "1")


def test_an_address_of_six_stands_in_brackets() -> None:
    places = (ad.NodePlace(ad.Node("gpu0"), 0, 1, "fd00::1"), ad.NodePlace(ad.Node("gpu1"), 1, 1, "fd00::2"))
    placement = ad.Placement("ray-abcdefgh", "fd00::1", 23456, places)
    assert ad.RayCluster().driver_env(placement) == {"RAY_ADDRESS": "[fd00::1]:23456"}
    worker = dict(ad.DaskCluster().commands(placement)[1].env)[RANK_LINE]
    assert "dask worker 'tls://[fd00::1]:23456' --no-dashboard '--host=[fd00::2]'" in worker
    assert ad.DaskCluster().driver_env(placement) == {"DASK_SCHEDULER_ADDRESS": "tls://[fd00::1]:23456"}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"cpus": -1}, "cpus: at least 0 was expected, got -1"),
    ({"gpus": -1}, "gpus: at least 0 was expected, got -1"),
    ({"object_store_gb": 0.01}, r"object_store_gb: at least 0.08 was expected, got 0.01"),
    ({"resources": {"a": 0}}, "resources: names and numbers above 0 were expected, got 'a': 0.0"),
    ({"resources": {"": 1}}, "resources: names"),
    ({"options": ("--head",)}, "--head follows from the plan of the launch; leave it out"),
    ({"options": ("--address=1.2.3.4:5",)}, "follows from the plan"),
    ({"options": ("--node_ip_address=x",)}, "follows from the plan"),
    ({"options": ("--temp",)}, "follows from the plan"),
    ({"options": ("x",)}, "words like '--name=value' were expected, got 'x'"),
    ({"join_s": 0}, "join_s: seconds above 0 were expected, got 0"),
    ({"name": "a b"}, "RayCluster name: "),
    ({"master_port": 70000}, "master_port: 1 to 65535 was expected, got 70000"),
]


@pytest.mark.parametrize("fields, words", BAD, ids=str)
def test_ray_refuses(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ad.RayCluster(**fields)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"workers": 0}, "workers: at least 1 was expected, got 0"),
        ({"threads": 0}, "threads: at least 1 was expected, got 0"),
        ({"memory": ""}, "memory: 'auto' or a size was expected, got ''"),
        ({"resources": {"a=b": 1}}, "resources: names"),
        ({"options": ("--host=x",)}, "--host=x follows from the plan of the launch; leave it out"),
        ({"options": ("--dashboard",)}, "follows from the plan"),
        ({"join_s": -1}, "join_s"),
    ],
    ids=str,
)
def test_dask_refuses(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ad.DaskCluster(**fields)


def test_a_launch_of_anything_else_has_no_drivers() -> None:
    with pytest.raises(ValueError, match="one of a RayCluster or DaskCluster was expected, it has no engine"):
        driver_command(launch_of(1), "true")
