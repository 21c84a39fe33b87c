# Run one command for the client and hold it on a leash: for nodes without python3. processes.sh stands above.
# usage: MARK GRACE SILENCE CWD ON_END BODY
# stdin: the command's input in blocks (see copy_blocks), then a line for each sign of life: h; k wants its end.
# stdout: "start", "failed WHY" or "missing TOOL" in the first line, then the command's own. Our status is the command's;
# a run that was stopped and of which something could not be ended is told by our death by KILL.
# shellcheck shell=sh disable=SC2034,SC2154,SC2317
mark=ASYNCDEPLOY_RUN=$1 grace=$2 silence=$3 cwd=$4 on_end=$5 body=$6
exec 3<&0 </dev/null

fail() {
    printf 'failed %s\n' "$1"
    exit 1
}

hear() { # one sign of the client; fails when it is gone, wants the end, or has been silent for too long
    # shellcheck disable=SC2086,SC2016 # two words, or one; for the shell that is started
    $limit "$silence" "$0" -c 'IFS= read -r word <&3 && [ "$word" = h ]' &
    ear=$!
    wait "$ear"
}

hold() { # the leash; 7 says that it acted
    ear=
    trap 'kill -s TERM "$ear"; exit 0' TERM # who still listened would hold the line
    while hear; do :; done
    trap '' TERM
    end "$grace"
    exit 7
}

if [ -z "$limit" ]; then
    echo "missing timeout"
    exit 1
fi
take_input
enter "$cwd"
echo start
printf '%s' "$body" | begin 3<&- &
child=$!
cd "$HOME" || cd / || exit # nobody's folder is held by us
exec 4<&-
hold >/dev/null 2>&1 &
leash=$!
{ wait "$child"; } 2>/dev/null # bash would tell of a signal there
status=$?
exec >/dev/null 2>&1
kill -s TERM "$leash"
wait "$leash"
stopped=$?
end 2
left=$?
if [ "$stopped" = 7 ]; then
    run_on_end "$on_end"
    [ "$left" = 0 ] || kill -s KILL "$$"
fi
exit "$status"
