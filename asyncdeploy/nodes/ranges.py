"""Many names in few words: "gpu[01-08,11]" stands for nine of them. Pure text, both ways, order kept.

A bracket with an address in it, IPv6 or IPv4, is never a range.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator

import attrs

from asyncdeploy.nodes.names import is_ipv4, shown
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.regex import regex

GAPS = " \t\r\n"
"""The white space that may stand between names; what else str.split() would take are control characters."""

_BRACKET = regex(r"\[([^\[\]]*)\]")
_ITEM = regex(rf"(?:[^,{GAPS}\[\]]|\[[^\[\]]*\])+")
_NUMBER = regex(r"[0-9]{1,18}")  # more than any counter of machines needs, and no big integers
_LETTER = regex(r"[A-Za-z]")
_COUNTER = regex(r"(?<![0-9])[0-9]{1,18}(?![0-9])|(?<=[-_.0-9])[a-z]\Z")


def split_items(text: str) -> list[str]:
    """Split text at the commas and white space that stand outside brackets.

    Raises:
        ValueError: a bracket is not closed, not opened, or stands inside another.
    """
    if stray := re.search(r"[\[\]]", _BRACKET.sub("", text)):
        raise ValueError(f"a {stray[0]!r} without its partner; expected gpu[01-08] or [::1]:22")
    return _ITEM.findall(text)


def expand_ranges(item: str, *, at_most: int) -> list[str]:
    """Return the names that one item stands for; the leftmost bracket changes slowest.

    Args:
        item: text with any number of brackets, each a list of numbers, letters and ranges of them: ``[01-03,07]``.
        at_most: how many names are allowed; they are counted before any is made.

    Raises:
        ValueError: a range is empty, reversed or unclear, or stands for too many names.
    """
    parts = _BRACKET.split(item)  # literal, inside of a bracket, literal, ...
    choices = [_read_bracket(part) if index % 2 else (_Span(part, part),) for index, part in enumerate(parts)]
    if math.prod(sum(map(_Span.count, spans)) for spans in choices) > at_most:
        raise ValueError(f"stands for more names than the {at_most} that are still allowed")
    return ["".join(words) for words in itertools.product(*(itertools.chain(*spans) for spans in choices))]


@checked
def fold_names(names: Iterable[str]) -> str:
    """Return names as people like to read them: ("gpu01", "gpu02", "gpu03", "x") becomes "gpu[01-03],x".

    The order is kept, so only neighbours fold; ``parse_nodes`` of the result gives names back that are host names.
    """
    waiting = list(names)
    folded = []
    start = 0
    while start < len(waiting):
        name = waiting[start]
        runs = [(counter, _run(waiting, start, counter)) for counter in _COUNTER.finditer(name)]
        counter, run = max(runs, key=lambda found: len(found[1]), default=(None, [name]))
        if counter is not None and len(run) > 1:
            folded.append(f"{name[: counter.start()]}[{','.join(_spans(run))}]{name[counter.end() :]}")
        else:
            folded.append(name)
        start += len(run)
    return ",".join(folded)


@attrs.frozen
class _Span:
    """From ``first`` to ``last``: two numbers, two letters, or the same text twice (which stands for itself)."""

    first: str
    last: str

    def count(self) -> int:
        return 1 if self.first == self.last else _ordinal(self.last) - _ordinal(self.first) + 1

    def __iter__(self) -> Iterator[str]:
        if self.first == self.last:
            yield self.first
            return
        for ordinal in range(_ordinal(self.first), _ordinal(self.last) + 1):
            yield f"{ordinal:0{len(self.first)}d}" if _NUMBER.fullmatch(self.first) else chr(ordinal)


def _read_bracket(inside: str) -> tuple[_Span, ...]:
    if ":" in inside or is_ipv4(inside):
        return (_Span(f"[{inside}]", f"[{inside}]"),)
    return tuple(_read_span(part.strip(GAPS)) for part in inside.split(","))


def _read_span(text: str) -> _Span:
    first, dash, last = text.partition("-")
    span = _Span(first, last if dash else first)
    if not any(kind.fullmatch(span.first) and kind.fullmatch(span.last) for kind in (_NUMBER, _LETTER)):
        raise ValueError(
            f"numbers, letters and ranges of them were expected in brackets, as in [01-08,a-c], got {shown(text)}"
        )
    if span.count() < 1:
        raise ValueError(f"the range {shown(text)} runs backwards; expected the smaller end first")
    if len(first) != len(span.last) and (_is_padded(first) or _is_padded(span.last)):
        raise ValueError(
            f"the range {shown(text)} has ends of unequal width; expected the same padding, such as 008-010"
        )
    if first.isupper() != span.last.isupper():
        raise ValueError(f"the range {shown(text)} mixes capital and small letters")
    return span


def _run(names: list[str], start: int, counter: re.Match[str]) -> list[str]:
    """Return what stands at the counter in this name and in the following ones that are the same around it."""
    head, tail = counter.string[: counter.start()], counter.string[counter.end() :]
    kind = _NUMBER if _NUMBER.fullmatch(counter[0]) else _LETTER
    run = []
    for name in itertools.islice(names, start, None):
        value = name[len(head) : len(name) - len(tail)]
        if name != head + value + tail or not kind.fullmatch(value):
            break
        run.append(value)
    return run


def _spans(values: list[str]) -> Iterator[str]:
    """Return counters as a list of ranges that expands to exactly them."""
    spans: list[_Span] = []
    for value in values:
        if spans and _follows(spans[-1], value):
            spans[-1] = _Span(spans[-1].first, value)
        else:
            spans.append(_Span(value, value))
    return (span.first if span.first == span.last else f"{span.first}-{span.last}" for span in spans)


def _follows(span: _Span, value: str) -> bool:
    same_width = len(value) == len(span.first)
    unpadded = not _is_padded(span.first) and not _is_padded(value)
    return (same_width or unpadded) and _ordinal(value) == _ordinal(span.last) + 1


def _ordinal(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else ord(text)


def _is_padded(text: str) -> bool:
    return len(text) > 1 and text.startswith("0")
