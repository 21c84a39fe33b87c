"""Ring 1: one torchrun command a node; what a shell and torch's own parser make of it."""

import importlib
import json
import os
import pickle
import subprocess
import sys
import warnings

import pytest

from asyncdeploy.launch.launchers.rank_env import SESSION_ENV, TORCHRUN
from asyncdeploy.launch.launchers.torchrun import Torchrun
from tests.support.launches import plan
from tests.support.tools import need, need_torch

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "ash"]]


def environ_after(line: str, shell: list[str], env: dict[str, str]) -> dict[str, str]:
    """What a program started by the line finds in its environment."""
    done = subprocess.run([*shell, "-c", line], env=env, capture_output=True, check=True)
    assert done.stderr == b""
    return json.loads(done.stdout)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_what_an_image_left_is_forgotten(shell: list[str]) -> None:
    """F15."""
    need(shell[0])
    (command,) = Torchrun("train.py", nproc_per_node=2).commands(plan(2))
    script = "import os, json; print(json.dumps(dict(os.environ)))"
    line = command.line.partition("exec ")[0] + f"exec {sys.executable} -c '{script}'"
    left = {
        "RANK": "3",
        "WORLD_SIZE": "9",
        "LOCAL_RANK": "1",
        "PET_NNODES": "7",
        "PET_X": "a\nPET_Y=b",
        "MASTER_ADDR": "x",
    }
    left |= {"TORCHELASTIC_RUN_ID": "old", "PYTHON_EXEC": "/bin/false", "KEEP": "PET_ME", "PATH": os.environ["PATH"]}
    found = environ_after(line, shell, left | dict(command.env))
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "PET_NNODES", "PET_X", "TORCHELASTIC_RUN_ID", "PYTHON_EXEC"} & set(
        found
    )
    assert (found["KEEP"], found["MASTER_ADDR"], found["NODE_RANK"], found["OMP_NUM_THREADS"]) == (
        "PET_ME",
        "10.0.0.1",
        "0",
        "1",
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_l21_the_session_that_we_came_in_by_is_not_the_launch(shell: list[str]) -> None:
    need(shell[0])
    left = {
        "SLURM_NTASKS": "8",
        "SLURM_JOB_NAME": "train",
        "OMPI_COMM_WORLD_RANK": "3",
        "PMI_RANK": "3",
        "LSB_JOBID": "1",
    }
    left |= {"PMIX_RANK": "3", "MPI_LOCALRANKID": "1", "SLURMD_NODENAME": "n", "SLURM": "x", "PATH": os.environ["PATH"]}
    script = "import os, json; print(json.dumps(dict(os.environ)))"
    for launcher, kept in (
        (Torchrun("train.py"), set()),
        (Torchrun("train.py", keep_env="SLURM_JOB_*"), {"SLURM_JOB_NAME"}),
        (Torchrun("train.py", keep_env=("PMI_RANK", "OMPI_*")), {"PMI_RANK", "OMPI_COMM_WORLD_RANK"}),
        (Torchrun("train.py", env={"SLURM_NTASKS": "1"}, secrets={"LSB_JOBID": "2"}), {"SLURM_NTASKS", "LSB_JOBID"}),
    ):
        (command,) = launcher.commands(plan(1))
        line = command.line.partition("exec ")[0] + f"exec {sys.executable} -c '{script}'"
        found = environ_after(line, shell, left | dict(command.env))
        assert {name for name in found if SESSION_ENV.match(name)} == kept
        assert {name for name in left if launcher.keeps(name)} == kept
        assert found["SLURM"] == "x"
        assert not [name for name in found if name.startswith("asyncdeploy")]


@pytest.mark.parametrize("name", ["RANK", "SLURM_*)", "a b", "", "*"])
def test_l21_what_may_be_kept_is_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="keep_env"):
        Torchrun("train.py", keep_env=(name,))


def test_threads_that_somebody_chose_stay() -> None:
    (command,) = Torchrun("train.py").commands(plan(2))
    line = command.line.partition("exec ")[0] + 'printf \'"%s"\' "$OMP_NUM_THREADS"'
    done = subprocess.run(
        ["sh", "-c", line], env={"OMP_NUM_THREADS": "8", "PATH": os.environ["PATH"]}, capture_output=True
    )
    assert done.stdout == b'"8"'


def test_torch_reads_the_line_as_it_is_meant() -> None:
    need_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch complains of a missing numpy
        run = importlib.import_module("torch.distributed.run")
    launcher = Torchrun("tr ain.py", "--lr", "3e-4", "a'b", options=("--monitor-interval=1",))
    for rank, command in enumerate(launcher.commands(plan(2, 2))):
        words = subprocess.run(
            ["sh", "-c", command.line.replace(f"exec python {TORCHRUN}", "printf '%s\\0'")],
            env={**dict(command.env), "HOME": "/home/u", "PATH": os.environ["PATH"]},
            capture_output=True,
            check=True,
        )
        args = run.parse_args(words.stdout.decode().split("\0")[:-1])
        assert (args.nnodes, args.node_rank, args.nproc_per_node, args.max_restarts) == ("2", rank, "2", 0)
        assert (args.master_addr, args.master_port, args.rdzv_backend) == ("10.0.0.1", 23456, "static")
        assert args.log_dir == f"/home/u/.asyncdeploy/launches/train-abcdefgh/rank-{rank}"
        assert (args.training_script, args.training_script_args) == ("tr ain.py", ["--lr", "3e-4", "a'b"])
        assert args.monitor_interval == 1


def test_a_module_and_an_interpreter_by_path() -> None:
    launcher = Torchrun("pkg.train", module=True, python="/opt/my env/bin/python")
    (command,) = launcher.commands(plan(1))
    assert f"exec '/opt/my env/bin/python' {TORCHRUN}" in command.line
    assert command.line.endswith("--module pkg.train")
    assert launcher.name == "train"


def test_interfaces_and_the_users_variables() -> None:
    launcher = Torchrun("train.py", env={"NCCL_SOCKET_IFNAME": "bond0"}, secrets={"WANDB_API_KEY": "hush"})
    (command,) = launcher.commands(plan(1))
    env = dict(command.env)
    assert (env["GLOO_SOCKET_IFNAME"], env["NCCL_SOCKET_IFNAME"], env["PYTHONUNBUFFERED"]) == ("eth0", "bond0", "1")
    assert command.secret_values() == {"WANDB_API_KEY": "hush"}
    assert "hush" not in repr(launcher) + json.dumps(launcher.to_dict()) + command.line


@pytest.mark.parametrize(
    "options",
    [("--max-restarts", "3"), ("--max_restarts=3",), ("--nno=2",), ("-m",), ("-t3",), ("--rdzv-conf=a=1",), ("--",)],
    ids=str,
)
def test_options_that_follow_from_the_plan_are_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="Torchrun options"):
        Torchrun("train.py", options=options)


def test_l7_the_wait_for_the_others_is_a_setting_and_generous() -> None:
    (command, *_) = Torchrun("train.py").commands(plan(2, 2))
    assert "--rdzv-conf=timeout=900 " in command.line
    (command, *_) = Torchrun("train.py", rendezvous_s=1800).commands(plan(2, 2))
    assert "--rdzv-conf=timeout=1800 " in command.line
    with pytest.raises(ValueError, match="rendezvous_s: at least 1"):
        Torchrun("train.py", rendezvous_s=0)
    with pytest.raises(ValueError, match=r"Torchrun\(rendezvous_s=...\) sets the timeout"):
        Torchrun("train.py", options=("--rdzv-conf=timeout=5",))


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "PET_NNODES", "MASTER_PORT", "ASYNCDEPLOY_RUN_ID", "NODE_RANK"])
def test_variables_that_follow_from_the_plan_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Torchrun("train.py", env={name: "1"})
    with pytest.raises(ValueError, match=name):
        Torchrun("train.py", secrets={name: "1"})


def test_bad_values_are_refused() -> None:
    for bad in ({"nproc_per_node": 0}, {"master_port": 70000}, {"env": {"A B": "1"}}):
        with pytest.raises(ValueError, match="expected"):
            Torchrun("train.py", **bad)
    for script in ("", "-m", "a\0b"):
        with pytest.raises(ValueError, match="Torchrun"):
            Torchrun(script)


def test_l22_a_name_of_its_own() -> None:
    launcher = Torchrun("src/train.py", name="second")
    assert launcher.name == "second"
    assert Torchrun.from_dict(launcher.to_dict()) == launcher
    assert Torchrun("src/train.py").name == "train"
    assert Torchrun.from_dict({"script": "src/train.py"}) == Torchrun("src/train.py")
    for name in ("", "-x", "a b", "x" * 49, "a/b"):
        with pytest.raises(ValueError, match="Torchrun name"):
            Torchrun("train.py", name=name)


def test_it_travels() -> None:
    launcher = Torchrun("train.py", "--lr", 3e-4, nproc_per_node=8, env={"B": "2", "A": "1"}, options=("--role=x",))
    assert pickle.loads(pickle.dumps(launcher)) == launcher
    assert Torchrun.from_dict(json.loads(json.dumps(launcher.to_dict()))) == launcher
    assert hash(launcher) == hash(Torchrun.from_dict(launcher.to_dict()))
    assert launcher.args == ("--lr", "0.0003")


def test_a_word_that_it_has_not_is_told_with_those_that_it_has() -> None:
    with pytest.raises(
        TypeError, match=r"^Torchrun\(\) got an unexpected keyword argument 'nproc'; there are nproc_per"
    ):
        Torchrun("train.py", nproc=2)
