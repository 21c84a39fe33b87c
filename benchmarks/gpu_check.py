"""What only a machine with NVIDIA GPUs can show: facts, NCCL under torchrun, memory that is free after a kill.

    python -m benchmarks.gpu_check          # in a Python with torch and asyncdeploy's dependencies; a few minutes
    python -m benchmarks.gpu_check --cpu    # the same on gloo where no GPU is, to see that the checks themselves run

The node is a LocalCluster's and runs this Python: no sshd, no network. A line a check; exit status 1 if one failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

import asyncdeploy as ad

GIB = 1 << 30
HELD = 2 * GIB
CLOSE = GIB // 4
"""What a driver's own use of a GPU may differ by between two looks."""
SCRIPTS = {
    "reduce.py": """
import os, sys, torch, torch.distributed as dist
backend, device = sys.argv[1:3]
rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
if device == "cuda":
    torch.cuda.set_device(local % torch.cuda.device_count())
dist.init_process_group(backend)
value = torch.full((1 << 20,), float(rank + 1), device=device)
dist.all_reduce(value)
assert value[0].item() == world * (world + 1) / 2, value[0]
print("reduced", backend, device, world, flush=True)
dist.destroy_process_group()
""",
    "hold.py": f"""
import pathlib, sys, time
if sys.argv[1] == "cuda":
    import torch
    held = torch.empty({HELD}, dtype=torch.uint8, device="cuda")
    held.fill_(1)
    torch.cuda.synchronize()
pathlib.Path("holds").touch()
time.sleep(600)
""",
    "greedy.py": """
import sys, torch
if sys.argv[1] == "cpu":
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 900.00 GiB")
torch.empty(900 << 30, dtype=torch.uint8, device="cuda")
""",
}


@attrs.define
class World:
    """One node, the project on it, and whether there are GPUs."""

    pool: ad.Pool
    cluster: ad.LocalCluster
    deployment: ad.Deployment
    gpus: int

    @property
    def node(self) -> ad.Node:
        return self.deployment.node

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def site(self) -> Path:
        return Path(self.deployment.site.path)

    async def launch(self, launcher: ad.Launcher) -> ad.Launch:
        return await ad.start_launch(self.pool, (self.deployment,), launcher, grace_s=5)


def smi(*words: str) -> list[str]:
    """Return the lines of nvidia-smi, none where there is none."""
    try:
        return subprocess.check_output(["nvidia-smi", *words], text=True, timeout=60).split("\n")[:-1]
    except (OSError, subprocess.SubprocessError):
        return []


def used() -> list[int]:
    """Return the bytes in use on each GPU."""
    return [int(line) << 20 for line in smi("--query-gpu=memory.used", "--format=csv,noheader,nounits")]


async def facts(world: World) -> str:
    """The node's GPUs are those that nvidia-smi names."""
    found = (await ad.probe_node(world.pool.at(world.node))).gpus
    assert [gpu.uuid for gpu in found] == smi("--query-gpu=uuid", "--format=csv,noheader"), found
    return f"{len(found)} GPUs" + (f", {found[0].name}, driver {found[0].driver}" if found else "")


async def reduce(world: World) -> str:
    """An all-reduce of all GPUs by NCCL, and of two processes by gloo."""
    said = []
    for backend, count in (("nccl" if world.gpus else "gloo", world.gpus or 2), ("gloo", 2)):
        launcher = ad.Torchrun("reduce.py", backend, world.device, nproc_per_node=count)
        launch = await world.launch(launcher)
        (await ad.wait_launch(launch, pool=world.pool)).unwrap()
        log = await ad.read_log(world.pool.at(world.node), launch.jobs[0])
        assert log.count(f"reduced {backend} {world.device} {count}") == count, log
        said.append(f"{backend} x {count}")
    return ", ".join(said)


async def held(world: World) -> tuple[ad.Launch, list[int]]:
    """Start ranks that hold memory; return what was in use before."""
    (world.site / "holds").unlink(missing_ok=True)
    before = used()
    launch = await world.launch(ad.Ranks(f"python hold.py {world.device}", nproc_per_node=1))
    deadline = time.monotonic() + 120
    while not (world.site / "holds").exists():
        assert time.monotonic() < deadline, "the rank did not begin"
        await asyncio.sleep(0.1)
    if world.gpus:
        assert max(now - then for now, then in zip(used(), before, strict=True)) > HELD * 0.9
    return launch, before


def assert_free(before: list[int]) -> None:
    left = [now - then for now, then in zip(used(), before, strict=True)]
    assert all(each < CLOSE for each in left), f"bytes still in use: {left}"


async def stopped(world: World) -> str:
    """After stop_launch has returned the memory is free."""
    launch, before = await held(world)
    report = await ad.stop_launch(launch, grace_s=5, pool=world.pool)
    assert "unknown" not in [outcome.state for outcome in report.outcomes], report
    assert_free(before)
    return f"{HELD >> 30} GiB free as stop_launch returned" if world.gpus else "stopped"


async def failure_of(world: World, launch: ad.Launch) -> str:
    """Return what is said of a launch that must fail."""
    report = await ad.wait_launch(launch, pool=world.pool)
    (outcome,) = report.outcomes
    for error in (outcome.error, getattr(outcome.error, "__cause__", None)):
        if isinstance(error, ad.LaunchFailed):
            return ad.describe_failure(error)
    raise AssertionError(f"a LaunchFailed was expected, got {outcome}")


async def killed(world: World) -> str:
    """After a rank was killed the launch has failed, and the memory is free."""
    launch, before = await held(world)
    pids = [
        pid for pid, line in world.cluster.processes(world.node).items() if line.endswith(f"hold.py {world.device}")
    ]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert pids
    said = await failure_of(world, launch)
    assert_free(before)
    return said.splitlines()[0]


async def greedy(world: World) -> str:
    """A rank that wants more memory than there is: the failure says so, with what to do."""
    launch = await world.launch(ad.Torchrun("greedy.py", world.device, nproc_per_node=1))
    text = await failure_of(world, launch)
    assert "CUDA out of memory" in text, text
    return next(line for line in text.splitlines() if "CUDA out of memory" in line)[:100]


async def busy(world: World) -> str:
    """A GPU that somebody else uses is named before anything starts."""
    launch, _ = await held(world)
    verdict = await ad.preflight(world.node, pool=world.pool)
    await ad.stop_launch(launch, grace_s=1, pool=world.pool)
    said = [note for note in verdict.warnings if "GPU" in note]
    assert said or not world.gpus, verdict
    return said[0][:150] if said else "no GPU, no warning"


CHECKS: tuple[Callable[[World], Awaitable[str]], ...] = (facts, reduce, stopped, killed, greedy, busy)


async def run(*, cpu: bool) -> bool:
    """Run the checks; whether all passed."""
    gpus = 0 if cpu else len(smi("--list-gpus"))
    if not gpus and not cpu:
        sys.exit("no GPU here, says nvidia-smi: --cpu runs the checks without")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    passed = True
    async with ad.LocalCluster(1, path=path) as cluster, cluster.pool() as pool:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in SCRIPTS.items():
                Path(folder, name).write_text(text)
            (deployment,) = (await ad.deploy_all(cluster.nodes, folder, ad.SystemEnv(), pool=pool)).unwrap()
        world = World(pool, cluster, deployment, gpus)
        for check in CHECKS:
            begin = time.monotonic()
            try:
                said = await check(world)
            except Exception:  # noqa: BLE001 - the others are checked all the same
                passed, said = False, f"FAILED\n{traceback.format_exc()}"
            print(f"{check.__name__:8} {time.monotonic() - begin:6.1f} s  {said}", flush=True)
    return passed


def main() -> None:
    """Check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="without a GPU, on gloo")
    args = parser.parse_args()
    sys.exit(not asyncio.run(run(cpu=args.cpu)))


if __name__ == "__main__":
    main()
