"""DockerEnv as a value: what it refuses, what it writes, what travels."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from asyncdeploy.envs.base import Env
from asyncdeploy.envs.docker import DockerEnv
from asyncdeploy.envs.nix import NixEnv
from asyncdeploy.envs.registry import env_from_dict
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.nodes.facts import Gpu, NodeFacts
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.workspace import Site
from tests.support.places import ROOT

SITE = Site("/home/me/proj", digest="a" * 64)
FACTS = NodeFacts(
    home="/home/me", user="me", uid=1000, tools={"docker": "/usr/bin/docker", "podman": "/usr/bin/podman"}
)


@pytest.mark.parametrize(
    "env",
    [
        DockerEnv("pytorch/pytorch:2.5"),
        DockerEnv(archive="/tmp/image.tar", gpus=None),
        DockerEnv(
            dockerfile="docker/Dockerfile", mounts="/data:/data:ro", gpus="0,1", engine="podman", options=("-t",)
        ),
        DockerEnv("pytorch/pytorch:2.5", env=UvEnv("train")),
    ],
)
def test_it_travels(env: DockerEnv) -> None:
    assert env_from_dict(env.to_dict()) == env
    assert pickle.loads(pickle.dumps(env)) == env
    assert hash(env) == hash(env_from_dict(env.to_dict()))


@pytest.mark.parametrize(
    "env", [DockerEnv("a", env=UvEnv("train")), NixEnv(), SystemEnv()], ids=["docker", "nix", "system"]
)
def test_it_is_known_to_who_asks_for_no_class_of_ours(env: Env) -> None:
    reads = "import json, sys; from asyncdeploy.envs.registry import env_from_dict as read"
    reads += "; print(read(json.loads(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", reads, json.dumps(env.to_dict())], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == str(env), done.stderr


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda: DockerEnv(), "one of image, archive and dockerfile"),
        (lambda: DockerEnv("a", dockerfile="b"), "one of image, archive and dockerfile"),
        (lambda: DockerEnv("-rm"), "image"),
        (lambda: DockerEnv("a b"), "image"),
        (lambda: DockerEnv(dockerfile="../Dockerfile"), "a path in the workspace"),
        (lambda: DockerEnv("a", gpus="two"), "gpus"),
        (lambda: DockerEnv("a", engine="lxc"), "engine"),
        (lambda: DockerEnv("a", mounts=("",)), "mounts"),
    ],
)
def test_what_it_refuses(make, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_a_node_without_an_engine_is_told_what_else_there_is() -> None:
    bare = attrs.evolve(FACTS, tools={})
    with pytest.raises(ToolMissing, match="no docker or podman") as caught:
        DockerEnv("a").steps(SITE, bare)
    assert "UvEnv" in caught.value.hint
    with pytest.raises(ToolMissing, match="no podman"):
        DockerEnv("a", engine="podman").enter(Command("true"), SITE, attrs.evolve(FACTS, tools={"docker": "/d"}))


def words_of(env: DockerEnv, facts: NodeFacts = FACTS) -> str:
    return env.enter(Command("true"), SITE, facts).line


def test_gpus_in_each_engines_words() -> None:
    two = attrs.evolve(FACTS, gpus=(Gpu(0, "H100"), Gpu(1, "H100")))
    assert "--gpus" not in words_of(DockerEnv("a"))
    assert words_of(DockerEnv("a"), two).endswith("--gpus all")
    assert words_of(DockerEnv("a", gpus=None), two) == words_of(DockerEnv("a"))
    assert words_of(DockerEnv("a", gpus="0,1")).endswith("""--gpus '"device=0,1"'""")
    podman = words_of(DockerEnv("a", gpus="0,1", engine="podman"))
    assert podman.endswith("--device nvidia.com/gpu=0 --device nvidia.com/gpu=1")


def test_values_stay_out_of_the_line() -> None:
    command = Command("run me", env={"A": "value-a", "HOME": "/x"}, secrets={"B": "value-b"}, on_end="echo last")
    entered = DockerEnv("a").enter(command, SITE, FACTS)
    assert "value-" not in entered.line
    assert "'A ASYNCDEPLOY_DOCKER_LINE B' ''" in entered.line
    assert "run me" not in entered.line, "R3: it would stand in the arguments of whoever runs it"
    assert (entered.on_end or "").endswith("\necho last")
    assert dict(entered.env) == dict(command.env) | {"ASYNCDEPLOY_DOCKER_LINE": "run me"}


def test_a_built_image_is_named_by_its_tree() -> None:
    env = DockerEnv(dockerfile="Dockerfile")
    assert env.image_of(SITE) == env.image_of(attrs.evolve(SITE, project="sub"))
    assert env.image_of(SITE) != env.image_of(attrs.evolve(SITE, digest="b" * 64))
    assert env.image_of(SITE) != env.image_of(Site("/home/me/other", digest=SITE.digest))


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="No such file"):
        DockerEnv(archive=tmp_path / "none.tar").assets(SITE, FACTS)


def test_a_site_that_no_mount_can_name() -> None:
    with pytest.raises(ValueError, match="without ':'"):
        DockerEnv("a").enter(Command("true"), Site("/home/me/a:b"), FACTS)
