# Take a push: for nodes without python3. The client decides, this does; sh_session.sh stands above.
# What lies in .asyncdeploy/ is what node_side/push/receiver.py puts there, so that either finishes what the other began.
# shellcheck shell=sh disable=SC2015,SC2088,SC2154
own=.asyncdeploy

begun() { # PATH: says its absolute path; whether a swap was begun there
    case $1 in
    '~/'*) site=${HOME:?}${1#?} ;;
    *) site=$1 ;;
    esac
    printf %s "$site"
    [ -f "$site/$own/journal" ]
}

open_site() { # PATH ON_CONFLICT: says the user's number and the absolute path, with NULs behind; then why not, with status 2
    case $1 in
    '~/'*) site=${HOME:?}${1#?} ;;
    *) site=$1 ;;
    esac
    printf '%s\0' "$(id -u)" "$site"
    check_place "$site" || return
    if [ ! -d "$site" ]; then
        why=$(mkdir -p "$site" 2>&1) || { trouble "$why" || return; }
        check_place "$site" || return
    fi
    why=$(cd "$site" 2>&1) || { trouble "$why" || return; }
    cd "$site" || return
    if [ ! -e "$own" ] && [ ! -L "$own" ]; then
        # Another deployer may have made our folder since we looked.
        if [ "$2" = refuse ] && [ -n "$(find . -mindepth 1 -print -quit)" ] && [ ! -e "$own" ]; then
            echo foreign
            return 2
        fi
        why=$(mkdir -m 700 "$own" 2>&1) || [ -d "$own" ] || { trouble "$why" || return; }
    fi
    ours "$own" || return
    [ -e "$own/staging" ] || why=$(mkdir -m 700 "$own/staging" 2>&1) || { trouble "$why" || return; }
    note_site
    ours "$own/staging"
}

look_site() { # PATH ON_CONFLICT: as open_site, but nothing is made; status 3 where nothing stands there
    case $1 in
    '~/'*) site=${HOME:?}${1#?} ;;
    *) site=$1 ;;
    esac
    printf '%s\0' "$(id -u)" "$site"
    check_place "$site" || return
    if [ ! -e "$site" ] && [ ! -L "$site" ]; then
        at=$site
        while [ -n "$at" ] && [ ! -d "$at" ]; do at=${at%/*}; done
        cd "${at:-/}" && return 3 # there would be its room
    fi
    why=$(cd "$site" 2>&1) || { trouble "$why" || return; }
    cd "$site" || return
    if [ ! -e "$own" ] && [ ! -L "$own" ]; then
        [ "$2" != refuse ] || [ -z "$(find . -mindepth 1 -print -quit)" ] || { echo foreign && return 2; }
    elif [ -L "$own" ] || [ ! -d "$own" ] || [ -z "$(find "$own" -prune -user "$(id -u)")" ]; then
        echo owner
        return 2
    fi
}

note_site() { # where it is, for those who clean up (node_side/push/places.py); a push does not fail over it
    places=${HOME:-/nowhere}/$own/sites
    { [ -d "$places" ] || (umask 077 && mkdir -p "$places"); } && printf %s "$site" >"$places/$(printf %s "$site" | cksum | tr ' ' -)"
} 2>/dev/null

check_place() { # PATH: whether nobody but us and root can put files there, as node_side/push/place.py looks; else says why not
    me=$(id -u) unknown=0 base=$(cd "$HOME" 2>/dev/null && pwd -P) at='' rest=$1 links=0
    read -r _ _ span 2>/dev/null </proc/self/uid_map || span=4294967295
    [ "$span" = 4294967295 ] || unknown=$(cat /proc/sys/kernel/overflowuid 2>/dev/null || echo 0)
    while [ -n "$rest" ]; do
        name=${rest%%/*}
        case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
        case $name in
        '' | .) continue ;;
        ..) here=${at%/*} ;;
        *) here=$at/$name ;;
        esac
        [ -n "$here" ] || { at='' && continue; }
        [ -e "$here" ] || [ -L "$here" ] || return 0
        check_step || return
    done
    case $base/ in "$at"/*) not_here home "$at" '' ;; esac
}

check_step() { # one folder or link on the way; goes on behind a link
    spared=false
    case $base/ in "$here"/*) spared=true ;; esac
    case ${HOME%/}/ in "$here"/*) spared=true ;; esac
    read -r user mode <<END
$(stat -c '%u %a' "$here")
END
    case $user in 0 | "$me" | "$unknown") ;; *) "$spared" || not_here owner "$here" "$user" || return ;; esac
    if [ -L "$here" ]; then
        links=$((links + 1))
        [ "$links" -le 40 ] || { trouble "$here: Too many levels of symbolic links" || return; }
        target=$(readlink "$here")
        case $target in /*) at='' ;; esac
        rest=$target/$rest
        return
    fi
    at=$here
    [ -d "$here" ] && case $mode in *[2367]) ;; *) false ;; esac || return 0
    case $mode in [1357]???) case $rest in *[!/]*) return 0 ;; esac ;; esac
    "$spared" || not_here open "$here" "$user"
}

not_here() { # WHY WHERE USER
    printf 'place\0%s\0%s\0%s' "$@"
    return 2
}

ours() { # FOLDER: a folder of this user, for nobody else
    if [ -L "$1" ] || [ ! -d "$1" ] || [ -z "$(find "$1" -prune -user "$(id -u)")" ]; then
        echo owner
        return 2
    fi
    why=$(chmod 700 "$1" 2>&1) || trouble "$why"
}

acquire() { # SECONDS HOLDER: the site's lock, which frees itself when we die; else says who holds it, with status 2
    end=$(($(date +%s) + $1)) holder=$2
    try=try_folder
    if command -v flock >/dev/null 2>&1; then
        why=$(umask 077 && : 2>&1 >>"$own/lock") || { trouble "$why" || return; }
        exec 9<>"$own/lock"
        try=try_flock
    fi
    until $try; do
        [ "$?" != 3 ] || { trouble "$why" || return; }
        if [ "$(date +%s)" -ge "$end" ]; then
            cat "$own/lock.d/holder" "$own/lock" 2>/dev/null | head -c 400
            return 2
        fi
        sleep 0.2 2>/dev/null || sleep 1
    done
    why=$(umask 077 && printf %s "$holder" 2>&1 >"$own/lock") || trouble "$why"
}

try_flock() { # where it does not work (no such applet, no locks on that file system) a folder serves
    flock -n 9 2>/dev/null
    case $? in
    0) return 0 ;;
    1) return 1 ;;
    esac
    try=try_folder
    try_folder
}

try_folder() { # with its owner inside, taken over when that is gone, or never said who it is; 3 with why if it cannot be made
    if why=$(mkdir -m 700 "$own/lock.d" 2>&1); then
        trap 'rm -rf "$site/$own/lock.d"' EXIT
        trap 'exit 143' HUP INT PIPE TERM
        me="$(place) $$ $(started_at "$$")"
        why=$({ printf %s "$holder" >"$own/lock.d/holder" && printf '%s\n' "$me" >"$own/lock.d/owner"; } 2>&1) && return
        rm -rf "$own/lock.d"
        return 3
    fi
    [ -e "$own/lock.d" ] || return 3 # the disk has no room for it, say
    read -r host pid start 2>/dev/null <"$own/lock.d/owner" || host=
    if [ -z "$host" ]; then
        [ -n "$(find "$own/lock.d" -prune -mmin +1 2>/dev/null)" ] || return 1
    else
        { is_here "$host" || [ "${host##*:}" = "$(uname -n)" ]; } && [ "$(started_at "$pid")" != "$start" ] || return 1
    fi
    mv "$own/lock.d" "$own/lock.d.$$" 2>/dev/null && rm -rf "$own/lock.d.$$" && try_folder
}

place() { # of this boot of this machine, as node_side/proc.py names it; its name for people stands behind
    boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    echo "$boot:$(started_at 1):$(stat -Lc %i /proc/self/ns/pid 2>/dev/null):$(uname -n)"
}

is_here() { this=$(place) && [ "${1%:*}" = "${this%:*}" ]; } # PLACE

started_at() { # PID: in clock ticks since boot, which tells it from a later process of the same number
    sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

step_files() { ls "$own/steps" 2>/dev/null; } # when steps ran that make an environment

record() { # NAME
    [ ! -f "$own/$1" ] || cat "$own/$1"
}

forget() { # NAME...
    for name; do rm -f "$own/$name"; done
}

is_fresh() { # whether nothing but our folder is there
    [ -z "$(find . -mindepth 1 -maxdepth 1 ! -name "$own" -print -quit)" ]
}

running() { # of each job that runs: its id and where, its record, with NULs behind; before them our own physical path
    here=$(pwd -P)
    printf '%s\0' "$here"
    names=$HOME/$own/jobs/.live # node_side/live_jobs.py; an older asyncdeploy made none
    [ -d "$names" ] || names=$HOME/$own/jobs
    for name in "$names"/*; do
        folder=$HOME/$own/jobs/${name##*/}/
        [ -f "${folder}pid" ] && [ ! -e "${folder}exit" ] || continue
        pid='' place='' host=''
        { read -r pid start _ && read -r place; } <"${folder}pid"
        [ -n "$pid" ] || continue
        host=${place##*:} # another machine that shares our home ends its jobs by what it writes
        if [ -z "$place" ] || is_here "$place" || [ "$host" = "$(uname -n)" ]; then
            host=''
            [ "$(started_at "$pid")" = "$start" ] || continue
            grep -q '^[0-9]* (.*) Z' "/proc/$pid/stat" 2>/dev/null && continue
        fi
        folder=${folder%/}
        printf '%s\0' "${folder##*/}${host:+ on $host}"
        head -c 1048576 "$folder/spec.json" 2>/dev/null
        printf '\0'
    done
}

physical() { # PATH...: where each leads, with a NUL behind it
    for path; do
        (cd "$path" 2>/dev/null && pwd -P | tr -d '\n')
        printf '\0'
    done
}

clear_staging() { rm -rf "$own/staging" && mkdir -m 700 "$own/staging"; }

take_tree() { # a body: tar
    if why=$(umask 0 && { frames | tar -xof - -C "$own/staging"; } 2>&1); then return; fi
    clear_staging
    trouble "$why"
}

stage_links() { # NUMBER TARGET...: links under the names link.<number> and on
    number=$1
    shift
    for target; do
        why=$(ln -s "$target" "$own/staging/link.$number" 2>&1) || { trouble "$why" || return; }
        number=$((number + 1))
    done
}

verify() { # a body: lines for sha256sum -c; says how many hold
    frames | (cd "$own/staging" && sha256sum -c 2>/dev/null) | grep -c ': OK$'
}

keep() { # NAME BYTES, a body: a file in our folder, whole or not at all
    why=$(umask 077 && { frames >"$own/$1.part"; } 2>&1)
    if [ "$(wc -c <"$own/$1.part")" -eq "$2" ] && mv -f "$own/$1.part" "$own/$1"; then return; fi
    rm -f "$own/$1.part"
    trouble "${why:-$1 was cut}"
}

swap() { # does what the client wrote to "swap"; once it began, nobody's death but our own stops it
    trap '' HUP INT PIPE TERM
    why=
    if [ -f "$own/journal.new" ]; then
        redo=false
        sync "$own/journal.new" 2>/dev/null || sync
        try mv -f "$own/journal.new" "$own/journal"
    else
        redo=true
    fi
    # shellcheck source=/dev/null
    . "./$own/swap"
    rm -f "$own/swap"
    [ -z "$why" ] || trouble "$why"
}

try() { # COMMAND...; the first failure ends it all
    [ -z "$why" ] || return
    if why=$("$@" 2>&1); then why=''; else why=${why:-$1 failed}; fi
}

remove() { # PATH...: but no folder
    for path; do
        shift
        if [ -L "$path" ] || [ ! -d "$path" ]; then set -- "$@" "$path"; fi
    done
    [ "$#" = 0 ] || try rm -f "$@"
}

remove_folders() { # PATH...: those that are empty now
    [ -n "$why" ] || rmdir "$@" 2>/dev/null
}

put() { # NAME PATH
    from=$own/staging/$1
    if "$redo" && [ ! -e "$from" ] && [ ! -L "$from" ]; then return; fi
    if [ -L "$2" ]; then # mv would follow it
        try rm -f "$2"
    elif [ -d "$2" ]; then # at most empty folders are in it; mv would move into it
        try find "$2" -depth -type d -exec rmdir {} \;
        [ ! -d "$2" ] || why=${why:-$2 is a folder and holds something}
    fi
    try mv -f "$from" "$2"
}

serve
