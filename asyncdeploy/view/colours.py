"""Whether colours may go to a stream: the one rule of all that is shown."""

from __future__ import annotations

import os
from typing import TextIO


def may_colour(stream: TextIO | None) -> bool:
    """Return whether a stream may be coloured: NO_COLOR wins, FORCE_COLOR is obeyed, else a terminal that can.

    A program without a stderr has None there.
    """
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not in_ci()


def in_ci() -> bool:
    """Return whether nobody looks: a run of continuous integration."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")
