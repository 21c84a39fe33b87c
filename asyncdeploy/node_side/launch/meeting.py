"""Whether the program of a rank has come to the port where all of them meet, as the kernel's table of sockets tells it.

Runs on a node, used by membership.py: Python >= 3.8, standard library only. Who waits in vain for the others fails
first; who was late is to be named, and has said nothing.
"""

import os

from asyncdeploy.node_side import files

FIRST_PAUSE_S, LAST_PAUSE_S = 0.5, 10.0  # between two looks: a machine may have many sockets
ESTABLISHED, CLOSE_WAIT, LISTEN = "01", "08", "0A"


class Meeting:
    """Looked for again and again until it was seen once: a connection to the port, at its own node that it listens.

    Attributes: seen.
    """

    def __init__(self, port, is_host):
        self.port = "%04X" % port
        self.is_host = is_host
        self.seen = False
        self.look_at, self.pause = 0.0, FIRST_PAUSE_S

    def tick(self, now):
        """Look, if it is time."""
        if not self.seen and now >= self.look_at:
            self.look()
            self.look_at = now + self.pause
            self.pause = min(self.pause * 1.5, LAST_PAUSE_S)

    def look(self):
        for name in ("tcp", "tcp6"):
            for row in files.read(os.path.join("/proc/net", name)).decode("ascii", "replace").splitlines()[1:]:
                self.seen = self.seen or self.fits(row.split())

    def fits(self, words):
        here, there, state = (words[1], words[2], words[3]) if len(words) > 3 else ("", "", "")
        if self.is_host:
            return state == LISTEN and here.endswith(":" + self.port)
        # One whose peer has just gone still shows that it was there.
        return state in (ESTABLISHED, CLOSE_WAIT) and there.endswith(":" + self.port)
