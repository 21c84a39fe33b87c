"""Regular expressions that are compiled when they are first used: ours together would be a fifth of our import."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


def regex(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return ``re.compile(text, flags)``, compiled at its first use.

    Args:
        text: the expression; a faulty one is told of at its first use.
        flags: of ``re``.
    """
    return cast("re.Pattern[AnyStr]", _Regex(text, flags))


class _Regex:
    """Stands for a pattern; each of its methods is looked up once and then lies in our own __dict__."""

    def __init__(self, text: Any, flags: int) -> None:
        self._source = text, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(*self._source), name)
        vars(self)[name] = found
        return found
