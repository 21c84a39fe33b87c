# What a run or a job has started, and how it is begun and ended: for nodes without python3. Other programs follow.
# Needs: $mark, the assignment that stands in the environment of every process of it; $child, its leader.
# shellcheck shell=sh disable=SC2034,SC2154
login=$(export -p) # what is assigned below must not reach what is started
if sleep 0.01 2>/dev/null; then nap=0.2 naps=5; else nap=1 naps=1; fi # naps: in a second
if printf 'a\0b\0' | grep -qzxF b 2>/dev/null; then whole=-zxF; else whole=-F; fi
limit=
if timeout 1 true 2>/dev/null; then limit=timeout; elif timeout -t 1 true 2>/dev/null; then limit='timeout -t'; fi
# A shell starts what runs beside it with INT and QUIT ignored, for good; where env can, they are made as they were.
afresh=
if env --default-signal=INT,QUIT true 2>/dev/null; then afresh='env --default-signal=INT,QUIT'; fi
if command -v setsid >/dev/null 2>&1; then afresh="$afresh setsid"; fi

# --- input --------------------------------------------------------------------

next_size() { # of the next block on descriptor 3; fails when the client is gone or silent for 90 s
    # shellcheck disable=SC2086 # two words, or one
    size=$($limit 90 dd bs=12 count=1 iflag=fullblock <&3 2>/dev/null)
    size=${size%% *}
    [ "$size" -ge 0 ] 2>/dev/null
}

copy_blocks() { # "<bytes>" padded to 11 letters and a newline, then the bytes; 0 ends them
    while [ "$size" -gt 0 ]; do
        # shellcheck disable=SC2086
        $limit 90 dd bs="$size" count=1 iflag=fullblock <&3 2>/dev/null || return
        next_size || exit
    done
}

take_input() { # onto descriptor 4, without a name: what does not read must not block the line
    next_size || exit
    if [ "$size" = 0 ]; then
        exec 4</dev/null
        return
    fi
    for place in "${TMPDIR:-/tmp}" /var/tmp /dev/shm "$HOME"; do
        file=$(mktemp "$place/.asyncdeploy-input.XXXXXX" 2>/dev/null) || continue
        dd if=/dev/zero of="$file" bs=65536 count=1 2>/dev/null && break
        rm -f "$file"
        file=
    done
    [ -n "$file" ] || fail "no room for its input: ${TMPDIR:-/tmp}, /var/tmp, /dev/shm and $HOME take nothing"
    exec 5>"$file"
    exec 4<"$file"
    rm -f "$file"
    copy_blocks >&5 || fail "no room for its input in $place"
    exec 5>&-
}

# --- start --------------------------------------------------------------------

enter() { # FOLDER: "" and ~ are the home
    # shellcheck disable=SC2088 # the tilde is text here
    case $1 in
        '' | '~')
            folder=$HOME
            if [ -z "$1" ] && [ ! -e "$folder" ]; then folder=/; fi # as sshd does for an account whose home is missing
            ;;
        '~/'*) folder=$HOME/${1#??} ;;
        *) folder=$1 ;;
    esac
    why=$(cd "$folder" 2>&1) || fail "${why##*: } (working folder $folder)"
    cd "$folder" || exit
}

begin() { # a leader, whose shell text comes on stdin and whose input is descriptor 4: nothing of it stands in ps
    # shellcheck disable=SC2016,SC2086 # for the shell that is started; words
    set -- $afresh "$0" -c 'exec 5<&0 <&4 4<&-; eval "exec 5<&-
$(cat <&5)"'
    eval "$login
export $mark SPT_NOENV=1 PYTHONUNBUFFERED=\${PYTHONUNBUFFERED-1}"
    exec "$@"
}

# --- end ----------------------------------------------------------------------

pids() { # FILE GREP-WORDS...: whose /proc/<pid>/FILE has it
    file=$1
    shift
    LC_ALL=C grep -ls "$@" /proc/[0-9]*/"$file" 2>/dev/null | sed 's|^/proc/\([0-9]*\)/.*|\1|'
}

living() { # its session and group, whatever carries the mark, and all below those; a zombie has ended
    found=$({
        pids stat -E "\\) [^ZX] [0-9]+ ($child [0-9]+|[0-9]+ $child) "
        pids environ "$whole" -e "$mark"
    } | sort -un)
    before=
    while [ "$found" != "$before" ]; do
        before=$found
        # shellcheck disable=SC2086 # one a line becomes one a word
        below=$(echo $found | tr ' ' '|')
        found=$({
            echo "$found"
            pids stat -E "\\) [^ZX] ($below) "
        } | sort -un)
    done
    [ -z "$found" ] || echo "$found"
}

send() { # SIGNAL
    for pid in $(living); do
        kill -s "$1" "$pid"
    done 2>/dev/null
}

await_end() { # SECONDS; fails if something lives on
    looks=$(($1 * naps))
    while [ -n "$(living)" ]; do
        [ "$looks" -gt 0 ] || return 1
        looks=$((looks - 1))
        sleep "$nap"
    done
}

lives() { LC_ALL=C grep -qsE '\) [^ZX] ' "/proc/$1/stat"; } # PID

has() { # SigCgt|SigIgn NUMBER PID: whether a process catches or ignores a signal
    mask=$(sed -n "s/^$1:[^0-9a-f]*........//p" "/proc/$3/status" 2>/dev/null)
    [ $((0x${mask:-0} >> ($2 - 1) & 1)) = 1 ]
}

is_passed() { # PID: whether it only stands in front of what people named: a shell, or `uv run`
    program=$(readlink "/proc/$1/exe" 2>/dev/null)
    program=${program##*/}
    words=" $(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline")"
    if [ "$program" = busybox ]; then
        words=${words# *busybox }
        words=${words# }
        program=${words%% *}
        program=${program##*/}
    fi
    case ${program#-} in
        sh | ash | dash | bash | rbash | zsh | ksh | ksh93 | mksh | lksh | oksh | yash | posh | fish | tcsh | csh) ;;
        uv) case $words in *' run '*) ;; *) return 1 ;; esac ;;
        *) return 1 ;;
    esac
}

follow() ( # PID: through its children, as node_side/named_programs.py does: E an end, N named, P passed, A around
    below=$(pids stat -E "\\) [^ZX] $1 ")
    if [ -z "$below" ] || ! is_passed "$1"; then
        echo "E $1"
        exit
    fi
    ahead=
    for pid in $below; do
        if has SigIgn 3 "$1" || ! has SigIgn 3 "$pid"; then ahead="$ahead $pid"; fi
    done
    if [ "$program" = uv ]; then
        echo "P $1"
    elif has SigCgt 15 "$1"; then
        if has SigCgt 14 "$1"; then echo "P $1"; else echo "N $1" && below=$ahead; fi
        # Where no env can undo it a leader ignores QUIT as well. One in `wait` is not deaf, and nothing is in front of it.
        case $(cat "/proc/$1/wchan" 2>/dev/null) in sigsuspend*) ahead='' below='' ;; esac
    else
        echo "A $1"
    fi
    for pid in ${ahead:-$below}; do follow "$pid"; done
)

tell() { # TERM to whom it is for; whose end is then awaited stands in $awaited
    ends='' saving='' around='' named='' awaited=''
    while read -r kind pid; do
        case $kind in
            N) named="$named $pid" ;;
            P) awaited="$awaited $pid" ;;
            A) around="$around $pid" ;;
            E) ends="$ends $pid" && ! has SigCgt 15 "$pid" || saving="$saving $pid" ;;
        esac
    done <<END
$(follow "$child")
END
    named="$named ${saving:-$around $ends}"
    awaited="$awaited $named"
    for pid in $named; do
        kill -s TERM "$pid"
    done 2>/dev/null
}

await_named() { # SECONDS: until they have ended, and the shells around them had their time to
    looks=$(($1 * naps)) after=$((2 * naps))
    while [ "$looks" -gt 0 ]; do
        found=
        for pid in $awaited; do ! lives "$pid" || found=yes; done
        if [ -z "$found" ]; then
            if [ "$after" = 0 ] || ! lives "$child"; then return; fi
            after=$((after - 1))
        fi
        looks=$((looks - 1))
        sleep "$nap"
    done
}

end() { # GRACE: TERM to the program that was named, or to what a leader left; then KILL to all; fails if something survives
    [ -e /proc/self/stat ] || return 1 # or where nobody can say that nothing does
    [ -n "$(living)" ] || return 0
    if lives "$child"; then
        tell
        await_named "$1"
    else
        send TERM
        await_end "$1" && return 0
    fi
    looks=$((2 * naps))
    while [ "$looks" -gt 0 ]; do # what was forked between two looks dies of the next
        looks=$((looks - 1))
        send KILL
        sleep "$nap"
        [ -n "$(living)" ] || return 0
    done
    return 1
}

run_on_end() { # LINE: ends what lives elsewhere (a container)
    [ -n "$1" ] || return 0
    # shellcheck disable=SC2016,SC2086,SC2163
    printf '%s' "$1" | (
        eval "$login"
        export "$mark"
        exec $limit 10 "$0" -c 'exec 5<&0 </dev/null; eval "exec 5<&-
$(cat <&5)"'
    ) >/dev/null 2>&1 3<&-
}
