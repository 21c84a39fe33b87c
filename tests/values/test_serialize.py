"""What travels goes through JSON and back, and data that was never ours is refused by name, whatever it is."""

import inspect
import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.envs.built import Built
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.launch.follow.diagnosis import Diagnosis, Frame, RankStand
from asyncdeploy.launch.preflight.verdict import GpuUser, NodeSeen, Preflight, Problem
from asyncdeploy.nodes.facts import Disk, Gpu, NodeFacts
from asyncdeploy.values.serialize import MAX_DEPTH, PlainData, from_plain, to_plain
from tests.support.launches import launch_of
from tests.support.remotes.lies import mutations

NODE = ad.Node("10.0.0.1", user="me", port=2222, key_path="/k", jump="gate", slots=2)
FACTS = NodeFacts("/root", "root", 0, gpus=(Gpu(0, "H100"),), disks=(Disk("/", 1),), tools={"uv": "/uv"})
JOB = ad.Job(NODE, "train-abcdefgh", "train", "/proj", "python train.py", 1.5, "train", survives_logout=False)
COMMAND = ad.Command("true", cwd="/x", env={"A": "1"}, stdin=b"\xff", stdout_to="/out", timeout_s=2.5, on_end="true")
LAUNCH = launch_of(2)
STAND = RankStand(0, "gpu-1", 0, 7, "python", "S", (Frame("a.py", 1, "f"),), "py-spy", "0")
NODE_PLAN = ad.NodePlan(NODE, "/x", 3, 1, 1, 9, True, "make", ("uv sync",), ("uv",), COMMAND, "true", ("full",))
VALUES: tuple[PlainData, ...] = (
    NODE,
    FACTS,
    COMMAND,
    NODE_PLAN,
    ad.Plan((NODE_PLAN,), ad.Workspace("/p"), "uv", 3, 9, (("a.log", "exclude"),), ("careful",), ("no",)),
    ad.Completed("gpu-1", "true", 0, None, b"\xff", b"", 1, 0.5, signal_possible=True, survivors=("7 x",)),
    ad.Workspace("/here", remote_path="~/there", project="lib", include=("a",), on_conflict="overwrite"),
    ad.Site("/proj", "abc", "lib"),
    ad.CleanedItem("site", "/proj", 4096, 86400.0, "7 python runs in it"),
    ad.Cleaned("gpu-1", (ad.CleanedItem("job", "/jobs/a", 0, 1.5),), dry_run=True),
    ad.Collected("gpu-1", "/out", Path("/here"), 1, 2, 3, (("a", "odd"),)),
    Built("3.11", "2.5", "12.4", 7, "abc"),
    JOB,
    ad.JobStatus(JOB, "signalled", None, "KILL", 1.0, 2.0, ("7 x",), "bye", told_at=3.0, gpu_left=("GPU 0",)),
    LAUNCH,
    ad.LaunchStatus("run-abcdefgh", ("gpu-1", "gpu-2"), (ad.JobStatus(JOB, "running"), None), {"gpu-2": "off"}, 1.5),
    ad.JobLine("gpu-1", "hi"),
    LAUNCH.placement,
    LAUNCH.placement.places[0],
    ad.LaunchLine(0, "gpu-1", "hi", "stdout", 1.5, (0, 1), 3),
    ad.Deployment(NODE, ad.Site("/proj"), ad.DockerEnv("img", env=ad.UvEnv("train")), FACTS, Built("3.11")),
    ad.Torchrun("train.py", "--lr", "3e-4", nproc_per_node=2, env={"A": "1"}, options=("--x=1",), master_port=29500),
    ad.Ranks("python a.py", nproc_per_node=2, each="node", name="mine", opens_port=True),
    ad.RayCluster(cpus=2, resources={"a": 1.5}, object_store_gb=0.5, options=("--x",)),
    ad.DaskCluster(workers=2, memory="1GiB", name="mine"),
    ad.SystemEnv(),
    ad.Want("A", gpus=2, nodes=2, usd_per_hour=3.5, regions=("eu",), together=False),
    ad.Offer("runpod", "a@eu", "A", 2, 1.5, 2, "eu"),
    ad.SlurmAllocation(7, "ad-0", (NODE,), 1.5),
    ad.Rental("abcdefgh", (NODE,), (("10.0.0.1-2222", "SHA256:" + "a" * 43),), 1.5, 1_800_000_000, ("careful",)),
    ad.UvEnv("train", groups=("dev",), python="3.12"),
    ad.DockerEnv("img", env=ad.UvEnv(), ulimits=("a=1",)),
    ad.NixEnv(),
    Preflight((NodeSeen("gpu-1", "10.0.0.1", gpu_users=(GpuUser(0, 7),)),), "10.0.0.1", 1, (Problem("", "x"),), ("w",)),
    Diagnosis("run-abcdefgh", (STAND,), (("gpu-2", "off"),), (("gpu-1", "0, 1"),), (("gpu-1", "{}"),)),
)


def kinds() -> set[type[PlainData]]:
    """Every class that travels."""
    found, waiting = set(), [PlainData]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if attrs.has(kind) and kind.__module__.startswith("asyncdeploy"):
                found.add(kind)
    return found


def test_every_class_that_travels_is_tried_here() -> None:
    assert kinds() == {type(value) for value in VALUES}
    for kind in kinds():
        assert inspect.getattr_static(kind, "__setattr__") is not object.__setattr__, "frozen"
        assert "__dict__" not in dir(kind), "a mixin must not take the slots away"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_there_and_back(value: PlainData) -> None:
    again = type(value).from_dict(json.loads(json.dumps(value.to_dict())))
    assert (again, hash(again), again.to_dict()) == (value, hash(value), value.to_dict())


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_was_never_ours_is_a_value_error_that_names_the_class(value: PlainData) -> None:
    taken = refused = 0
    for data in mutations(json.loads(json.dumps(value.to_dict()))):
        made = made_of(type(value), data)
        if isinstance(made, ValueError):
            refused += 1
            assert type(value).__name__ in str(made) or not isinstance(data, dict)
            assert len(str(made)) < 2000
        else:
            taken += 1
            assert isinstance(made, type(value))
    assert refused > 20


def made_of(kind: type[PlainData], data: Any) -> PlainData | ValueError:
    try:
        return kind.from_dict(data)
    except ValueError as error:
        return error


def with_(value: PlainData, **fields: Any) -> dict[str, Any]:
    return {**value.to_dict(), **fields}


@pytest.mark.parametrize(
    "kind,data,text",
    [
        (ad.Site, 3, "Site: an object was expected, got 3"),
        (ad.Site, {}, "Site path: it was expected, and is missing"),
        (ad.Site, {"path": 3}, "Site path: a text was expected, got 3"),
        (ad.Site, {"path": None}, "Site path: a text was expected, got nothing"),
        (ad.Site, {"path": "/x", "no": 1}, "Site has no field 'no'; path, digest, project were expected"),
        (ad.Site, {"path": "x"}, "Site path: an absolute path was expected, got 'x'"),
        (ad.Job, with_(JOB, node={"host": 3}), "Job node: Node host: a text was expected, got 3"),
        (ad.Job, with_(JOB, created_at=math.nan), "Job created_at: a number was expected, got NaN"),
        (ad.Job, with_(JOB, created_at=True), "Job created_at: a number was expected, got true"),
        (ad.Job, with_(JOB, survives_logout=1), "Job survives_logout: true or false was expected, got 1"),
        (ad.JobStatus, {"job": JOB.to_dict(), "state": "x"}, "JobStatus state: 'starting' or 'running' or"),
        (
            ad.Command,
            with_(COMMAND, stdin=3),
            'Command stdin: an object with "base64" was expected, got 3; or a path was expected',
        ),
        (ad.Command, with_(COMMAND, env=[["A"]]), "Command env: a list of 2 was expected, got a list of 1"),
        (ad.Launch, with_(LAUNCH, recovery={}), "Launch has no field 'recovery'"),
        (ad.UvEnv, {"env": "NixEnv"}, "UvEnv: an object with 'UvEnv' under 'env' was expected, got \"NixEnv\""),
    ],
)
def test_the_class_the_field_what_was_expected_and_what_came(kind: type[PlainData], data: Any, text: str) -> None:
    made = made_of(kind, data)
    assert isinstance(made, ValueError)
    assert str(made).startswith(text)


def test_depth_is_bounded() -> None:
    deep: Any = {"env": "DockerEnv", "image": "x"}
    for _ in range(5000):
        deep = {"env": "DockerEnv", "image": "x", "inside": deep}
    with pytest.raises(ValueError, match=f"at most {MAX_DEPTH} objects and lists"):
        env_from_dict(deep)
    hop: Any = {"host": "a"}
    for number in range(5000):
        hop = {"host": f"h{number}", "jump": hop}
    with pytest.raises(ValueError, match=f"at most {MAX_DEPTH} objects and lists"):
        ad.Node.from_dict(hop)


def test_types_that_are_no_classes() -> None:
    kind: Any = tuple[ad.Node, ...] | None
    assert from_plain(kind, None) is None
    assert from_plain(kind, to_plain((NODE, NODE))) == (NODE, NODE)
    with pytest.raises(ValueError, match="a list was expected, got an object"):
        from_plain(kind, {})
