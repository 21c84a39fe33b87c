"""Open a tmux session that shows a job's log, for people who log in; the job knows nothing of it.

Runs on a node inside the worker: Python >= 3.8, standard library only. The arguments are JSON: "id" of the job, "name"
for the session, "tmux" where that is. Returned: {"session": its name} or {"error": text}.
"""

import json
import os

from asyncdeploy.node_side import job_folder, tools

WAIT_S = 10.0
TRIES = 20  # names that are taken

# It ends a moment after who holds the job, never before the last lines: its supervisor, whose pid is the third word of
# the file, or its keeper, the fifth, which goes on where that one was killed.
VIEW = """
folder=$1
read -r _ _ supervisor _ keeper _ <"$folder/pid"
tail -n +1 -f "$folder/log" & viewer=$!
trap 'kill "$viewer" 2>/dev/null' EXIT
trap 'exit 0' HUP INT TERM
holds() { [ ! -e "$folder/exit" ] && { kill -0 "$supervisor" || kill -0 "$keeper"; } 2>/dev/null; }
while holds; do sleep 1; done
sleep 1
"""


def main(_worker, args):
    wanted = json.loads(args)
    return json.dumps(open_window(wanted["tmux"], wanted["name"], wanted["id"])).encode()


def open_window(tmux, name, job_id):
    folder = job_folder.path_of(job_id)
    # tmux itself would make "_" of these, and "-t" would then look for another name.
    name = name.replace(".", "_").replace(":", "_")
    problem = ""
    for number in range(TRIES):
        session = name if number == 0 else "%s-%d" % (name, number + 1)
        words = [tmux, "new-session", "-d", "-s", session, "sh", "-c", VIEW, "asyncdeploy-window", folder]
        # Of ours only what a terminal needs: who comes later to this server finds it in his windows.
        keep = ("HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TMUX_TMPDIR", "TERM")
        env = {key: os.environ[key] for key in keep if key in os.environ}
        status, said = tools.outcome(words, WAIT_S, env, complaints=True)
        if status == 0:
            return {"session": session}
        problem = said.strip()[:300] or "no answer within %.0f s" % WAIT_S
        if "duplicate session" not in problem:
            break
    return {"error": problem}
