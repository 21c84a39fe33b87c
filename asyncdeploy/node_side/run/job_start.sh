# Start a job once, however often it is asked for: for nodes without python3. processes.sh and job.sh stand above.
# usage: ID SPEC SAME KEEPER      SPEC: its JSON without the last brace; SAME: what stands in the spec of a job of this name
# and site; KEEPER: the script that keeps the job (job_keep.sh)
# stdin: the job's input in blocks (see copy_blocks). stdout: "ok", "again", "exists ID" or "failed WHY".
# shellcheck shell=sh disable=SC2154
id=$1 spec=$2 same=$3 keeper_script=$4
folder=$base/$id
exec 3<&0 </dev/null

fail() {
    [ ! -e "$folder/pid" ] && rm -rf "$folder" "$base/.live/$id"
    printf 'failed %s\n' "$1"
    exit
}

twin() { # the id of a running job of the same name and site
    live_ids | while IFS= read -r name; do
        other=$base/$name
        if [ "$name" = "$id" ]; then continue; fi
        if [ -e "$other/exit" ] || [ ! -d "$other" ]; then
            rm -f "$base/.live/$name"
            continue
        fi
        grep -qF -e "$same" "$other/spec.json" 2>/dev/null || continue
        read_pids "$other"
        if [ -z "$place" ]; then
            # It is just being started: of two such the one whose id is lower goes on.
            [ "$(printf '%s\n%s\n' "$name" "$id" | sort | head -n 1)" = "$name" ] && echo "$name" && break
        elif is_here "$place" && { is_same "$keeper" "$keeper_start" || is_same "$leader" "$leader_start"; }; then
            echo "$name" && break
        fi
    done
}

[ -z "${ASYNCDEPLOY_STEP-}" ] || fail "in a step of a Slurm job it would end with this call, unless the node had python3"

take_input # all of it first: a line that is cut leaves no half of a start
[ -d "$HOME" ] || fail "there is no home folder $HOME"
mkdir -p "$base" 2>/dev/null || fail "no folder for it: $base"
if ! mkdir "$folder" 2>/dev/null; then
    [ -d "$folder" ] || fail "no folder for it: $folder"
    echo again
    exit
fi
live_ids >/dev/null
{ : >"$base/.live/$id"; } 2>/dev/null || fail "no room in $base"
printf '%s}\n' "$spec" | put "$folder/spec.json" || fail "no room in $folder"
other=$(twin)
if [ -n "$other" ]; then
    rm -rf "$folder" "$base/.live/$id"
    echo "exists $other"
    exit
fi
own=
if command -v setsid >/dev/null 2>&1; then own=setsid; fi
# shellcheck disable=SC2016,SC2086 # for the shell that is started; a word or none
printf '%s' "$keeper_script" | $own "$0" -c 'exec 9<&0 </dev/null; eval "exec 9<&-
$(cat <&9)"' >/dev/null 2>&1 3<&- &
looks=$((30 * naps))
until [ -s "$folder/pid" ] || [ -e "$folder/why" ] || [ -e "$folder/exit" ]; do
    [ "$looks" -gt 0 ] || fail "its supervisor did not start"
    looks=$((looks - 1))
    sleep "$nap"
done
if [ -e "$folder/why" ]; then fail "$(cat "$folder/why")"; fi
echo ok
