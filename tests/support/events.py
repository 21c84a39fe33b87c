"""What an observer was told, as texts."""

from collections.abc import Iterable

from asyncdeploy.values.events import Event, Noted, OutputLine, StageFinished


def notes(events: Iterable[Event], word: str = "") -> list[str]:
    """All notes that hold a word."""
    return [event.text for event in events if isinstance(event, Noted) and word in event.text]


def details(events: Iterable[Event], stage: str | None = None) -> list[str]:
    """How every stage ended, or every one of this name."""
    ends = [event for event in events if isinstance(event, StageFinished)]
    return [event.detail for event in ends if stage in (None, event.stage)]


def printed(events: Iterable[Event]) -> list[str]:
    """The lines of commands."""
    return [event.text for event in events if isinstance(event, OutputLine)]
