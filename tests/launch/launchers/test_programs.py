"""What a launch is called, and whether its program is there: known before a node is touched."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from tests.support.beds.sshd_node import SshdNode

# A "python" that listens as torchrun's agent does, and stays until it may go.
LISTENS = """#!/usr/bin/env python3
import os, pathlib, socket, time
with socket.create_server(("", int(os.environ["MASTER_PORT"]))):
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
"""


@pytest.fixture
def listening(project: Path) -> Path:
    """A project with a script, and a stand-in for torchrun's Python."""
    (project / "train.py").write_text("")
    (project / "listens").write_text(LISTENS)
    (project / "listens").chmod(0o755)
    return project


async def test_l22_two_launches_of_one_script_on_one_node(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, listening: Path
) -> None:
    nodes, workspace = [sshd_nodes[0].node], ad.Workspace(listening, under_jobs="overwrite")
    start = ad.Torchrun("train.py", nproc_per_node=1, python="./listens")
    first = await ad.fan_out(nodes, workspace, start, ad.SystemEnv(), pool=pool)
    with pytest.raises(ad.LaunchFailed) as caught:
        await ad.fan_out(nodes, workspace, start, ad.SystemEnv(), pool=pool)
    assert "another name starts a second one" in caught.value.hint
    other = ad.Torchrun("train.py", nproc_per_node=1, python="./listens", name="other")
    second = await ad.fan_out(nodes, workspace, other, ad.SystemEnv(), pool=pool)
    assert second.id.startswith("other-")
    (sshd_nodes[0].home / "project/go").touch()
    for launch in (first, second):
        assert (await ad.wait_launch(launch, pool=pool)).ok


@pytest.mark.parametrize(
    "script, below, said",
    [
        ("trainn.py", None, "'trainn.py' is not among the files that are sent of {}; did you mean 'train.py'?"),
        (
            "./sub/../trainn.py",
            None,
            "'trainn.py' is not among the files that are sent of {}; did you mean 'train.py'?",
        ),
        ("run.py", None, "'run.py' is not among the files that are sent of {}; did you mean 'pkg/run.py'?"),
        (
            "a/long/way/trian.py",
            None,
            "'a/long/way/trian.py' is not among the files that are sent of {}; did you mean 'train.py'?",
        ),
        ("train.sh", None, "'train.sh' is not among the files that are sent of {}; did you mean 'train.py'?"),
        ("train.py", "pkg", "'pkg/train.py' is not among the files that are sent of {}; did you mean 'train.py'?"),
        ("pkg", None, "'pkg' is not among the files that are sent of {}"),
        ("secret.py", None, "git ignores it or exclude names it; Workspace(include=) sends it"),
    ],
    ids=["typo", "dots", "elsewhere", "deep", "kind", "project", "folder", "excluded"],
)
async def test_l23_a_script_that_is_not_sent_is_found_before_a_node_is_touched(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, listening: Path, script: str, below: str | None, said: str
) -> None:
    (listening / "pkg").mkdir()
    for name in ("pkg/run.py", "secret.py"):
        (listening / name).write_text("")
    workspace = ad.Workspace(listening, project=below, exclude=("secret.py",))
    with pytest.raises(ValueError, match="is not among the files") as caught:
        await ad.fan_out([sshd_nodes[0].node], workspace, ad.Torchrun(script), ad.SystemEnv(), pool=pool)
    assert said.format(listening) in str(caught.value)
    assert not (sshd_nodes[0].home / "project").exists()


async def test_l23_what_is_behind_a_link_or_beside_the_project_is_for_the_node_to_find(
    sshd_nodes: Sequence[SshdNode], pool: ad.Pool, listening: Path
) -> None:
    (listening / "pkg").mkdir()
    (listening / "pkg/run.py").write_text("")
    (listening / "linked").symlink_to("pkg")
    (listening / "go").write_text("")
    nodes = [sshd_nodes[0].node]
    for script in ("linked/run.py", "/opt/elsewhere.py", "../beside.py", "./pkg/run.py"):
        launcher = ad.Torchrun(script, nproc_per_node=1, python="./listens")
        launch = await ad.fan_out(nodes, listening, launcher, ad.SystemEnv(), pool=pool)
        assert (await ad.wait_launch(launch, pool=pool)).ok
    launcher = ad.Torchrun("no.such", module=True, nproc_per_node=1, python="./listens")
    assert (await ad.wait_launch(await ad.fan_out(nodes, listening, launcher, ad.SystemEnv(), pool=pool), pool=pool)).ok
