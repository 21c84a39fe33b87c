"""What a bootstrap made is told by every node, and how nodes of one launch differ is named before ranks start."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.built import Built
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.envs.uv_wheel import find_uv_binary
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.fleet.launch import fan_out, wait_launch
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.gang.watch import watch_launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.launch.preflight.drift import drift_of
from asyncdeploy.nodes.facts import Gpu, NodeFacts
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode
from tests.support.envs import write_project
from tests.support.events import notes

FACTS = NodeFacts("/home/me", "me", 1000)
BUILT = Built("3.11.7", "2.5.1+cu124", "12.4", 40, "0123456789abcdef")


def test_alike_is_no_drift() -> None:
    assert drift_of([(f"gpu{number}", FACTS, BUILT) for number in range(3)]) == ()
    assert drift_of([("a", FACTS, None), ("b", FACTS, None)]) == ()
    assert drift_of([]) == ()


def test_what_differs_is_named_with_its_nodes() -> None:
    other = attrs.evolve(BUILT, torch="2.4.0+cu121", cuda="12.1", digest="fedc")
    h100 = attrs.evolve(FACTS, gpus=(Gpu(0, "H100", driver="550"),))
    a100 = attrs.evolve(FACTS, gpus=(Gpu(0, "A100", driver="535"),))
    found = drift_of([("gpu1", h100, BUILT), ("gpu2", h100, BUILT), ("gpu3", a100, other)])
    assert found == (
        "torch differs: 2.5.1+cu124 on gpu[1-2]; 2.4.0+cu121 on gpu3",
        "torch's CUDA differs: 12.4 on gpu[1-2]; 12.1 on gpu3",
        "NVIDIA driver differs: 550 on gpu[1-2]; 535 on gpu3",
        "GPUs differs: H100 on gpu[1-2]; A100 on gpu3",
    )
    packages = attrs.evolve(BUILT, packages=41, digest="ffff0000aaaa")
    assert drift_of([("a", FACTS, BUILT), ("b", FACTS, packages)]) == (
        "packages differs: 40 (01234567) on a; 41 (ffff0000) on b",
    )
    assert drift_of([("a", FACTS, BUILT), ("b", FACTS, None)])[0] == "Python differs: 3.11.7 on a; none on b"


STRANGE = ["", "{", "[]", '{"python":3}', '{"other":"x"}', '{"torch":"' + "x" * 101 + '"}', '{"cuda":"\\u001b"}']


@pytest.mark.parametrize("text", STRANGE)
def test_what_a_node_says_is_not_trusted(text: str) -> None:
    assert Built.parse(text) is None


async def test_each_node_tells_and_launches_name_differences(sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    folders = [tmp_path / "one" / "proj", tmp_path / "two" / "proj"]
    for folder, needs in zip(folders, (("a-lib",), ("a-lib", "b-lib")), strict=True):
        folder.mkdir(parents=True)
        write_project(folder, needs)
    for sshd in sshd_nodes[:2]:
        (sshd.home / ".local/bin").mkdir(parents=True)
        (sshd.home / ".local/bin/uv").symlink_to(find_uv_binary().path)
    env = UvEnv(pre="export UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never")
    seen: list[object] = []
    async with Pool(host_keys=HostKeys.strict(sshd_nodes[0].known_hosts), observer=seen.append) as pool:

        async def deploy(number: int) -> Deployment:
            nodes = [sshd_nodes[number].node]
            return (await deploy_all(nodes, Workspace(folders[number]), env, pool=pool)).unwrap()[0]

        first = [await deploy(0), await deploy(1)]
        assert [each.built and each.built.packages for each in first] == [1, 2]
        again = [await deploy(0), await deploy(1)]
        assert [each.built for each in again] == [each.built for each in first], "a skipped bootstrap tells it too"
        assert [Deployment.from_dict(each.to_dict()) for each in again] == again
        older = {name: value for name, value in again[0].to_dict().items() if name != "built"}
        assert Deployment.from_dict(older) == attrs.evolve(again[0], built=None)
        launch = await start_launch(pool, again, Ranks("true"))
        assert (await watch_launch(pool, launch)).ok
        (note,) = notes(seen, "not alike")
        assert "packages differs: 1 (" in note
        seen.clear()
        alike = await fan_out([sshd_nodes[0].node], Workspace(folders[0]), Ranks("true"), env, pool=pool)
        assert (await wait_launch(alike, pool=pool)).ok
        assert not notes(seen, "not alike")
