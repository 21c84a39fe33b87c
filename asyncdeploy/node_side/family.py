"""All processes of a run: find them, signal them.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only, no heavy import. Most runs end without
it.
"""

import os

from asyncdeploy.node_side import proc


def members(roots, leader, marker, also=lambda *_: False):
    """Return (pid, name) of every process of a run but zombies: below the roots, in the leader's session, or marked.

    The roots themselves and we do not count. ``also`` may claim others. A leader that may be gone is None: its number
    may be another's.
    """
    # Each sign alone is lost by honest programs: one that forks twice has another parent, setsid makes another session,
    # one that sets its title or clears the environment loses the marker. Where orphans come to us, the first sign holds
    # for all of them; the others serve the kernels that do not offer that, and who asks from outside, as a stop does
    # when the supervisor is gone.
    table = proc.table()
    spare = {os.getpid(), *roots}
    mine = set(roots)
    grew = True
    while grew:  # generation after generation: the table is in no order, and a child may have a lower pid
        more = {pid for pid, row in table.items() if row.parent in mine} - mine
        grew = bool(more)
        mine |= more
    for pid, row in table.items():
        if pid not in mine and (row.session == leader or also(pid, row) or proc.is_marked(pid, marker)):
            mine.add(pid)
    return [(pid, table[pid].name) for pid in sorted(mine - spare) if pid in table and not table[pid].has_ended()]


def signal_each(found, number, leader):
    """Send a signal to each process; to the leader's group as a whole, so that what it forks meanwhile gets it too."""
    grouped = any(is_in_group(pid, leader) for pid, _ in found)
    for pid in ([-leader] if grouped else []) + [pid for pid, _ in found]:
        try:
            if pid < 0 or not is_in_group(pid, leader):  # asked again: it may have left the group meanwhile
                os.kill(pid, number)
        except OSError:
            continue  # it ended meanwhile, or is another user's: then it is a survivor


def is_in_group(pid, leader):
    try:
        return bool(leader) and os.getpgid(pid) == leader  # 0 is a group that this namespace does not see
    except OSError:
        return False
