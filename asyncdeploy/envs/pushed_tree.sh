# Copy what was pushed of a site, and nothing that grew there since, into a new folder; in the site.
# usage: FOLDER TARGET      FOLDER of the site, "." for all of it; its files stand at the top of TARGET
# shellcheck shell=sh
folder=$1 target=$2 state=.asyncdeploy/state
rm -rf "$target"
mkdir -p "$target" || exit
LC_ALL=C
export LC_ALL

# The record of a push (node_side/push/site_record.py): five fields, as many removed paths as the fifth says, ten fields an
# entry (kind, mode, size, mtime, sha, path, ...), a checksum. A name with a newline makes more lines than fields.
if [ ! -f "$state" ] || [ "$(tr -dc '\0' <"$state" | wc -c)" -ne "$(tr '\0' '\n' <"$state" | wc -l)" ]; then
    tar -cf - -C "$folder" --exclude=./.asyncdeploy --exclude=./.venv --exclude=./.git . | tar -xf - -C "$target"
    exit
fi
[ "$folder" = . ] && below='' || below=$folder/
pushed() { # the paths of some kinds of entries, "./" before each: none looks like an option
    tr '\0' '\n' <"$state" | kinds=$1 below=$below awk '
        BEGIN { kinds = ENVIRON["kinds"]; below = ENVIRON["below"] }
        NR == 5 { skip = 5 + $0 }
        NR > 5 && NR > skip {
            at = (NR - skip - 1) % 10
            if (at == 0) kind = $0
            if (at == 5 && index(kinds, kind) && index($0, below) == 1) print "./" substr($0, length(below) + 1)
        }'
}
# GNU tar reads a backslash in such a list as the beginning of an escape.
plain() { if tar --version 2>/dev/null | grep -q GNU; then sed 's/\\/\\\\/g'; else cat; fi; }

pushed d | while IFS= read -r path; do
    mkdir -p "$target/$path" || exit
done || exit
pushed fl | plain >"$target.list" || exit
[ -s "$target.list" ] || { rm -f "$target.list"; exit 0; }
tar -cf - -C "$folder" -T "$target.list" | tar -xf - -C "$target"
status=$?
rm -f "$target.list"
exit "$status"
