"""What a person sees of an error of ours that nobody caught: their own line, what happened, what to do; once.

Three things see to it, as each reaches where the others do not:

- ``leave_out_ours`` cuts our frames, and the errors that led to this one, off an error when it leaves a public function
  (values/arguments.py). A bare ``raise`` adds no frame of its own, so none of ours is left: for ``logging.exception``,
  pytest, and whoever else shows errors in their own way.
- ``show_in_short`` puts a ``sys.excepthook`` in place when the first error of ours is made, if nobody else has one: for
  ``python script.py``, with asyncio.run and anyio.run, whose frames say nothing to a person either.
- ``_render_traceback_`` is IPython's own word for the same in a notebook.

``python -X dev`` leaves all of it out: every frame, every cause.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

LINES = 12
"""Lines that an error of one node takes, as far as our own words leave room for frames."""
MOST_LINES = 30
"""Of an error of several nodes: a screen."""
FRAMES = 2
"""Frames of the caller's own code: the line that called us, and who called that."""

_PLUMBING = ("asyncdeploy", "asyncio", "anyio", "asyncssh", "concurrent", "contextlib", "runpy", "threading", "uvloop")
_OURS = "_asyncdeploy_said_it"


class ForPeople:
    """An error whose own words say all that a person needs.

    Attributes:
        cause_is_theirs: its ``__cause__`` was raised by the caller's own code, which they want to see.
    """

    cause_is_theirs: bool = False

    def add_notes(self, evidence: str = "", hint: str = "") -> None:
        """Give a new error its notes, and see to it that such errors are shown in short."""
        assert isinstance(self, BaseException)
        if evidence:
            self.add_note("\n".join(f"  | {line}" for line in evidence.splitlines()))
        if hint:
            self.add_note(f"hint: {hint}")
        show_in_short()

    def describe(self) -> str:
        """Return all of it for people: what happened, the evidence, what to do next."""
        return "\n".join([str(self), *self.shown_notes()])

    def shown_notes(self) -> Sequence[str]:
        """Return what stands below the message."""
        return list(getattr(self, "__notes__", ()))

    def _render_traceback_(self) -> list[str]:
        """IPython asks for this: the lines that a notebook shows."""
        assert isinstance(self, BaseException)
        return short_traceback(self).splitlines()


def leave_out_ours(error: BaseException) -> None:
    """Cut our frames off an error of ours, and what led to it, unless Python runs in its development mode.

    Of ours is also a ValueError or TypeError that we raised: it says which argument is wrong, and how.
    """
    if sys.flags.dev_mode:
        return
    if type(error) in (ValueError, TypeError) and _is_raised_here(error):
        error.__traceback__ = their_frames(error.__traceback__)
        setattr(error, _OURS, True)
        show_in_short()
    if isinstance(error, ForPeople):
        error.__traceback__ = their_frames(error.__traceback__)
        if not error.cause_is_theirs:
            error.__cause__ = None  # which also says that the context is of no interest


def _is_raised_here(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").partition(".")[0] == _PLUMBING[0]


def their_frames(found: TracebackType | None) -> TracebackType | None:
    """Return a traceback with the frames that are the caller's own."""
    frames = []
    while found is not None:
        if not _is_plumbing(found.tb_frame.f_code.co_filename, _plumbing()):
            frames.append(found)
        found = found.tb_next
    kept: TracebackType | None = None
    for each in reversed(frames):
        kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept


def show_in_short() -> None:
    """Show errors of ours in short where nobody catches them, unless somebody shows them in a way of their own."""
    if sys.excepthook is sys.__excepthook__ and not sys.flags.dev_mode:
        sys.excepthook = _show


def short_traceback(error: BaseException) -> str:
    """Return an error as a person reads it: Python's own form, without what is ours and what runs event loops."""
    seen = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    _shorten(seen, error, _plumbing())
    return "".join(seen.format())


def _show(kind: type[BaseException], error: BaseException, found: TracebackType | None) -> None:
    try:
        if _holds_ours(error):
            sys.stderr.write(short_traceback(error))
            return
    except Exception:  # noqa: BLE001, S110 - an error that cannot be shown in short is shown at length
        pass
    sys.__excepthook__(kind, error, found)


def _holds_ours(error: BaseException) -> bool:
    """Whether it is one of ours, holds one, or came of one."""
    seen, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, ForPeople) or hasattr(each, _OURS):
            return True
        if id(each) not in seen:  # all of them live as long as the first one
            seen.add(id(each))
            waiting += filter(None, (each.__cause__, each.__context__))
            waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
    return False


def _shorten(seen: traceback.TracebackException, error: BaseException, plumbing: tuple[str, ...]) -> None:
    """Take out of what Python would show all that is no help."""
    frames = [
        traceback.FrameSummary(each.filename, each.lineno, each.name, line=each.line)  # without marks below the line
        for each in seen.stack
        if not _is_plumbing(each.filename, plumbing)
    ]
    if isinstance(error, ForPeople):
        seen.exceptions = None
        seen.__notes__ = _cut(list(error.shown_notes()), LINES if getattr(error, "node", "") else MOST_LINES)
        seen.__context__ = None
        if not error.cause_is_theirs:
            seen.__cause__ = None
        lines = sum(text.count("\n") + 1 for text in (str(error), *seen.__notes__))
        room = 0 if seen.__cause__ is not None else max(0, (LINES - 1 - lines) // 2)  # a heading, two lines a frame
        frames = frames[len(frames) - min(FRAMES, room, len(frames)) :]
    seen.stack[:] = frames
    if not frames:
        seen.stack = None  # type: ignore[assignment]  # as of an error that was never raised: no heading
    pairs = [(seen.__cause__, error.__cause__), (seen.__context__, error.__context__)]
    if seen.exceptions is not None and isinstance(error, BaseExceptionGroup):
        pairs += zip(seen.exceptions, error.exceptions, strict=True)
    for part, its in pairs:
        if part is not None and its is not None:
            _shorten(part, its, plumbing)


def _cut(notes: list[str], most: int) -> list[str]:
    """Return notes in which the first one, a long proof, leaves room for the message and the others."""
    proof = notes[0].splitlines() if notes else []
    room = most - 2 - sum(note.count("\n") + 1 for note in notes[1:])
    if len(proof) <= room + 1 or room < 1:
        return notes
    return [f"  | ... ({len(proof) - room} lines before: error.evidence)", *proof[-room:], *notes[1:]]


def _plumbing() -> tuple[str, ...]:
    """Return the folders and files of what a person need not see."""
    found = ["<frozen "]
    for name in _PLUMBING:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file:
            found.append(os.path.dirname(file) + os.sep if hasattr(module, "__path__") else file)  # noqa: PTH120
    return tuple(found)


def _is_plumbing(filename: str, plumbing: tuple[str, ...]) -> bool:
    return filename.startswith(plumbing)
