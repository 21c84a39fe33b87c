"""Nodes of a Slurm job, as its environment names them; nothing here starts or ends a job."""
