"""A table that is made, changed and summed up on all nodes. uv add 'ray[data]'"""

import ray

if __name__ == "__main__":
    ray.init()  # asyncdeploy has told it where
    rows = ray.data.range(100_000, override_num_blocks=20).map_batches(lambda batch: {"value": batch["id"] * 2})
    print(f"sum {rows.sum('value')} on {len(ray.nodes())} nodes")
