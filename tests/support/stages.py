"""Stages as an observer saw them: each that began must have ended once."""

from collections.abc import Iterable

from asyncdeploy.values.events import Event, StageFailed, StageFinished, StageStarted


def open_stages(events: Iterable[Event]) -> list[str]:
    """The stages that began and were not told to have ended; AssertionError for an end without its beginning."""
    begun: list[str] = []
    for event in events:
        if isinstance(event, StageStarted | StageFinished | StageFailed):
            name = f"{event.node}: {event.stage}"
            if isinstance(event, StageStarted):
                begun.append(name)
            else:
                assert name in begun, f"{name} ended, and had not begun"
                begun.remove(name)
    return begun
