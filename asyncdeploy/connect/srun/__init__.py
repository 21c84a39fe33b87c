"""Where ssh to compute nodes is closed: srun, on the login node or here, carries each line into a Slurm job."""
