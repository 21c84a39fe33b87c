"""Programs that stand beside an engine (Ray, Dask) on its nodes: what is asked of it, and who computes with it."""
