# Run one command for the client and hold it on a leash: for nodes without python3. processes.sh stands above.
# usage: MARK GRACE SILENCE CWD ON_END BODY
# stdin: the command's input in blocks (see copy_blocks), then a line for each sign of life: h; k wants its end.
# stdout: "start", "failed WHY" or "missing TOOL" in the first line, then the command's own. Our status is the command's;
# we die of KILL instead where the client was away, or something of a stopped run could not be ended: no status then.
# shellcheck shell=sh disable=SC2034,SC2154,SC2317
mark=ASYNCDEPLOY_RUN=$1 grace=$2 silence=$3 cwd=$4 on_end=$5 body=$6
exec 3<&0 </dev/null

fail() {
    printf 'failed %s\n' "$1"
    exit 1
}

hear() { # one sign of the client; fails with 7 when it wants the end, otherwise when it is gone or silent for too long
    # shellcheck disable=SC2086,SC2016 # two words, or one; for the shell that is started
    $limit "$silence" "$0" -c 'IFS= read -r word <&3 || exit 8; [ "$word" = h ] || exit 7' &
    ear=$!
    wait "$ear"
}

hold() { # the leash; 7 says that it acted for the client, 8 that it acted because there was none
    ear=
    trap 'kill -s TERM "$ear"; exit 0' TERM # who still listened would hold the line
    until
        hear
        why=$?
        [ "$why" != 0 ]
    do :; done
    trap '' TERM
    end "$grace"
    [ "$why" = 7 ] || exit 8
    exit 7
}

keep_hold() { # the leash, and the end of all where who holds it is killed: nobody would hear the client any more
    holder='' told=''
    trap 'told=yes; [ -z "$holder" ] || kill -s TERM "$holder"' TERM
    hold &
    holder=$!
    [ -z "$told" ] || kill -s TERM "$holder"
    wait "$holder"
    why=$?
    if [ -n "$told" ]; then # our trap interrupts a wait: it said nothing of the holder then, or the second says 127
        # One that was just forked still has our traps for a moment, and a signal that comes then is lost: said until heard.
        said=0
        while lives "$holder"; do
            kill -s TERM "$holder" 2>/dev/null
            said=$((said + 1))
            [ "$said" -lt 9 ] || sleep "$nap" # mostly it is gone within two looks
        done
        wait "$holder"
        again=$?
        [ "$again" = 127 ] || why=$again
    fi
    case $why in 7 | 8) exit "$why" ;; esac
    if [ "$why" = 0 ] || [ -n "$told" ]; then exit 0; fi
    trap '' TERM
    end "$grace"
    exit 8
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
keep_hold >/dev/null 2>&1 &
leash=$!
{ wait "$child"; } 2>/dev/null # bash would tell of a signal there
status=$?
exec >/dev/null 2>&1
kill -s TERM "$leash"
wait "$leash"
stopped=$?
end 2
left=$?
case $stopped in 7 | 8) run_on_end "$on_end" ;; esac
if [ "$stopped" = 8 ] || { [ "$stopped" = 7 ] && [ "$left" != 0 ]; }; then
    kill -s KILL "$$"
fi
exit "$status"
