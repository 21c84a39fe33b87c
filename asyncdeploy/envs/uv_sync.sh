# Make a project's environment with uv; starts in the project's folder.
# usage: UV VENV KEPT SITE FROZEN PYTHON FILES MADE_NOTE MADE_FROM [FLAG]...      FROZEN is auto, yes, no, locked, upgrade or
# offline; FILES are requirements, one a line; MADE_NOTE and MADE_FROM are programs of node_side/envs; FLAGs are for uv
# sync. ASYNCDEPLOY_TREE is the digest of what was pushed: as a word it would be part of the environment's name.
# VENV is a link to one of the folders in KEPT. A new one is made and named in KEPT/next: node_side/envs/venvs.py turns the
# link to it when all steps are done, so that the one in use stays whole whatever becomes of us.
# shellcheck shell=sh
uv=$1 link=$2 kept=$3 site=$4 frozen=$5 python=$6 files=$7 made_note=$8 made_from=$9
shift 9
# Of an image's own settings those go that would turn uv to another project or environment; of the others we speak if it
# fails.
unset VIRTUAL_ENV PYTHONHOME UV_PROJECT UV_WORKING_DIR UV_WORKING_DIRECTORY UV_SYSTEM_PYTHON UV_NO_SYNC UV_DRY_RUN
theirs=$(env | sed -n 's/^\(UV_[A-Z0-9_]*\)=.*/\1/p' | tr '\n' ' ')
UV_NO_PROGRESS=1
export UV_NO_PROGRESS
made=$site/.asyncdeploy/uv.lock.made

fits() { # whether a copy of this one can become the new one: it may lie anywhere, works, and has the Python asked for
    grep -q '^relocatable = true' "$1/pyvenv.cfg" 2>/dev/null && found=$("$1/bin/python" -I -S -V 2>&1) || return
    [ -z "$python" ] && return
    case $found in "Python $python" | "Python $python".*) return ;; esac
    return 1
}

has_hard_links() { ln "$1/pyvenv.cfg" "$kept/try.$$" 2>/dev/null && rm -f "$kept/try.$$"; }

prepare_venv() {
    current=$(readlink "$link")
    case $current in "$kept"/*) ;; *) current='' ;; esac
    mkdir -p "$kept" || return
    left=$(cat "$kept/next" 2>/dev/null) # what another try left half-made, unless it is the one in use
    case $left in
    "$current") ;;
    "$kept"/*) rm -rf "$left" "$left.lock" || return ;;
    esac
    rm -rf "$kept"/*.gone
    venv=$kept/$(date +%s)-$$ # never used twice: who has just read the link must not find another one there
    printf '%s\n' "$venv" >"$kept/next" && : >"$venv.lock" || return
    # uv never writes into an installed file, which may be its cache's own: the copy's files are links.
    if [ -n "$current" ] && fits "$current" && has_hard_links "$current"; then
        cp -al "$current" "$venv" || return
        # Bytecode of modules that lie in no package: uv leaves it when it replaces them, and Python tells it from that of
        # another file by whole seconds and the size.
        rm -rf "$venv"/lib/python*/site-packages/__pycache__
    else
        "$uv" venv -q --relocatable ${python:+--python "$python"} "$venv" || return
    fi
    # Named outright: in a uv workspace the default would be the top folder's, and an inherited value anybody's.
    UV_PROJECT_ENVIRONMENT=$venv
    export UV_PROJECT_ENVIRONMENT
    note_sources
}

note_sources() { # before uv looks at them: what changes from now on makes another environment
    note=.asyncdeploy-made-from
    set -- "$site" "$PWD" "${ASYNCDEPLOY_TREE-}"
    while IFS= read -r file; do
        [ -z "$file" ] || set -- "$@" "$file"
    done <<END
$files
END
    # Local packages that are not what they were: uv sees some of it, and not that the code of one that it copied changed.
    "$venv/bin/python" -I -S -c "$made_from" "$venv/$note" "$@" &&
        again=$("$venv/bin/python" -I -S -c "$made_note" again "$venv/$note" "$link/$note")
}

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
    # shellcheck disable=SC2086 # options, a word each
    set -- $again "$@"
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
    [ "$frozen" = upgrade ] && set -- --upgrade "$@"
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

install_files() {
    # shellcheck disable=SC2086 # options, a word each
    set -- $again
    while IFS= read -r file; do
        [ -f "$file" ] || { echo "error: no $file in $PWD" >&2; return 2; }
        set -- "$@" -r "$file"
    done <<END
$files
END
    "$uv" pip install --python "$venv/bin/python" ${upgrade:+"$upgrade"} "$@"
}

sync_offline() { # from the wheels that were sent: those that nothing names any more are removed
    wheels=$site/.asyncdeploy/wheels
    # A folder of wheels that the project names need not be on the node, and uv would insist on it.
    if grep -qs '^ *find-links' pyproject.toml uv.toml "$site/pyproject.toml" "$site/uv.toml"; then
        UV_NO_CONFIG=1
        export UV_NO_CONFIG
    fi
    # shellcheck disable=SC2086 # options, a word each
    set -- $again --python "$venv/bin/python" "$wheels/requirements.txt"
    "$uv" pip sync --offline --no-index --find-links "$wheels" "$@" || return
    for wheel in "$wheels"/*.whl; do
        grep -qxF "#: ${wheel##*/}" "$wheels/requirements.txt" || rm -f "$wheel"
    done
}

no_project() { # not in silence: it may be another folder that was meant
    set -- -name .venv -o -name .asyncdeploy -o -name node_modules
    nearby=$(find . -maxdepth 3 \( "$@" \) -prune -o -name pyproject.toml -print 2>/dev/null | sed -n '1s|^\./||p')
    echo "note: no pyproject.toml, pylock.toml or requirements.txt in $PWD: an environment without packages"
    [ -z "$nearby" ] || echo "note: there is $nearby: Workspace(..., project=\"${nearby%/*}\") works in that folder"
}

upgrade=
[ "$frozen" != upgrade ] || upgrade=--upgrade
if [ "$frozen" = offline ]; then
    UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never
    export UV_OFFLINE UV_PYTHON_DOWNLOADS
    prepare_venv && sync_offline
elif [ -n "$files" ]; then
    prepare_venv && install_files
elif [ -f pyproject.toml ]; then
    prepare_venv && sync ${python:+--python "$python"} "$@"
elif [ "$#" -gt 0 ] || [ "$frozen" = yes ] || [ "$frozen" = locked ]; then
    echo "error: no pyproject.toml in $PWD: extra, groups, packages, frozen and locked have no meaning there" >&2
    exit 2
elif [ -f pylock.toml ]; then
    # shellcheck disable=SC2086 # options, a word each
    prepare_venv && "$uv" pip sync $again --python "$venv/bin/python" pylock.toml
elif [ -f requirements.txt ]; then
    files=requirements.txt
    prepare_venv && install_files
else
    no_project
    prepare_venv
fi
status=$?
# No "note: ", which would be said at once: it is among the last lines, which the error has.
[ "$status" = 0 ] || [ -z "$theirs" ] || echo "variables that uv also reads: ${theirs% }"
exit "$status"
