"""Where nodes come from: a Slurm job, a cluster that somebody else made, a provider that rents machines."""
