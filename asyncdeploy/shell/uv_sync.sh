# Make a project's environment with uv; starts in the project's folder.
# usage: UV VENV SITE FROZEN PYTHON FILES [FLAG]...      FROZEN is auto, yes, no or locked; FILES are requirements, one a line;
# FLAGs are for uv sync
# shellcheck shell=sh
uv=$1 venv=$2 site=$3 frozen=$4 python=$5 files=$6
shift 6
unset VIRTUAL_ENV PYTHONHOME
# Named outright: in a uv workspace the default would be the top folder's, and an inherited value anybody's.
UV_PROJECT_ENVIRONMENT=$venv UV_NO_PROGRESS=1
export UV_PROJECT_ENVIRONMENT UV_NO_PROGRESS
made=$site/.asyncdeploy/uv.lock.made

find_lock() { # of the project, or of a uv workspace around it
    folder=$PWD
    while [ -n "$folder" ]; do
        [ -f "$folder/uv.lock" ] && { lock=$folder/uv.lock; return; }
        [ "$folder" = "$site" ] && break
        folder=${folder%/*}
    done
    lock=
}

# uv writes a lock where none was pushed. Such a one must not freeze the project: it would keep out what pyproject.toml
# asks for later. Its checksum tells it from a lock that was pushed; an empty note means that uv was ended in between.
is_ours() { [ -f "$made" ] && { [ ! -s "$made" ] || [ "$(cksum <"$lock")" = "$(cat "$made")" ]; }; }

sync() {
    find_lock
    if [ "$frozen" = locked ]; then
        rm -f "$made"
        "$uv" sync --locked "$@"
        return
    fi
    if [ "$frozen" = yes ] || { [ "$frozen" = auto ] && [ -n "$lock" ] && ! is_ours; }; then
        rm -f "$made"
        "$uv" sync --frozen "$@"
        return
    fi
    if [ -n "$lock" ] && ! is_ours; then # a pushed one that shall not freeze us
        "$uv" sync "$@"
        return
    fi
    mkdir -p "${made%/*}" && : >"$made" || return
    "$uv" sync "$@"
    status=$?
    find_lock
    [ -z "$lock" ] || cksum <"$lock" >"$made"
    return "$status"
}

has_venv() {
    found=$("$venv/bin/python" -I -S -V 2>&1) || return
    [ -z "$python" ] && return
    case $found in "Python $python" | "Python $python".*) return ;; esac
    return 1
}

make_venv() {
    has_venv && return
    rm -rf "$venv"
    "$uv" venv ${python:+--python "$python"} "$venv"
}

install_files() {
    set --
    while IFS= read -r file; do
        [ -f "$file" ] || { echo "error: no $file in $PWD" >&2; return 2; }
        set -- "$@" -r "$file"
    done <<END
$files
END
    "$uv" pip install --python "$venv/bin/python" "$@" || return
    printf '%s\n' "$files" | tr '\n' '\0' | xargs -0 cat -- | cksum >"$venv/.asyncdeploy-requirements"
}

if [ -n "$files" ]; then
    make_venv && install_files
elif [ -f pyproject.toml ]; then
    sync ${python:+--python "$python"} "$@"
elif [ "$#" -gt 0 ] || [ "$frozen" = yes ] || [ "$frozen" = locked ]; then
    echo "error: no pyproject.toml in $PWD: extra, groups, packages, frozen and locked have no meaning there" >&2
    exit 2
elif [ -f pylock.toml ]; then
    make_venv && "$uv" pip sync --python "$venv/bin/python" pylock.toml
elif [ -f requirements.txt ]; then
    make_venv && "$uv" pip install --python "$venv/bin/python" -r requirements.txt
else
    echo "note: neither pyproject.toml nor requirements.txt in $PWD: an environment without packages"
    make_venv
fi
