# Run a line in a development shell as it was evaluated once.
# usage: STATE LINE      starts and stays in the folder that the line shall start in
# shellcheck shell=sh
bash=$(command -v bash) || bash=$(sed -n "s/^BASH='\(.*\)'\$/\1/p" "$1/env.sh")
# What the shell's hook prints is not the command's output, and where it goes is not where the command starts.
# shellcheck disable=SC2016
exec "$bash" -c 'here=$PWD; . "$1/env.sh" >&2 </dev/null; cd "$here" || exit; exec sh -c "$2"' asyncdeploy-nix "$1" "$2"
