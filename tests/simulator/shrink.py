"""Makes a story that breaks something shorter, for as long as it still does; and says how to play it again."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulator.play import Played, play
from tests.simulator.story import Story, make_story

TRIES = 400
"""Stories that are played to find a shorter one."""


def shrink(played: Played, performed: Callable[[Story], Played] = play) -> Played:
    """Return the shortest story found that breaks something, by leaving out one thing after another."""
    tries = 0
    again = True
    while again:
        again = False
        for shorter in played.story.shorter():
            tries += 1
            if tries > TRIES:
                return played
            found = performed(shorter)
            if found.broken:
                played, again = found, True
                break
    return played


def failures(first: int, count: int) -> str:
    """Play so many seeds; return what they broke, each as a short story with the line that plays it again, or ""."""
    said = []
    for seed in range(first, first + count):
        played = play(make_story(seed))
        if played.broken:
            said.append(f"python -m tests.simulator {seed}\n{_shown(shrink(played))}")
    return "\n\n".join(said)


def _shown(played: Played) -> str:
    return "\n".join([played.story.text(), *(f"  ! {text}" for text in played.broken)])
