"""Nodes of a Slurm job: of the one in which we run, or of one that is made for a block and ended after it."""
