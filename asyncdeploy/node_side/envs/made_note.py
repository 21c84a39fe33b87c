"""Compare what an environment was made from, as made_from.py wrote it down, with what is there now.

Runs on a node by the environment's own interpreter: Python >= 3.8, standard library only. It is asked before each
skip, so it is short: nothing is read but the note while what was pushed is the same and no file was touched. Arguments:
"look", a note, the text of made_from.py and its arguments: exit status 0 if nothing has changed that counts; "again", a
newer note, a note: prints options for uv, a word each: the local packages that must be built again.
"""

import os
import sys

HEAD = "asyncdeploy-made-from 1"


def read_note(path):
    """Return (tree, digest, {package: (digest, how)}, {file: stat}); None where there is no note of this form."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            head, tree, digest, count, *rest = file.read().split("\0")
    except (OSError, ValueError):
        return None
    if head != HEAD:
        return None
    packages, files = rest[: 3 * int(count)], rest[3 * int(count) :]
    named = {name: (known, how) for name, known, how in zip(packages[::3], packages[1::3], packages[2::3])}
    return tree, digest, named, dict(zip(files[::2], files[1::2]))


def stat_of(path):
    try:
        found = os.stat(path)
        return "%d %d %d %d" % (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    except OSError:
        return "-"


def look(path, made_from, site, workdir, tree, *files):
    note = read_note(path)
    if note and tree and note[0] == tree and all(stat_of(file) == seen for file, seen in note[3].items()):
        return True
    program = {"__name__": "made_from"}  # in this process: starting another one takes as long as the work
    exec(made_from, program)
    found = program["find"](site, workdir, files, tree)
    if note and note[1] == found.digest():
        if not os.environ.get(
            "ASYNCDEPLOY_ONLY_LOOK"
        ):  # a plan changes nothing, not even what makes the next look short
            program["write_note"](path, found)
        return True
    return False


def again(newer, path):
    new, note = read_note(newer), read_note(path)
    for name, (digest, how) in sorted(new[2].items()):
        # Without a note nothing is installed yet, but uv may remember a copy of other code.
        if how == "built" if note is None else note[2].get(name, ("", ""))[0] != digest:
            plain = all(letter.isalnum() or letter in "-_." for letter in name)
            print("--reinstall-package=%s" % name if plain else "--reinstall")
    return True


if __name__ == "__main__":
    sys.exit(not {"look": look, "again": again}[sys.argv[1]](*sys.argv[2:]))
