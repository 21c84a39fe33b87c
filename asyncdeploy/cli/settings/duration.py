"""How long, as people write it: 90s, 10m, 2h, 1d."""

from __future__ import annotations

from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.values.regex import regex

_WRITTEN = regex(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)\Z")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str, flag: str) -> float:
    """Return so many seconds.

    Raises:
        UsageError: it is not written so.
    """
    found = _WRITTEN.match(text)
    if found is None:
        raise UsageError(f"{flag}: a time such as 90s, 10m, 2h or 1d was expected, got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]
