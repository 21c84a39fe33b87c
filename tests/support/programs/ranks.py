"""Programs of ranks for real torchrun jobs, and the workspace that holds them."""

from pathlib import Path

from asyncdeploy.values.workspace import Workspace

ALL_REDUCE = """\
import json, os, pathlib, sys, traceback
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
value = torch.ones(4) * (rank + 1)
dist.all_reduce(value)
print(f"rank {rank} of {size}: sum {value[0].item():.0f}")
fail = int(sys.argv[1]) if len(sys.argv) > 1 else -1
if rank == fail:
    try:
        raise RuntimeError(f"injected into rank {rank}")
    except RuntimeError:
        traceback.print_exc()
        os._exit(1)  # gloo's own teardown aborts now and then, which would be another failure
if fail >= 0:
    dist.barrier()  # never ends by itself: the failing rank does not come
folder = pathlib.Path("results")
folder.mkdir(exist_ok=True)
names = ("ASYNCDEPLOY_NODE_RANK", "LOCAL_RANK", "RANK", "MASTER_PORT", "GLOO_SOCKET_IFNAME")
found = {"sum": value.tolist(), "env": {name: os.environ.get(name) for name in names}}
(folder / f"rank-{rank}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""

# Ignores TERM, also in a child with a session of its own, and writes its pids down before the failing rank may fail.
STUBBORN = """\
import os, pathlib, signal, subprocess, sys, time
import torch.distributed as dist

signal.signal(signal.SIGTERM, signal.SIG_IGN)
dist.init_process_group("gloo")
deaf = "import signal, time; signal.signal(15, 1); print('deaf', flush=True); time.sleep(999)"
child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
pathlib.Path(f"pids-{dist.get_rank()}").write_text(f"{os.getpid()} {os.getppid()} {child.pid}")
dist.barrier()
if dist.get_rank() == 3:
    os._exit(9)
time.sleep(999)
"""


def rank_workspace(folder: Path) -> Workspace:
    """A folder with the programs."""
    folder.mkdir()
    (folder / "all_reduce.py").write_text(ALL_REDUCE)
    (folder / "stubborn.py").write_text(STUBBORN)
    return Workspace(folder)
