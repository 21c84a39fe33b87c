"""One person in several sessions, and two people on the same nodes."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.newcomer import Newcomer, aliases, newcomer

SEVERAL = """\
import asyncio
import asyncdeploy as ad

print(asyncio.run(ad.run_all("gpu[1-2]", "uname")).ok)
ready = asyncio.run(ad.deploy_all("gpu[1-2]", ".", ad.SystemEnv())).unwrap()
jobs = asyncio.run(ad.start_all(ready, "cat said", name="cat"))
print(asyncio.run(jobs.wait()).ok)
"""
CELLS = """\
import asyncdeploy as ad
pool = ad.Pool()
report = await ad.run_all("gpu[1-2]", "uname", pool=pool)
print([done.text for done in report.unwrap()])
print((await ad.run_all("gpu[1-2]", "id -u", pool=pool)).ok)
await pool.close()
"""


def test_several_asyncio_run(person: Newcomer) -> None:
    (person.ad.folder / "said").write_text("said\n")
    said = person.runs(SEVERAL, writes=6, reads=2)
    assert said.code == 0, said.err
    assert said.out == "True\nTrue\n"


def test_a_pool_over_the_cells_of_a_notebook(person: Newcomer) -> None:
    """By Python's own prompt for asyncio, which has a loop that runs, as a notebook's kernel has."""
    (person.ad.folder / "cells").write_text(CELLS)
    said = person.types("python -m asyncio <cells", reads=20)
    assert said.code == 0, said.err
    assert "['Linux', 'Linux']" in said.out
    assert "True\n" in said.out
    assert "Error" not in said.err


def test_two_deploy_at_once(person: Newcomer, sshd_nodes: Sequence[SshdNode], tmp_path: Path) -> None:
    """Two clones of one project: each finds the nodes ready, and what stands there is one of the two trees, whole."""
    other = colleague(sshd_nodes, tmp_path / "other")
    for who, text in ((person, "mine"), (other, "theirs")):
        (who.ad.folder / "pyproject.toml").write_text('[tool.asyncdeploy]\nname = "ours"\n')
        for number in range(50):
            (who.ad.folder / f"{number}.txt").write_text(text)
    line = "asyncdeploy deploy gpu[1-4] --env system"
    with person.begins(line) as first, other.begins(line) as second:
        read = [process.communicate(timeout=90)[0] for process in (first, second)]
    for process, text in zip((first, second), read, strict=True):
        assert process.returncode == 0, text
        assert len(text.splitlines()) <= 18, text
    for sshd in sshd_nodes:
        found = [path.read_text() for path in sshd.home.glob("project/*.txt")]
        assert len(found) == 50
        assert len(set(found)) == 1


def test_somebody_elses_project_of_the_same_name(
    person: Newcomer, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    other = colleague(sshd_nodes, tmp_path / "other")
    for who in (person, other):
        (who.ad.folder / "whose.txt").write_text(str(who.ad.home))
    line = "asyncdeploy deploy gpu1 --env system"
    assert person.types(line, reads=5).code == 0
    said = other.types(line, reads=5)
    assert said.code == 1
    assert f"belongs to another project: {person.ad.folder} on " in said.err
    assert "hint: give another remote_path; if they are one, give both a name in pyproject.toml" in said.err
    assert (sshd_nodes[0].home / "project/whose.txt").read_text() == str(person.ad.home)


def colleague(nodes: Sequence[SshdNode], folder: Path) -> Newcomer:
    """Somebody else, with a home and a folder of their own, who has met the same nodes."""
    folder.mkdir()
    return newcomer(folder, aliases(nodes), nodes)
