# What is told of a job's folder, and by what its processes are known: for nodes without python3. Others follow this one.
# The folder is that of node_side/job_folder.py, so that either side understands the other's jobs.
# shellcheck shell=sh disable=SC2034,SC2154
umask 077
base=$HOME/.asyncdeploy/jobs

started_at() { # PID: its start in clock ticks since boot; nothing if it has ended
    row=$(cat "/proc/$1/stat" 2>/dev/null) || return
    row=${row##*) }
    case $row in [ZX]*) return 1 ;; esac
    # shellcheck disable=SC2086 # words
    set -- $row
    shift 19
    echo "$1"
}

place() { # of this boot of this machine or container: its identity, and its name behind that, for people
    boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    echo "$boot:$(started_at 1):$(stat -Lc %i /proc/self/ns/pid 2>/dev/null):$(uname -n)"
}

is_here() { this=$(place) && [ "${1%:*}" = "${this%:*}" ]; } # PLACE

read_pids() { # FOLDER
    leader=0 leader_start=0 keeper=0 keeper_start=0 above=0 above_start=0 place=
    { read -r leader leader_start keeper keeper_start above above_start && read -r place; } 2>/dev/null <"$1/pid"
    # One that a python3 has started has a supervisor, and a keeper that goes on where that one was killed.
    if is_same "${above:-0}" "$above_start" && ! is_same "$keeper" "$keeper_start"; then
        keeper=$above keeper_start=$above_start
    fi
}

is_same() { [ "$1" != 0 ] && [ "$(started_at "$1")" = "$2" ]; } # PID START

put() { # FILE: stdin, whole or not at all
    cat >"$1.$$.part" && mv -f "$1.$$.part" "$1"
}

live_ids() { # the jobs that may run, as node_side/live_jobs.py has them; where there is no list yet, one is made
    if [ ! -d "$base/.live" ] && new=$(mktemp -d "$base/.live.XXXXXX" 2>/dev/null); then
        for each in "$base"/*/; do
            each=${each%/}
            [ ! -d "$each" ] || [ -e "$each/exit" ] || : >"$new/${each##*/}"
        done
        mv "$new" "$base/.live"
    fi
    for each in "$base"/.live/*; do
        [ ! -e "$each" ] || printf '%s\n' "${each##*/}"
    done
}
