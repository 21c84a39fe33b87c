# Let the project's .venv be the environment that was just made; starts in the project's folder.
# usage: VENV KEPT
# shellcheck shell=sh
link=$1 kept=$2
IFS= read -r venv <"$kept/next" || exit
# By the environment's own Python: no tool that every node has replaces a link to a folder in one go.
# shellcheck disable=SC2016
exec "$venv/bin/python" -I -S -c 'import os, shutil, sys
venv, link, kept = sys.argv[1:]
new, old = kept + "/link", kept + "/old"
for path in (new, old):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.path.lexists(path) and os.unlink(path)
os.symlink(venv, new)
if os.path.isdir(link) and not os.path.islink(link):  # made by hand, or by an older asyncdeploy
    os.rename(link, old)
os.replace(new, link)
os.unlink(kept + "/next")
shutil.rmtree(old, ignore_errors=True)' "$venv" "$link" "$kept"
