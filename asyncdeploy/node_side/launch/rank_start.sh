# Before a rank starts: forget what a provider's image or another torchrun left. Every option of torchrun is read from
# PET_<NAME> too, and its workers believe the rest. rank_env.py joins these lines with "; " and puts its own behind.
# shellcheck shell=sh disable=SC2046
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE ROLE_NAME
unset PYTHON_EXEC TORCHELASTIC_RESTART_COUNT TORCHELASTIC_MAX_RESTARTS TORCHELASTIC_RUN_ID TORCHELASTIC_ERROR_FILE
unset TORCHELASTIC_USE_AGENT_STORE $(env | sed -n 's/^\(PET_[A-Za-z0-9_]*\)=.*/\1/p')
# Nor must a rank take the session that we came in by, a job of Slurm, LSF or MPI, for its own launch: Lightning and
# accelerate would. What is to stay is written in place of the "-" by rank_env.py.
asyncdeploy_names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p')
for asyncdeploy_name in $asyncdeploy_names; do case $asyncdeploy_name in -) ;; SLURM_* | SLURMD_* | OMPI_* | PMI_* | PMIX_* \
    | MV2_* | MPI_LOCAL* | JSM_* | LSB_* | PALS_*) unset "$asyncdeploy_name" ;; esac; done
unset asyncdeploy_name asyncdeploy_names
# Every Python below writes down the exception that ends it (node_side/launch/rank_shim.py), beside the rank's logs.
# In a container HOME is another one; a node inside a rank (a LocalCluster) has a home of its own again.
ASYNCDEPLOY_LAUNCH_FOLDER="${ASYNCDEPLOY_HOME:-$HOME}/.asyncdeploy/launches/$ASYNCDEPLOY_RUN_ID"
unset ASYNCDEPLOY_HOME
ASYNCDEPLOY_LOG_FOLDER="$ASYNCDEPLOY_LAUNCH_FOLDER/rank-$NODE_RANK"
ASYNCDEPLOY_ERRORS="$ASYNCDEPLOY_LOG_FOLDER/errors"
PYTHONPATH="$ASYNCDEPLOY_LAUNCH_FOLDER/tools/python${PYTHONPATH:+:$PYTHONPATH}"
export ASYNCDEPLOY_LAUNCH_FOLDER ASYNCDEPLOY_LOG_FOLDER ASYNCDEPLOY_ERRORS PYTHONPATH
