"""The supervisors of a launch know of each other: when a rank fails or falls silent, the others end, whoever watches.

Runs on a node, used by membership.py: Python >= 3.8, standard library only. Node rank 0 listens (the hub), the others
(its guests) connect to it and come back when their link breaks. Both sides prove with every message that they know the
launch's key, see link.py; nothing that they say is secret. The key comes by the variable ASYNCDEPLOY_GANG, which the
supervisor keeps from what it starts.

That all of them reach this port was proven a moment before, so node rank 0 waits no longer for who never came than for
who fell silent. Who never hears of node rank 0 waits thrice as long: that one may start late. It starts nothing before
it has its port, so nobody else holds that.
"""

import errno
import select
import time

from asyncdeploy.node_side.launch import sockets
from asyncdeploy.node_side.launch.door import Door
from asyncdeploy.node_side.launch.link import Broken, Link
from asyncdeploy.node_side.launch.meeting import Meeting

BEATS = 6  # in the time after which silence counts
STOPPED_LATER_S = 15.0  # whoever stops one rank stops the others himself, unless he vanished meanwhile
RETURN_S = 10.0  # a link that broke is made again within 5 s
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0  # between two tries to link
FIRST_LINK = 3  # silences that node rank 0 may take until it is heard of: its start may be slow


def join(plan):
    """Return this node's side, or None where there is no launch of many; OSError while its port is taken.

    plan: rank, name, count (of nodes), names (of all), host and port (of node rank 0), key (hex), silence_s (after
    which a node counts as gone), grace_s (from TERM to KILL), meet (the ranks' own port on node rank 0).
    """
    if plan["count"] < 2:
        return None
    return Hub(plan) if plan["rank"] == 0 else Guest(plan)


def meeting_of(plan):
    """Return what looks whether this node's program comes to where the ranks meet (``meet``, a port)."""
    return Meeting(plan["meet"], plan["rank"] == 0)


class Side:
    """What both sides share.

    because: why this node's rank must end, "" while it need not.
    """

    TICK_S = 0.5  # between two looks

    def __init__(self, plan):
        self.plan = plan
        self.key = bytes.fromhex(plan["key"])
        self.silence = float(plan["silence_s"])
        self.beat_at = 0.0
        self.because = ""
        self.end = None  # how our own rank ended

    def is_beat(self, now):
        if now < self.beat_at:
            return False
        self.beat_at = now + self.silence / BEATS
        return True

    def known(self):
        """Return what somebody must know who goes on in our place, for JSON."""
        return {"all_end": self.because}

    def recall(self, said):
        """Know what another one knew who had our place."""
        self.because = said.get("all_end", "")

    def own_end(self, kind, words):
        """Our rank has ended: "ok", "failed", "stopped" by somebody, or "told" to by the others."""
        self.end = {"end": kind, "because": "node rank %d (%s) %s" % (self.plan["rank"], self.plan["name"], words)}

    def register(self, poll):
        for fd in self.fds():
            poll.register(fd, select.POLLIN)


class Hub(Side):
    """Node rank 0's side: it hears of all and tells all."""

    is_hub = True

    def __init__(self, plan):
        Side.__init__(self, plan)
        self.door = Door(plan["host"], plan["port"], self.key)
        self.heard_at = {}  # rank -> when it was heard
        self.ended = {}  # rank -> how, see own_end
        self.stop_at = None
        self.look_at = 0.0
        self.began = time.monotonic()

    @property
    def links(self):
        return self.door.links()

    def fds(self):
        return [self.door.epoll.fileno()]

    def tick(self, now):
        """Do what there is to do."""
        for link in self.door.with_news():
            self.attend(link, now)
        self.door.let_in(now)
        if now >= self.look_at:  # of a thousand guests ten a second say something: not each time
            self.look_at = now + self.TICK_S
            self.look(now)
        if self.stop_at is not None and now >= self.stop_at[0]:
            self.tell(self.stop_at[1])

    def attend(self, link, now, beat=False):
        """Hear what came on a link, and send what is due."""
        try:
            for message in link.hear():
                self.take(link, message, now)
            link.check_greeting(now)
            if beat and link.rank is not None:
                link.say({"beat": 1})
            link.flush()
        except (Broken, ValueError, KeyError, TypeError):
            self.door.drop(link)  # an honest guest comes back, and what it has said stands

    def look(self, now):
        """Look at all links, and at who has fallen silent."""
        beat = self.is_beat(now)
        for link in self.links:
            self.attend(link, now, beat)
        for rank in range(1, self.plan["count"]):
            if rank not in self.ended and now - self.heard_at.get(rank, self.began) > self.silence:
                self.give_up(rank)

    def give_up(self, rank):
        """A node that is silent counts as failed: the others wait for it in a collective, and would for ever."""
        self.ended[rank] = "failed"
        self.tell("node rank %d (%s) fell silent for %.0f s" % (rank, self.plan["names"][rank], self.silence))
        link = self.door.guests.get(rank)
        if link is not None:
            try:
                link.flush()  # where it has only stood still it hears why, and does not take us for the silent one
            except Broken:
                pass  # it is gone
            self.door.drop(link)

    def take(self, link, message, now):
        rank = int(message["rank"])
        if not 0 < rank < self.plan["count"] or link.rank not in (None, rank):
            raise Broken
        if link.rank is None:  # who comes, or comes back, may have missed that all must end
            link.say({"stop": self.because} if self.because else {"beat": 1})
            self.door.admit(link, rank)
        self.heard_at[rank] = now
        if "end" in message:
            link.say({"heard": 1})
            self.note(rank, message, now)

    def note(self, rank, message, now):
        """A rank has ended: one that failed ends all at once, one that somebody stopped only if the rest stay on."""
        if rank not in self.ended:
            self.ended[rank] = message["end"]
            if message["end"] == "failed":
                self.tell(str(message["because"])[:300])
            elif message["end"] == "stopped" and self.stop_at is None:
                self.stop_at = now + STOPPED_LATER_S, str(message["because"])[:300]
            elif message["end"] == "told" and rank:
                # If not by us then by our silence: we stood still, and whoever misses us has ended, or does so now.
                who = self.plan["names"][0], rank, self.plan["names"][rank]
                self.tell("node rank 0 (%s) was silent, and node rank %d (%s) has ended because of it" % who)

    def tell(self, because):
        """All must end; what ended the first one stays the reason."""
        if not self.because:
            self.because, self.look_at = because, 0.0
            for link in self.door.guests.values():
                link.say({"stop": because})

    def own_end(self, kind, words):
        Side.own_end(self, kind, words)
        self.note(0, self.end, time.monotonic())

    def known(self):
        """Return what somebody must know who goes on in our place: no one else knows of who has left."""
        return {**Side.known(self), **{"ended %d" % rank: end for rank, end in self.ended.items() if rank}}

    def recall(self, said):
        """Know what another one knew who had our place; the guests come back by themselves."""
        Side.recall(self, said)
        ended = {name.partition(" ")[2]: end for name, end in said.items() if name.startswith("ended ")}
        self.ended.update((int(rank), end) for rank, end in ended.items())

    def busy(self):
        """Whether others still need us: who has not ended, or has not come yet to hear that it must."""
        if any(link.outbox for link in self.door.guests.values()):
            return True
        if self.ended.get(0) != "stopped":
            return any(rank not in self.ended for rank in range(1, self.plan["count"]))
        # Whoever stops us stops the others too, or never started them; to the rest we say it, if they are still there.
        now = time.monotonic()
        awaited = [rank for rank, at in self.heard_at.items() if rank in self.door.guests or now - at < RETURN_S]
        return any(rank not in self.ended for rank in awaited)

    def close(self):
        self.door.close()


class Guest(Side):
    """The side of every other node."""

    is_hub = False

    def __init__(self, plan):
        Side.__init__(self, plan)
        self.link = None
        self.try_at, self.pause = 0.0, FIRST_PAUSE_S
        self.heard_at = None  # None until the link stood once
        self.began = time.monotonic()
        self.acknowledged = False  # node rank 0 knows how we ended, or is not there to hear it
        self.told_end = self.told_once = False  # on this link; on any

    def fds(self):
        return [self.link.sock.fileno()] if self.link is not None else []

    def tick(self, now):
        """Do what there is to do."""
        if self.link is None and now >= self.try_at:
            self.connect(now)
        if self.link is not None:
            try:
                self.talk(now)
            except (Broken, ValueError, KeyError, TypeError) as error:
                self.note_refusal(error.args[0] if error.args else None)
                self.link.close()
                self.link, self.try_at = None, now + self.pause
                self.pause = min(self.pause * 2, LAST_PAUSE_S)
        heard_at = self.heard_at or self.began + (FIRST_LINK - 1) * self.silence
        if now - heard_at > self.silence and not self.because:
            how = "was silent for" if self.heard_at is not None else "has not been heard of since the start, for over"
            self.because = "node rank 0 (%s) %s %.0f s" % (self.plan["names"][0], how, self.silence)
            self.acknowledged = True  # nobody is left to hear of our end

    def connect(self, now):
        try:
            sock = sockets.connect(self.plan["host"], self.plan["port"])
        except OSError as error:
            self.note_refusal(error.errno)
            self.try_at = now + self.pause
            return
        self.link = Link(sock, self.key, False)
        self.told_end = False

    def note_refusal(self, problem):
        """Where nobody listens any more, whoever heard our end and has left took his word of it along."""
        if self.told_once and problem == errno.ECONNREFUSED:
            self.acknowledged = True

    def talk(self, now):
        link = self.link
        for message in link.hear():
            self.heard_at, self.pause = now, FIRST_PAUSE_S
            if "stop" in message and not self.because:
                self.because = str(message["stop"])[:300]
            if "heard" in message:
                self.acknowledged = True
        if link.session is None:
            link.check_greeting(now)
        elif self.end is not None and not self.told_end:
            link.say({"rank": self.plan["rank"], **self.end})
            self.told_end = self.told_once = True
        elif link.sent == 0 or self.is_beat(now):
            link.say({"rank": self.plan["rank"], "beat": 1})
        link.flush()

    def known(self):
        return {**Side.known(self), "acknowledged": self.acknowledged}

    def recall(self, said):
        Side.recall(self, said)
        self.acknowledged = said.get("acknowledged", False)

    def busy(self):
        """Whether our end has not been heard yet."""
        linked = self.link is not None and self.link.session is not None
        if self.end is not None and self.end["end"] == "stopped" and not linked:
            # Whoever stops us stops the others too; a node rank 0 that is gone need not hear of it.
            return self.heard_at is not None and time.monotonic() - self.heard_at < RETURN_S
        return not self.acknowledged

    def close(self):
        if self.link is not None:
            self.link.close()
