"""One rank of a real torch.distributed job: all ranks add up a tensor, three times."""

import json
import os
import warnings

# torch works without numpy, and says so at length in every rank.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, size = dist.get_rank(), dist.get_world_size()
if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
value = torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")
for step in range(3):
    value = torch.full_like(value, rank + step)
    dist.all_reduce(value)
    print(f"rank {rank} of {size}: step {step}, sum over all ranks {value.item():.0f}", flush=True)
os.makedirs("results", exist_ok=True)
if int(os.environ["LOCAL_RANK"]) == 0:
    with open("results/sum.json", "w") as file:
        json.dump({"rank": rank, "sum": value.item()}, file)
dist.destroy_process_group()
