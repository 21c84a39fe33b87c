# Answer a question about jobs: for nodes without python3. processes.sh and job.sh stand above.
# usage: show ID | await ID SECONDS | stop ID GRACE | forbid ID END | list | log ID OFFSET LIMIT SECONDS
# stdout: for each job lines of a letter and what it has: N its id, S its spec, X its end, P its pids, I where it runs, A 1 or
# 0 for its leader and its keeper alive, L what lives of it, H who we are, Y 1 while it is just being started; "." ends it.
# shellcheck shell=sh disable=SC2034,SC2154

here=$(place)

show() { # ID
    folder=$base/$1
    [ -d "$folder" ] || return 0
    read_pids "$folder"
    echo "N$1"
    [ ! -e "$folder/spec.json" ] || printf 'S%s\n' "$(cat "$folder/spec.json")"
    echo "P$leader $leader_start $keeper $keeper_start"
    echo "I$place"
    echo "H$here"
    if is_same "$keeper" "$keeper_start"; then echo A1; else echo A0; fi
    # Looked at last: what has ended in the meantime has written its end by now.
    if [ -e "$folder/exit" ]; then
        printf 'X%s\n' "$(cat "$folder/exit")"
    elif [ -n "$place" ] && ! is_same "$keeper" "$keeper_start"; then
        mark=ASYNCDEPLOY_JOB=$1 child=$leader
        is_same "$leader" "$leader_start" || child=none
        echo "L$(living | tr '\n' ' ')"
    elif [ -z "$place" ] && [ -n "$(find "$folder" -maxdepth 0 -mmin -1 2>/dev/null)" ]; then
        echo Y1
    fi
    echo .
}

is_running() { # ID
    folder=$base/$1
    [ -d "$folder" ] && [ ! -e "$folder/exit" ] || return 1
    read_pids "$folder"
    [ -z "$place" ] || is_same "$keeper" "$keeper_start" || is_same "$leader" "$leader_start"
}

await() { # ID SECONDS
    looks=$(($2 * naps))
    while [ "$looks" -gt 0 ] && is_running "$1"; do
        looks=$((looks - 1))
        sleep "$nap"
    done
    show "$1"
}

stop() { # ID GRACE
    read_pids "$base/$1"
    if is_running "$1" && [ "${place%:*}" = "${here%:*}" ]; then
        if is_same "$keeper" "$keeper_start"; then
            echo "{\"grace_s\": $2}" | put "$base/$1/stop"
            kill -s TERM "$keeper"
            await "$1" $(($2 + 15))
            return
        fi
        mark=ASYNCDEPLOY_JOB=$1 child=$leader
        end "$2"
    fi
    show "$1"
}

forbid() { # ID END: a start that was given up finds its end
    mkdir -p "$base" && mkdir "$base/$1" 2>/dev/null && printf '%s\n' "$2" | put "$base/$1/exit"
    show "$1"
}

list() {
    for folder in "$base"/*/; do
        [ ! -d "$folder" ] || show "$(basename "$folder")"
    done
}

log() { # ID OFFSET LIMIT SECONDS: first the size, the place and whether it runs; then a line of ".", then the bytes
    file=$base/$1/log
    looks=$(($4 * naps))
    while :; do
        runs=0
        if is_running "$1"; then runs=1; fi
        size=$(wc -c 2>/dev/null <"$file") || size=0
        at=$2
        [ "$at" -ge 0 ] || at=$((size + at))
        [ "$at" -ge 0 ] || at=0
        if [ "$size" -gt "$at" ] || [ "$runs" = 0 ] || [ "$looks" -le 0 ]; then break; fi
        looks=$((looks - 1))
        sleep "$nap"
    done
    show "$1"
    echo "$((size)) $at"
    tail -c +"$((at + 1))" "$file" 2>/dev/null | head -c "$3"
}

"$@"
