# Say what lies at a path and send it: for nodes without python3. The client asks, this answers; sh_session.sh stands above.
# shellcheck shell=sh disable=SC2088

open_source() { # PATH: goes there; says the time, and "folder" or "file NAME"; with status 2 why there is nothing to send
    case $1 in
    '~') source=${HOME:?} ;;
    '~/'*) source=${HOME:?}${1#?} ;;
    *) source=$1 ;;
    esac
    if [ -d "$source" ]; then
        why=$(cd "$source" 2>&1) || { refuse "$why" || return; }
        cd "$source" || return
        [ -r . ] || { refuse "Permission denied" || return; }
        echo "$(date +%s) folder"
    elif [ -e "$source" ]; then
        case $source in */) refuse "Not a directory" || return ;; esac
        cd "${source%/*}/" || return
        echo "$(date +%s) file ${source##*/}"
    else
        why=$(stat -L -c %f "$source" 2>&1) || { refuse "$why" || return; }
    fi
}

refuse() {
    printf '%s\n' "${1##*: }"
    return 2
}

closed() { # FOLDER...: + or - for each; what lies in a + one cannot be read
    for path; do
        if [ -r "$path" ] && [ -x "$path" ]; then printf %s -; else printf +; fi
    done
}

zeros() { # fills up what became shorter, so that the client still knows where it ends
    cat /dev/zero || while printf '%01024d' 0; do :; done
}

fetch() { # BYTES PATH...: so many bytes, the files one behind the other
    bytes=$1
    shift
    { cat "$@"; zeros; } 2>/dev/null | head -c "$bytes"
}

fetch_one() { # PATH OFFSET SHA256 LIMIT: "SIZE START", the bytes from START on, then three hashes; or "- why it is not sent"
    if [ -L "$1" ] || [ ! -e "$1" ]; then echo "- it vanished" && return; fi
    if [ ! -f "$1" ]; then echo "- it is no regular file any more" && return; fi
    if [ ! -r "$1" ]; then echo "- Permission denied" && return; fi
    size=$(($(wc -c <"$1") + 0)) start=0
    if [ "$2" -gt 0 ] && [ "$2" -le "$size" ] && [ "$(beginning "$1" "$2")" = "$3" ]; then start=$2; fi
    if [ $((size - start)) -gt "$4" ]; then echo "- over the budget of bytes: it changed since it was listed" && return; fi
    echo "$size $start"
    { tail -c "+$((start + 1))" "$1"; zeros; } 2>/dev/null | head -c $((size - start))
    # Of the whole as it was when we began, of what was sent of it, and of what was not: one state, or a mixture.
    beginning "$1" "$size"
    tail -c "+$((start + 1))" "$1" 2>/dev/null | head -c $((size - start)) | sha256sum | cut -c1-64
    beginning "$1" "$start"
}

beginning() { # PATH BYTES: the hash of so many
    head -c "$2" <"$1" 2>/dev/null | sha256sum | cut -c1-64
}

serve
