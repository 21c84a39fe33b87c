# Find a python3 that is new enough and starts. Each is tried for real, its input open and silent as a worker's would be, so
# that one which hangs, waits for input, floods us or is none at all is known before it is relied on.
# usage: MARK OLDEST SECONDS PID [SKIP]...      OLDEST as in sys.hexversion; SECONDS that one may take; PID of one that was
# begun and hung, 0 for none; SKIP: those that are known not to do
# stdout: for each until one is to be used a line of MARK, "not" or "use", its sys.hexversion or -, its path
# and, behind one that is not to be used, why
# shellcheck shell=sh disable=SC2088
mark=$1 oldest=$2 seconds=$3 hung=$4
shift 4
seen='|'
for path; do seen="$seen$path|"; done
home=${HOME:-/}
exec 3<&0 </dev/null
IFS=: # of PATH; nothing else here is split

# What hung holds its session's slot of MaxSessions. It led a session of its own, unless the server makes none.
if [ "$hung" -gt 1 ]; then
    kill -s KILL -- "-$hung" 2>/dev/null || kill -s KILL "$hung" 2>/dev/null
fi

if timeout -s KILL 1 true 2>/dev/null; then
    bounded() { timeout -s KILL "$seconds" "$@" <&3 3<&-; }
else
    bounded() {
        "$@" <&3 3<&- &
        its=$!
        { sleep "$seconds" && kill -s KILL "$its"; } >/dev/null 2>&1 3<&- &
        wait "$its"
        its=$?
        kill -s KILL "$!"
        return "$its"
    }
fi

# What our line and the worker need first. A python2 takes it for an answer as well.
code='import sys
print("\n%s=%d=" % (sys.argv[1], sys.hexversion))
import os, select, _frozen_importlib_external'

try() { # PATH; whether it is to be used
    [ -f "$1" ] && [ -x "$1" ] || return 1
    real=$(readlink -f "$1" 2>/dev/null) || real=$1
    case $seen in *"|$1|"* | *"|$real|"*) return 1 ;; esac
    seen="$seen$1|$real|"
    path=$1
    case $path in "${home%/}"/*) [ "$home" = / ] || path="~${path#"${home%/}"}" ;; esac
    case ${path#"~"} in *[!A-Za-z0-9/._+@%=-]*) refuse - "a path of letters and digits was expected" || return ;; esac
    said=$({
        bounded "$1" -I -S -X utf8 -c "$code" "$mark"
        echo "$mark:$?"
    } 2>&1 | head -c 4096)
    status=${said##*"$mark:"}
    version=${said##*"$mark="}
    version=${version%%=*}
    said=$(printf '%s\n' "${said%"$mark"*}" | grep -v '^ *$' | tail -n 1 | cut -c1-200)
    case $status in
    0) ;;
    124 | 137) refuse - "did not answer within $seconds s" || return ;;
    *[!0-9]*) refuse - "printed over 4096 bytes" || return ;;
    *) refuse - "exited $status: $said" || return ;;
    esac
    case $version in '' | *[!0-9]*) refuse - "does not say its version: $said" || return ;; esac
    [ "$version" -ge "$oldest" ] || refuse "$version" "too old" || return
    printf '%s use %s %s\n' "$mark" "$version" "$path"
}

refuse() { # VERSION WHY
    printf '%s not %s %s: %s\n' "$mark" "$1" "$path" "$2"
    return 1
}

search() {
    folders=/usr/bin:/usr/local/bin:$PATH
    for name in '' .13 .12 .11 .10 .9 .8 .14 .15 .16; do
        for folder in $folders; do
            case $folder in /*) if try "$folder/python3$name"; then return; fi ;; esac
        done
    done
    for path in \
        /opt/conda /opt/miniconda3 /opt/miniforge3 /opt/anaconda3 /opt/mambaforge /opt/python/* /opt/rh/*/root/usr \
        /usr/local/* "$home"/.local "$home"/miniconda3 "$home"/miniforge3 "$home"/anaconda3 "$home"/mambaforge \
        "$home"/.pyenv/versions/* "$home"/.local/share/uv/python/* "$home"/.nix-profile; do
        if try "$path/bin/python3"; then return; fi
    done
}

search
