"""A program that was written for mpirun and reads its rank from Open MPI's variables, without MPI between the nodes.

launch = await ad.fan_out(nodes, project, mpi_style("python train.py", nproc_per_node=8))
"""

import asyncdeploy as ad

VARIABLES = (
    "export OMPI_COMM_WORLD_RANK=$RANK OMPI_COMM_WORLD_SIZE=$WORLD_SIZE"
    " OMPI_COMM_WORLD_LOCAL_RANK=$LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE=$LOCAL_WORLD_SIZE"
    " OMPI_COMM_WORLD_NODE_RANK=$LOCAL_RANK"
)


def mpi_style(line: str, *, nproc_per_node: int | None = None) -> ad.Ranks:
    return ad.Ranks(f"{VARIABLES}; exec {line}", nproc_per_node=nproc_per_node, name="mpi")
