# Before a command: enter the environment that .venv is a link to now, and hold it for as long as the command runs. What
# is deployed meanwhile turns the link, and removes no environment that is held: by its lock, which is inherited and
# works through containers and a home that machines share. uv.py puts a line "asyncdeploy_venv=PATH_OF_LINK" in front.
# shellcheck shell=sh disable=SC2154
while :; do
    VIRTUAL_ENV=$(readlink "$asyncdeploy_venv") || VIRTUAL_ENV=$asyncdeploy_venv # a folder of its own, made by hand
    [ -f "$VIRTUAL_ENV.lock" ] || break
    command exec 9<"$VIRTUAL_ENV.lock" || break
    flock -s 9 || "$VIRTUAL_ENV/bin/python" -I -S -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_SH)'
    # It may have been removed before we held it: then the link has been turned since we read it.
    [ -e "$VIRTUAL_ENV/pyvenv.cfg" ] && break
    [ "$VIRTUAL_ENV" = "$(readlink "$asyncdeploy_venv")" ] && break
done 2>/dev/null
unset asyncdeploy_venv PYTHONHOME
export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin${PATH:+:$PATH}"
