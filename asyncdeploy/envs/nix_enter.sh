# Run a line in a development shell as it was evaluated once.
# usage: STATE      starts and stays in the folder that the line shall start in; the line stands in ASYNCDEPLOY_NIX_LINE: in
# arguments everybody could read it, and a `pkill -f` in it would find the shell that runs it
# shellcheck shell=sh
bash=$(command -v bash) || bash=$(sed -n "s/^BASH='\(.*\)'\$/\1/p" "$1/env.sh")
# shellcheck disable=SC2016
text='eval "unset ASYNCDEPLOY_NIX_LINE
$ASYNCDEPLOY_NIX_LINE"'
# What the shell's hook prints is not the command's output, and where it goes is not where the command starts.
# shellcheck disable=SC2016
exec "$bash" -c 'here=$PWD; . "$1/env.sh" >&2 </dev/null; cd "$here" || exit; exec sh -c "$2"' asyncdeploy-nix "$1" "$text"
