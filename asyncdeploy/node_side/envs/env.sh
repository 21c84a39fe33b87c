# An environment in a site: look whether it stands, or make it under the site's lock.
# usage: MODE MARK SITE WORKDIR KEY CHECK INSPECT WAIT_S [LINE UNLESS]...      MODE is look or make
#
# What happened is said on stdout in lines that start with MARK: same, differs, waits, busy, step N, skipped, made, moved,
# failed STATUS; before same and made comes built, with what INSPECT printed when it was made. The marker file holds what the environment was made from; it is written when all steps are done, and only then.
# Names start with ad_ because steps share this shell: what one exports, the next one sees.
# shellcheck shell=sh
ad_mode=$1 ad_mark=$2 ad_site=$3 ad_workdir=$4 ad_key=$5 ad_check=$6 ad_inspect=$7 ad_wait=$8
shift 8
ad_state=$ad_site/.asyncdeploy
ad_marker=$ad_state/env
ad_new=$ad_state/env.new.$$
ad_built=$ad_state/env.built

ad_say() { printf '%s %s\n' "$ad_mark" "$*"; }

ad_say_built() { [ ! -s "$ad_built" ] || ad_say built "$(head -c 2000 "$ad_built" | tr -d '[:space:]')"; }

ad_look_at_it() { # what came of it, kept beside the marker: whoever looks later need not look again
    rm -f "$ad_built"
    [ -z "$ad_inspect" ] || (cd "$ad_workdir" && eval "$ad_inspect") >"$ad_built" 2>/dev/null </dev/null 9>&-
}

ad_hash() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else cksum; fi | tr -dc '0-9a-f'
}

ad_contents() { # of the files so named, from the project's folder up to the site's
    ad_folder=$ad_workdir
    while :; do
        for ad_name in "$@"; do
            for ad_file in "$ad_folder"/$ad_name; do
                [ -f "$ad_file" ] || continue
                printf '%s %s\n' "$ad_file" "$(cksum <"$ad_file")"
                cat "$ad_file"
            done
        done
        [ "$ad_folder" = "$ad_site" ] && break
        ad_folder=${ad_folder%/*}
        [ -n "$ad_folder" ] || break
    done
}

ad_sources() { ad_contents pyproject.toml uv.toml .python-version setup.py setup.cfg 'requirements*.txt' 'pylock*.toml' | ad_hash; }

ad_locks() { ad_contents uv.lock | ad_hash; }

ad_is_same() {
    [ -f "$ad_marker" ] && IFS= read -r ad_have <"$ad_marker" || return 1
    [ "$ad_have" = "$ad_key $(ad_sources) $(ad_locks)" ] || return 1
    [ -z "$ad_check" ] || (cd "$ad_workdir" && eval "$ad_check") >/dev/null 2>&1 </dev/null
}

ad_acquire() { # the site's lock, which frees itself when we die
    ad_waited=0
    if command -v flock >/dev/null 2>&1; then
        exec 9>>"$ad_state/env.lock"
        ad_try=ad_flock
    else
        ad_try=ad_make_lock
    fi
    until $ad_try; do
        [ "$ad_waited" -lt "$ad_wait" ] || return 1
        [ "$ad_waited" -gt 0 ] || ad_say waits
        ad_waited=$((ad_waited + 1))
        sleep 1
    done
}

ad_flock() { # where it does not work (no such applet, no locks on that file system) a folder serves
    flock -n 9 2>/dev/null
    case $? in
    0) return 0 ;;
    1) return 1 ;;
    esac
    ad_try=ad_make_lock
    ad_make_lock
}

ad_place() { # this boot of this machine or container, as node_side/proc.py names it; its name stands behind
    ad_boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    echo "$ad_boot:$(stat -Lc %i /proc/self/ns/pid 2>/dev/null):$(uname -n)"
}

ad_make_lock() { # without flock: a folder with its owner's pid and machine, taken over when that is gone
    ad_folder=$ad_state/env.lock.d
    if mkdir "$ad_folder" 2>/dev/null; then
        trap 'rm -rf "$ad_state/env.lock.d"' EXIT
        trap 'exit 143' HUP INT PIPE TERM
        echo "$$ $(ad_place)" >"$ad_folder/pid"
        return
    fi
    read -r ad_owner ad_host <"$ad_folder/pid" 2>/dev/null
    # Another machine's pid, in a home that both have, only looks dead from here.
    ad_here=$(ad_place)
    case $ad_host in "${ad_here%:*}":* | "${ad_here##*:}" | *:"${ad_here##*:}") ;; *) return 1 ;; esac
    if [ -n "$ad_owner" ] && ! kill -0 "$ad_owner" 2>/dev/null; then
        mv "$ad_folder" "$ad_folder.$$" 2>/dev/null && rm -rf "$ad_folder.$$"
    fi
    return 1
}

ad_step() { eval "$ad_line"; } # a function, so that a step's own `set --` does not touch our list

ad_steps() {
    ad_number=0
    while [ "$#" -gt 0 ]; do
        ad_line=$1 ad_unless=$2 ad_number=$((ad_number + 1))
        shift 2
        ad_say step "$ad_number"
        cd "$ad_workdir" || return
        if [ -n "$ad_unless" ] && (eval "$ad_unless") >/dev/null 2>&1; then
            ad_say skipped
            continue
        fi
        ad_step || return
    done
    printf '%s\n' "$ad_key $ad_before $(ad_locks)" >"$ad_new"
}

# When steps ran, by the file system's own clock: what they changed of the pushed files is not taken for a person's edit
# by the next push, which reads these files (node_side/push/site_folder.py).
ad_note_begin() { { [ -d "$ad_state/steps" ] || mkdir -m 700 "$ad_state/steps"; } && : >"$ad_state/steps/begun"; }

ad_note_end() {
    mv -f "$ad_state/steps/begun" "$ad_state/steps/$$.began" && : >"$ad_state/steps/$$.ended"
    # shellcheck disable=SC2012
    ls -t "$ad_state/steps" | tail -n +101 | while read -r ad_file; do rm -f "$ad_state/steps/$ad_file"; done
} 2>/dev/null

if [ "$ad_mode" = look ]; then
    if ad_is_same; then
        ad_say_built
        ad_say same
    else
        ad_say differs
    fi
    exit 0
fi
[ -d "$ad_state" ] || { mkdir -p "$ad_site" && mkdir -m 700 "$ad_state"; } 2>/dev/null || [ -d "$ad_state" ] || mkdir -m 700 "$ad_state" || exit
if ! ad_acquire; then
    ad_say busy
    exit 0
fi
if ad_is_same; then # somebody else has just made it
    ad_say_built
    ad_say same
    exit 0
fi
rm -f "$ad_marker" "$ad_state"/env.new.* || exit
ad_before=$(ad_sources)
ad_note_begin || exit
trap 'ad_note_end; exit 143' HUP INT PIPE TERM
(ad_steps "$@") </dev/null 2>&1 9>&-
ad_status=$?
ad_note_end
trap 'exit 143' HUP INT PIPE TERM
if [ ! -s "$ad_new" ]; then
    ad_say failed "$ad_status"
elif [ "$ad_before" != "$(ad_sources)" ]; then
    ad_say moved
else
    ad_look_at_it
    ad_say_built
    mv -f "$ad_new" "$ad_marker" && ad_say made
fi
rm -f "$ad_new"
