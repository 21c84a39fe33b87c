"""The sessions in which processes of a job were seen, written down for the day its supervisor is killed.

Runs on a node, loaded by supervisor.py and job_state.py: Python >= 3.8, standard library only.

A process that was forked twice and wiped its environment is known only by its descent from the supervisor, and that is
gone with supervisor and keeper. Its session stays.
"""

from asyncdeploy.node_side import job_folder, proc

FIRST_LOOK_S, LOOK_S = 0.2, 5.0  # a look walks all of /proc; most sessions are made at a job's start


class Sessions:
    """What was seen so far: a session's number and the start time of its leader, 0 where that is gone."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = {}
        self.look_s, self.look_at = FIRST_LOOK_S, 0.0

    def recall(self):
        """Know what another one has written down."""
        self.seen = sessions_of(self.folder)

    def tick(self, tree, now):
        """Look at a process tree if it is time."""
        if now >= self.look_at:
            self.note(tree.living())
            self.look_at = now + self.look_s
            self.look_s = min(self.look_s * 2, LOOK_S)

    def note(self, living):
        table = proc.table()
        new = {table[pid].session for pid, _ in living if pid in table} - set(self.seen)
        if new:
            self.seen.update((sid, table[sid].start if sid in table else 0) for sid in new)
            words = ("%d:%d" % item for item in sorted(self.seen.items()))
            try:
                job_folder.write_file(self.folder, "sessions", " ".join([*words, ""]).encode())
            except OSError:
                return  # a full disk; the marker still finds them


def sessions_of(folder):
    """Return {session: start time of its leader} of a job."""
    words = [word.partition(b":") for word in job_folder.read_file(folder, "sessions").split(b" ")[:-1]]
    # What a disk has cut says nothing; session 0 is the kernel's own.
    short = [word for word in words if max(map(len, word)) < job_folder.MOST_DIGITS]
    sound = [(int(sid), int(start)) for sid, _, start in short if sid.isdigit() and start.isdigit()]
    return {sid: start for sid, start in sound if sid}
