"""Moments and spans of time as people read them: text and arithmetic."""

from __future__ import annotations

import time

NEVER = "-"


def clock(at: float | None) -> str:
    """Return a moment (seconds since 1970) by the wall's clock here: "11-28 14:03"; "-" for none."""
    return NEVER if at is None else time.strftime("%m-%d %H:%M", time.localtime(at))


def lasting(start: float | None, end: float | None = None) -> str:
    """Return for how long something went on, or has until now where there is no end: "1:04:09"; "-" without a start."""
    if start is None:
        return NEVER
    seconds = max(0, int((time.time() if end is None else end) - start))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
