"""How much of a node's results may come home."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
from attrs.validators import gt, optional

from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.patterns import may_match


def _from_1(at_most: int) -> Callable[[object, attrs.Attribute[int], object], None]:
    def check(_owner: object, field: attrs.Attribute[int], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= at_most:
            raise ValueError(f"CollectLimits {field.name}: a number from 1 to {at_most} was expected, got {value!r}")

    return check


def _to_patterns(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@checked_class
@attrs.frozen
class CollectLimits:
    """What of a folder comes home, and bounds on what one node may send.

    What a bound leaves behind makes a collect incomplete; what is too large by ``max_file_bytes`` is told and was not
    asked for; what the patterns do not ask for is not told.

    Attributes:
        max_bytes: of content that travels in one collect.
        max_files: entries.
        max_depth: folders in folders.
        max_file_bytes: of one file that is asked for, so that checkpoints stay behind, say; None is no bound.
        timeout_s: seconds in which contents may travel; None is no bound.
        include: gitignore-style patterns of what comes; none means all.
        exclude: patterns of what does not come, whatever include says.
    """

    max_bytes: int = attrs.field(default=1 << 40, validator=_from_1((1 << 63) - 1))
    max_files: int = attrs.field(default=200_000, validator=_from_1(10_000_000))
    max_depth: int = attrs.field(default=64, validator=_from_1(255))
    max_file_bytes: int | None = attrs.field(default=None, validator=optional(_from_1((1 << 63) - 1)), kw_only=True)
    timeout_s: float | None = attrs.field(default=None, validator=optional(gt(0)), kw_only=True)
    include: tuple[str, ...] = attrs.field(default=(), converter=_to_patterns, validator=may_match, kw_only=True)
    exclude: tuple[str, ...] = attrs.field(default=(), converter=_to_patterns, validator=may_match, kw_only=True)
