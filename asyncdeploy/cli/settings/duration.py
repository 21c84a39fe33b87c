"""How long, as people write it: 90s, 10m, 2h, 1d."""

from __future__ import annotations

from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.values.regex import regex

_WRITTEN = regex(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)\Z")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str, flag: str, *, bare: bool = True) -> float:
    """Return so many seconds.

    Args:
        text: as it was written.
        flag: whose value it is.
        bare: whether a number alone is one of seconds; else it must say of what.

    Raises:
        UsageError: it is not written so.
    """
    found = _WRITTEN.match(text)
    if found is not None and not (found[2] or bare):
        raise UsageError(f"{flag}: a unit was expected, as in {text}d or {text}h, got {text!r}")
    if found is None:
        raise UsageError(f"{flag}: a time such as 90s, 10m, 2h or 1d was expected, got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]
