"""What was asked for cannot be done as it was written: UsageError, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

from asyncdeploy.values.not_found import nearest


class UsageError(Exception):
    """Flags, a variable or the settings file say what makes no sense; nothing was touched. The exit status is 2."""


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that there is not, with the one that was probably meant.

    Args:
        what: what it was expected to be, and where: "key in [env]".
        name: as it was written.
        known: all that there are.
    """
    return UsageError(f"unknown {what}: {name!r}; {nearest(name, known)}")
