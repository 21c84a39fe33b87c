"""The nodes of a Slurm job, as its environment names them."""

import pytest

from asyncdeploy.nodes.parse import Node
from asyncdeploy.sources.slurm.job import slurm_nodes, slurm_until


def test_names_slots_and_order_are_slurms() -> None:
    said = {"SLURM_JOB_NODELIST": "gpu[01-03,07],cpu[9-10]", "SLURM_GPUS_ON_NODE": "8", "SLURM_TASKS_PER_NODE": "1(x6)"}
    nodes = slurm_nodes(said, jump="me@login")
    assert [node.host for node in nodes] == ["gpu01", "gpu02", "gpu03", "gpu07", "cpu9", "cpu10"]
    assert {node.slots for node in nodes} == {8}
    assert all(node.jump is not None and node.jump.host == "login" for node in nodes)


def test_without_gpus_the_tasks_of_each_node_are_its_slots() -> None:
    said = {"SLURM_JOB_NODELIST": "a[1-3],b", "SLURM_TASKS_PER_NODE": "2(x3),1", "SLURM_GPUS_ON_NODE": "0"}
    assert [node.slots for node in slurm_nodes(said)] == [2, 2, 2, 1]
    assert [node.slots for node in slurm_nodes({"SLURM_JOB_NODELIST": "a,b"})] == [None, None]


def test_our_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "only")
    monkeypatch.delenv("SLURM_TASKS_PER_NODE", raising=False)
    monkeypatch.delenv("SLURM_GPUS_ON_NODE", raising=False)
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1800000000")
    assert [node.name for node in slurm_nodes()] == ["only"]
    assert slurm_until() == 1_800_000_000


def test_by_srun_the_jobs_number_goes_with_the_nodes() -> None:
    said = {"SLURM_JOB_NODELIST": "gpu[1-2]", "SLURM_JOB_ID": "42"}
    nodes = slurm_nodes(said, jump="login", connect="srun")
    assert [(node.host, node.slurm_job) for node in nodes] == [("gpu1", 42), ("gpu2", 42)]
    assert [Node.from_dict(node.to_dict()) for node in nodes] == [*nodes]
    assert {node.slurm_job for node in slurm_nodes(said)} == {None}
    with pytest.raises(ValueError, match="SLURM_JOB_ID"):
        slurm_nodes({"SLURM_JOB_NODELIST": "a"}, connect="srun")
    with pytest.raises(ValueError, match='connect: "ssh" or "srun" was expected'):
        slurm_nodes(said, connect="telnet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Slurm's name of a node"):
        Node("::1", slurm_job=42)


@pytest.mark.parametrize(
    "said,word",
    [
        ({}, "SLURM_JOB_NODELIST was expected"),
        ({"SLURM_JOB_NODELIST": "gpu[3-1]"}, "SLURM_JOB_NODELIST 'gpu"),
        ({"SLURM_JOB_NODELIST": "a,b", "SLURM_TASKS_PER_NODE": "1"}, "2 nodes"),
        ({"SLURM_JOB_NODELIST": "a", "SLURM_TASKS_PER_NODE": "1(x999999)"}, "1 nodes"),
        ({"SLURM_JOB_NODELIST": "a", "SLURM_TASKS_PER_NODE": "many"}, "many"),
        ({"SLURM_JOB_NODELIST": "a", "SLURM_GPUS_ON_NODE": "-1"}, "SLURM_GPUS_ON_NODE"),
    ],
)
def test_what_slurm_does_not_write_is_refused_by_name(said: dict[str, str], word: str) -> None:
    with pytest.raises(ValueError, match=word.replace("(", r"\(")):
        slurm_nodes(said)


def test_an_end_that_is_no_time_is_refused() -> None:
    assert slurm_until({}) is None
    with pytest.raises(ValueError, match="SLURM_JOB_END_TIME"):
        slurm_until({"SLURM_JOB_END_TIME": "soon"})
