# Serve the client's requests one after the other, and the looks that pushes and collects share: for nodes without python3.
# usage: MARK       other programs follow this one; the last of them calls serve
# stdin: frames, "<bytes>" padded to 11 letters and a newline, then the bytes. 0 is a sign of life, "end" ends a body.
# A request is a frame of shell that ends with "# MARK", so that a cut one is never run; what it prints is followed by a line
# of MARK and its status: 0 done, 1 trouble (its text, and in the last line the room left), others as the request says.
# shellcheck shell=sh disable=SC2034
mark=$1
LC_ALL=C TZ=UTC0
export LC_ALL TZ
umask 022
exec 3<&0 </dev/null
limit='' # a client that vanished without a word is given 90 s
if timeout 1 true 2>/dev/null; then limit='timeout 90'; fi
fields='%f %s %i %Y %y %Z %z'

next_size() { # of the next frame; fails when the client is gone
    size=0
    while [ "$size" = 0 ]; do
        size=$($limit dd bs=12 count=1 iflag=fullblock <&3 2>/dev/null)
        size=${size%% *}
    done
    [ -n "$size" ]
}

take() { dd bs="$size" count=1 iflag=fullblock <&3 2>/dev/null; }

frames() { # copies a body
    while next_size && [ "$size" != end ]; do take; done
}

serve() {
    while next_size; do
        request=$(take)
        case $request in *"
# $mark") ;; *) exit 1 ;; esac
        eval "$request"
        printf '\n%s %s\n' "$mark" "$?"
    done
}

room() { # free and available blocks, their size, free and all inodes
    stat -f -c '%f %a %S %d %c' . 2>/dev/null || echo 0 0 0 0 0
}

trouble() { # TEXT
    printf '%s\n' "$1"
    room
    return 1
}

tools() { # says which one is missing
    for tool; do
        command -v "$tool" >/dev/null 2>&1 || { echo "$tool" && return 2; }
    done
    stat -c "$fields" / >/dev/null 2>&1 || { echo "stat" && return 2; }
}

look() { # PATH...: + or - for each, then what stat says of each that is there, or -
    for path; do
        shift
        if [ -e "$path" ] || [ -L "$path" ]; then
            set -- "$@" "$path"
            printf +
        else
            printf %s -
        fi
    done
    echo
    [ "$#" -gt 0 ] || return 0
    if found=$(stat -c "$fields" "$@" 2>/dev/null); then
        printf '%s\n' "$found"
    else
        for path; do stat -c "$fields" "$path" 2>/dev/null || echo -; done
    fi
}

sums() { # PATH...: the sha256 of each, or -
    if found=$(sha256sum "$@" 2>/dev/null); then
        printf '%s\n' "$found" | cut -c1-64
    else
        each_sum "$@"
    fi
}

each_sum() { # the same for names that sha256sum would not print in one line
    for path; do
        { sha256sum <"$path" || echo -; } 2>/dev/null
    done
}

links() { # PATH...: where each leads, with a newline and a NUL behind it
    for path; do
        readlink "$path"
        printf '\0'
    done
}

names() { # BYTES DEPTH PATH: what lies below, each with a NUL behind it; a site's own state is no result
    find "$3" -mindepth 1 -maxdepth "$2" -name .asyncdeploy -prune -o -mindepth 1 -print0 2>/dev/null | head -c "$1"
}
