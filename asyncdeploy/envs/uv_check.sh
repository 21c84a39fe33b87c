# See whether a project's environment works and was made from what is there now; those that nobody runs in any more go.
# Runs in a subshell of another script.
# usage: VENV KEPT MADE_NOTE MADE_FROM VENVS SITE WORKDIR [FILE]...      the third to the fifth are programs of node_side/envs;
# ASYNCDEPLOY_TREE is the digest of what was pushed; with ASYNCDEPLOY_ONLY_LOOK nothing is removed or written
# shellcheck shell=sh
link=$1 kept=$2 made_note=$3 made_from=$4 venvs=$5 site=$6 workdir=$7
shift 7
run() { "$link/bin/python" -I -S -c "$@"; }

run "$made_note" look "$link/.asyncdeploy-made-from" "$made_from" "$site" "$workdir" "${ASYNCDEPLOY_TREE-}" "$@" || exit
[ -z "${ASYNCDEPLOY_ONLY_LOOK-}" ] || exit 0
set -- "$kept"/*/pyvenv.cfg
[ "$#" -lt 2 ] || run "$venvs" prune "$link" "$kept" || :
