"""A real Slurm that tracks processes by their parents: what has left its step is not ended with it, but by us."""

import sys
from pathlib import Path

from tests.support.places import ROOT
from tests.support.slurm.bed import Slurm
from tests.support.waiting import eventually_sync

INSIDE = """\
import asyncio
import asyncdeploy as ad

async def main():
    async with ad.Pool() as pool:
        [node] = ad.slurm_nodes(connect="srun")
        await ad.start_job(pool.at(node), ad.Command("echo up; exec sleep 600"), name="stays")

asyncio.run(main())
"""


def test_the_end_of_a_salloc_ends_a_job_too(slurm_by_parents: Slurm, tmp_path: Path) -> None:
    slurm = slurm_by_parents
    (tmp_path / "inside.py").write_text(INSIDE)
    env = {"HOME": str(slurm.login.home), "PYTHONPATH": str(ROOT)}
    slurm.ask("salloc", "--nodes=1", f"--chdir={tmp_path}", sys.executable, "-W", "error", "inside.py", env=env)
    [log] = (slurm.login.home / ".asyncdeploy" / "jobs").glob("*/log")
    pid = int((log.parent / "pid").read_text().split()[0])
    eventually_sync(lambda: pid not in slurm.pids(0), "the job is over, and its process gone")
    eventually_sync((log.parent / "exit").exists, "how it ended is written down")
    assert "its step of the Slurm job was killed" in (log.parent / "exit").read_text()
