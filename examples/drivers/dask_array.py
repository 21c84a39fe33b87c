"""A mean over an array that no single node would have to hold. uv add 'dask[array]' distributed"""

import dask.array as da
from distributed import Client

if __name__ == "__main__":
    with Client() as client:  # asyncdeploy has told it where
        numbers = da.arange(2_000_000, chunks=100_000)
        workers = client.scheduler_info(n_workers=-1)["workers"]
        print(f"mean {float(numbers.mean().compute()):.1f} on {len(workers)} workers")
