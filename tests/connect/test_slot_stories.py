"""Slots by chance: whoever asks, leaves, gives back, is refused or loses a connection, what must hold holds.

No connection and no wait: `Slots` decides, and here it is asked. ASYNCDEPLOY_STORIES says how many stories are told.
"""

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from asyncdeploy.connect.lease import Lease, PooledConnection
from asyncdeploy.connect.slots import SUSPECT_S, URGENT_SLOTS, Connect, Open, Reuse, Slots, Use, Waiter
from asyncdeploy.values.errors import ConnectError

STORIES = int(os.environ.get("ASYNCDEPLOY_STORIES", "150"))
STEPS = 80
KINDS = ("a", "b", None)


@attrs.define(eq=False)
class Line:
    """A connection, as far as slots look at it."""

    alive: bool = True
    owes: float = 0.0

    def owes_s(self) -> float:
        return self.owes


@attrs.define(eq=False)
class Idle:
    """A channel, as far as a lease looks at it."""

    ended: bool = False
    reused: bool = False
    notes: dict[str, Any] = attrs.field(factory=dict)


class Story:
    """One node's slots, those who wait for them and those who hold one; `look` is called behind each step."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.per, self.most = self.dice.randint(1, 4), self.dice.randint(1, 3)
        self.losses = 0
        self.slots = Slots(self.per, self.most, self.lose)
        self.waiting: list[Waiter[Any]] = []
        self.held: list[Lease] = []
        self.connecting = 0
        self.was_refused = self.was_silent = self.was_connecting = False

    def lose(self) -> None:
        self.losses += 1

    # --- what may happen

    def ask(self) -> None:
        self.waiting.append(self.slots.join(self.dice.choice(KINDS), urgent=self.dice.random() < 0.25))

    def ask_for_the_connection(self) -> None:
        self.waiting.append(self.slots.join_passers())

    def ask_for_what_is_spare(self) -> None:
        free = [each.taken for each in self.answering() if each.taken < min(each.limit, each.most)]
        waits = bool(self.slots.queue or self.slots.hurried)
        grant = self.slots.spare()
        assert (grant is not None) == (bool(free) and not waits), "nobody jumps the queue"
        if grant is not None:
            assert grant.connection.taken - 1 == min(free), "the emptiest is taken"
            self.opened(grant)

    def leave(self) -> None:
        if self.waiting:
            self.slots.leave(self.waiting.pop(self.dice.randrange(len(self.waiting))))

    def give_up(self) -> None:
        """Be cancelled, and come to leave only when others have had their turn."""
        for waiter in self.waiting:
            if not waiter.grant.done():
                waiter.grant.cancel()
                break

    def give_back(self) -> None:
        if self.held:
            lease = self.held.pop(self.dice.randrange(len(self.held)))
            self.slots.give_back(lease, self.dice.choice(("a", "b")))

    def close(self) -> None:
        if self.held:
            lease = self.held.pop(self.dice.randrange(len(self.held)))
            self.slots.release(lease.connection)

    def end(self) -> None:
        for lease in self.slots.idle[:1]:
            lease._channel.ended = True

    def made(self) -> None:
        if self.connecting:
            self.connecting -= 1
            limit = self.per if len(self.answering()) < self.slots.at_most else 0
            self.slots.add(Line())  # type: ignore[arg-type]
            assert self.slots.connections[-1].limit == limit, "one made for who is in a hurry is theirs"

    def not_made(self) -> None:
        if self.connecting:
            self.connecting -= 1
            others, at_most = len(self.answering()), self.slots.at_most
            error = self.dice.choice((None, ConnectError("n", "refused")))
            waited = [each for each in self.waiting if not each.grant.done()]
            assert self.slots.not_added(error) is (not others)
            assert self.slots.at_most == (others if others and error else at_most)
            if error is not None and not others:
                assert all(waiter.grant.exception() is error for waiter in waited), "all who wait learn why"
            if error is not None and not others:
                assert not self.slots.queue
                assert not self.slots.hurried
                self.waiting = [each for each in self.waiting if each not in waited]

    def die(self) -> None:
        if self.slots.connections:
            line = self.dice.choice(self.slots.connections).inner
            before = self.losses
            line.alive = False  # type: ignore[misc]
            self.slots.turn()
            assert self.losses == before + 1

    def fall_silent(self) -> None:
        for each in self.slots.connections:
            each.inner.owes = self.dice.choice((0.0, 0.0, SUSPECT_S))  # type: ignore[attr-defined]
        self.was_silent = True
        self.slots.turn()

    def drop(self) -> None:
        drops, losses, had = self.slots.drops, self.losses, bool(self.slots.connections)
        self.slots.drop()
        assert self.slots.at_most == self.most
        assert (self.slots.drops, self.losses) == (drops + 1, losses + had)

    # --- who was served

    def opened(self, grant: Open) -> None:
        if self.dice.random() < 0.1:
            connection, taken = grant.connection, grant.connection.taken
            limit = connection.limit and max(1, min(connection.limit, taken - 1))
            self.slots.refused(connection)
            assert (connection.limit, connection.most) == (limit, max(1, taken - 1))
            self.was_refused = True
        else:
            self.held.append(Lease(Idle(), grant.connection, self.slots.release))  # type: ignore[arg-type]

    def serve(self) -> None:
        for waiter in [each for each in self.waiting if each.grant.done() and not each.grant.cancelled()]:
            grant = waiter.grant.result()
            if self.dice.random() < 0.1:  # cancelled in the turn in which it was served
                continue
            self.waiting.remove(waiter)
            match grant:
                case Reuse(lease=lease):
                    assert lease.kind == waiter.kind
                    assert not lease.ended
                    lease.lend()
                    self.held.append(lease)
                case Open():
                    self.opened(grant)
                case Use(connection=connection):
                    assert connection.inner.alive or connection not in self.slots.connections
                case Connect():
                    self.connecting += 1
                case _:
                    raise AssertionError(f"it was granted {grant}")

    # --- what must hold

    def granted(self, kind: type) -> list[Any]:
        done = [waiter.grant for waiter in self.waiting if waiter.grant.done() and not waiter.grant.cancelled()]
        return [grant.result() for grant in done if grant.exception() is None and isinstance(grant.result(), kind)]

    def look(self) -> None:
        slots = self.slots
        assert self.connecting + len(self.granted(Connect)) == int(slots.connecting), "one connects at a time"
        assert self.was_silent or len(slots.connections) <= self.most + 1
        in_hand = [lease.connection for lease in (*self.held, *slots.idle)]
        in_hand += [grant.connection for grant in self.granted(Open)]
        in_hand += [grant.lease.connection for grant in self.granted(Reuse)]
        for connection in slots.connections:
            assert connection.taken == in_hand.count(connection), "each slot is somebody's"
            assert self.was_refused or connection.taken <= connection.limit + URGENT_SLOTS
        assert len(set(map(id, slots.idle))) == len(slots.idle)
        assert all(lease.connection in slots.connections for lease in slots.idle)
        if slots.queue and not slots.hurried:
            assert self.is_full(), "whoever waits waits for something"
        if slots.passers:
            assert not self.answering()
        if slots.hurried:
            assert self.is_full(URGENT_SLOTS, 1), "whoever is in a hurry may take more"
            assert not [lease for lease in slots.idle if lease.connection in self.answering()]
        if slots.connecting and not self.was_connecting:
            assert len(self.answering()) <= slots.at_most, "one more than usual, for those in a hurry"
        self.was_connecting = slots.connecting

    def answering(self) -> list[PooledConnection]:
        return [each for each in self.slots.connections if each.inner.alive and each.inner.owes_s() < SUSPECT_S]

    def is_full(self, more_slots: int = 0, more_connections: int = 0) -> bool:
        """Whether nobody can be served: no slot, no channel that may be taken, no connection."""
        slots = self.slots
        idle = [lease.connection for lease in slots.idle]
        for each in self.answering():
            room = each.taken - idle.count(each) < each.limit and each in idle
            if each.taken < min(each.limit + more_slots, each.most) or room:
                return False
        return slots.connecting or len(self.answering()) >= slots.at_most + more_connections


STEPS_OF: dict[Callable[[Story], None], int] = {
    **dict.fromkeys((Story.ask, Story.serve), 12),
    **dict.fromkeys((Story.close, Story.give_back, Story.made), 8),
    **dict.fromkeys(
        (Story.leave, Story.give_up, Story.ask_for_the_connection, Story.ask_for_what_is_spare, Story.end), 3
    ),
    **dict.fromkeys((Story.die, Story.fall_silent, Story.not_made), 2),
    Story.drop: 1,
}


@pytest.mark.parametrize("first", range(0, STORIES, 50))
async def test_what_holds_holds_whatever_happens(first: int) -> None:
    for seed in range(first, first + 50):
        story, done = Story(seed), []
        steps = story.dice.choices(list(STEPS_OF), list(STEPS_OF.values()), k=STEPS)
        for step in steps:
            done.append(step.__name__)
            try:
                step(story)
                story.look()
            except (AssertionError, asyncio.InvalidStateError) as error:
                raise AssertionError(f"story {seed}, after {', '.join(done[-12:])}: {error}") from error
        story.slots.close(ConnectError("n", "closed"))
        assert not story.slots.connections
        assert not story.slots.idle
        assert all(waiter.grant.done() for waiter in story.waiting)
        for waiter in story.waiting:
            waiter.grant.cancelled() or waiter.grant.exception()


def lent(slots: Slots, kind: str | None, *, urgent: bool = False) -> Any:
    """What is granted at once."""
    waiter = slots.join(kind, urgent=urgent)
    return waiter.grant.result() if waiter.grant.done() else waiter


async def test_what_was_kept_for_those_in_a_hurry_is_not_taken_by_those_who_wait() -> None:
    slots = Slots(1, 1, lambda: None)
    assert isinstance(lent(slots, None), Connect)
    slots.add(Line())  # type: ignore[arg-type]
    assert isinstance(lent(slots, None), Open)
    stop = lent(slots, "worker", urgent=True)
    assert isinstance(stop, Open)
    lease = Lease(Idle(), stop.connection, slots.release)  # type: ignore[arg-type]
    slots.give_back(lease, "worker")
    waits = lent(slots, "worker")
    assert isinstance(waits, Waiter), "its slot was beyond the connection's own"
    again = lent(slots, "worker", urgent=True)
    assert isinstance(again, Reuse)
    slots.leave(waits)


async def test_of_idle_channels_the_last_is_lent_and_the_ended_or_the_first_makes_room() -> None:
    slots = Slots(3, 1, lambda: None)
    lent(slots, None)
    slots.add(Line())  # type: ignore[arg-type]
    leases = []
    for _ in range(3):
        grant = lent(slots, "k")
        leases.append(Lease(Idle(), grant.connection, slots.release))  # type: ignore[arg-type]
    for lease in leases:
        slots.give_back(lease, "k")
    last = lent(slots, "k")
    assert last.lease is leases[2], "it has most of what a call needs"
    last.lease.lend()
    slots.give_back(leases[2], "k")
    leases[1]._channel.ended = True  # type: ignore[attr-defined]
    assert lent(slots, "other").instead is leases[1], "its slot is free for nothing"
    assert lent(slots, "other").instead is leases[0], "it has been idle for longest"
