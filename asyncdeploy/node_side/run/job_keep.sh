# Keep a job: begin it, end it when asked or late, write down how it ended. For nodes without python3; processes.sh and
# job.sh stand above. It lives in a session of its own and outlives the client and sshd.
# usage: ID SPEC TIMEOUT CWD ON_END BODY     TIMEOUT: whole seconds, or nothing
# shellcheck shell=sh disable=SC2034,SC2154
id=$1 spec=$2 timeout=$3 cwd=$4 on_end=$5 body=$6
mark=ASYNCDEPLOY_JOB=$id
job=$base/$id
trap '' HUP INT PIPE
stopping=''
trap 'stopping=yes' TERM

fail() {
    printf '%s\n' "$1" | put "$job/why"
    exit 1
}

grace_of() { # of the stop that was asked for, in whole seconds
    asked=$(sed 's/[^0-9.]//g; s/[.].*//' "$job/stop" 2>/dev/null)
    echo "${asked:-5}"
}

yes_or() { if [ -n "$1" ]; then echo true; else echo false; fi; }

write_end() { # STATUS: into room that was taken at the start, so that a full disk does not lose it
    survivors=$(living | sed 's/.*/"& ?"/' | head -n 50 | tr '\n' ',')
    possible=false
    [ "$1" -le 128 ] || possible=true
    end="{\"status\": $1, \"signal\": null, \"ended_at\": $ended_at, \"survivors\": [${survivors%,}]"
    end="$end, \"stopped\": $(yes_or "$stopping"), \"timed_out\": $(yes_or "$late"), \"signal_possible\": $possible}"
    printf '%s' "$end" | dd of="$job/.exit-room" conv=notrunc 2>/dev/null
    mv -f "$job/.exit-room" "$job/exit"
}

keep_bounded() { # of what has ended the newest thousand, for 30 days, a hundred always, as node_side/run/retention.py does
    {
        # shellcheck disable=SC2012
        newest=$(ls -t "$base" | head -n 100)
        find "$base" -mindepth 2 -maxdepth 2 -name exit -mtime +30 | sed 's|/exit$||; s|.*/||' | grep -vxF -e "$newest"
        # shellcheck disable=SC2012
        ls -t "$base" | tail -n +1001
    } 2>/dev/null | head -n 200 | while IFS= read -r old; do
        [ ! -e "$base/$old/exit" ] || rm -rf "${base:?}/$old" "$base/.live/$old"
    done
}

enter "$cwd"
printf '%4095s\n' '' >"$job/.exit-room" || fail "no room in $job"
: >>"$job/log"
printf '%s' "$body" | begin >>"$job/log" 2>&1 &
child=$!
cd / || exit
exec 4<&-
printf '%s, "started_at": %s}\n' "$spec" "$(date +%s)" | put "$job/spec.json"
if ! printf '%s %s %s %s\n%s\n' "$child" "$(started_at "$child" || echo 0)" "$$" "$(started_at "$$")" "$(place)" |
    put "$job/pid"; then
    kill -s KILL "$child" # a job that nobody could find again must not run
    fail "no room in $job"
fi
late=''
timer=''
if [ -n "$timeout" ]; then
    (
        trap - TERM
        sleep "$timeout"
        : >"$job/.late"
        kill -s TERM "$$"
    ) &
    timer=$!
fi
{ wait "$child"; } 2>/dev/null
status=$?
if [ -n "$stopping" ]; then
    if [ -e "$job/.late" ] && [ ! -e "$job/stop" ]; then late=yes; fi
    end "$(grace_of)"
    # Our trap interrupts a wait: what it said then was not the leader's. 127 says that it had ended before.
    { wait "$child"; } 2>/dev/null
    again=$?
    [ "$again" = 127 ] || status=$again
fi
ended_at=$(date +%s)
trap '' TERM
[ -z "$timer" ] || kill -s TERM "$timer" 2>/dev/null
end 2
[ -z "$stopping" ] || run_on_end "$on_end"
write_end "$status"
rm -f "$base/.live/$id"
keep_bounded
