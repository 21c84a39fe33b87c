# Evaluate or build a flake once, and keep what came of it where no garbage collection takes it; in the project's folder.
# usage: MODE NIX REF ATTRIBUTE STATE here|there [SITE FOLDER PUSHED_TREE]      MODE is develop, build, check, or import: what was
# made on the client's machine ("here") and lies in STATE; REF is "" for the flake that was pushed; FOLDER is the
# project's in the SITE, PUSHED_TREE pushed_tree.sh
# shellcheck shell=sh
mode=$1 nix=$2 ref=$3 attribute=$4 state=$5 where=$6 site=${7-} folder=${8-} pushed_tree=${9-}

sources() { # all that the pushed flake says of itself
    [ -n "$ref" ] || find . -name .venv -prune -o -name .asyncdeploy -prune -o \
        \( -name '*.nix' -o -name flake.lock \) -type f -exec cksum {} + | sort | cksum
}

if [ "$mode" = check ]; then
    [ "$(sources)" = "$(cat "$state/sources" 2>/dev/null)" ] && [ -e "$state/result" ] && [ -e "$state/made" ]
    exit
fi

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

rm -f "$state/made"
mkdir -p "$state" || exit
if [ "$mode" = import ]; then
    "${nix%/*}/nix-store" --import <"$state/closure" >/dev/null || exit
    while read -r name path; do
        "${nix%/*}/nix-store" --realise "$path" --indirect --add-root "$state/$name" >/dev/null || exit
    done <"$state/links"
    here=$(printf '%s\n' "$PWD" | sed 's/[|&\\]/\\&/g')
    sed "s|@asyncdeploy-workdir@|$here|g" "$state/env.sent" >"$state/env.next" || exit
    mv -f "$state/env.next" "$state/env.sh" || exit # somebody may be entering
    rm -f "$state/closure"
    sources >"$state/sources" && : >"$state/made"
    exit
fi

tree() { # the flake's files in a new folder: what was pushed, or would be
    if [ "$where" != here ]; then
        (cd "$site" && sh -c "$pushed_tree" asyncdeploy-pushed_tree "$folder" "$1")
        return
    fi
    rm -rf "$1"
    mkdir "$1" || return
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -co --exclude-standard -z | tar -cf - --null --ignore-failed-read -T -
    else
        tar -cf - --exclude=./.venv --exclude=./.asyncdeploy --exclude=./.git .
    fi | tar -xf - -C "$1"
}

if [ -z "$ref" ]; then
    [ -f flake.nix ] || fail "no flake.nix was pushed to $PWD"
    # A flake is copied into the store with all that lies beside it: what was pushed, not what grew here since.
    tree "$state/tree" || exit
    ref=path:$state/tree
    pushed=yes
fi
run() { "$nix" --extra-experimental-features nix-command --extra-experimental-features flakes "$@"; }

# The user's lock decides; where it does not fit, that is said and not mended behind his back.
case $mode in
develop)
    run print-dev-env "$ref$attribute" --no-update-lock-file --profile "$state/result" >"$state/env.new" || exit
    # Each entry would make a temporary folder of its own and leave it there.
    # shellcheck disable=SC2016
    sed '/^export NIX_BUILD_TOP="\$(mktemp/d; /^export T[EM]*P\(DIR\)\{0,1\}="\$NIX_BUILD_TOP"$/d' \
        "$state/env.new" >"$state/env.next" && mv -f "$state/env.next" "$state/env.sh" || exit # somebody may be entering
    rm -f "$state/env.new"
    ;;
build) run build "$ref$attribute" --no-update-lock-file --out-link "$state/result" || exit ;;
esac
if [ -n "${pushed-}" ]; then
    ref=
    rm -rf "$state/tree"
fi
sources >"$state/sources" && : >"$state/made"
