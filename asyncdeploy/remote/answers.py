"""What a node answers, taken apart with care: a reader returns what it promises, or says what came instead."""

from __future__ import annotations

import json
import math
from typing import Any, Self

import attrs

from asyncdeploy.values.errors import ProtocolError
from asyncdeploy.values.serialize import MAX_DEPTH, MAX_WHOLE, in_words, is_deeper
from asyncdeploy.values.words import MAX_LINE, one_line

LATEST = 1e11
"""Seconds since 1970, in the year 5138: what Python's calendar can still take."""


@attrs.frozen(eq=False)
class Answer:
    """What one of our programs said on a node, or a part of it; none of it is trusted.

    Every reader raises ProtocolError where something else came than it returns, and says where and what.

    Attributes:
        node: who said it.
        what: what it was asked, for people: "the start of job train-abcdefgh".
        value: what came, as JSON's data.
        place: where in the answer this part stands: "processes[3].pid".
        beginning: how the whole answer begins, made harmless.
    """

    node: str
    what: str
    value: Any = attrs.field(repr=False)
    place: str = ""
    beginning: str = attrs.field(default="", repr=False)

    @classmethod
    def read(cls, node: str, what: str, payload: bytes) -> Self:
        """Return an answer that came as JSON; as Python's objects it takes up to 30 times the bytes that came."""
        found = cls(node, what, None, beginning=one_line(payload))
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):
            raise found.refused("JSON was expected") from None
        if is_deeper(value, MAX_DEPTH):
            raise found.refused(f"at most {MAX_DEPTH} lists and objects inside each other were expected")
        return attrs.evolve(found, value=value)

    def __getitem__(self, name: str) -> Answer:
        """Return a field of an object; one that is absent is as one that is null."""
        return self._part(f"{self.place}.{name}".lstrip("."), self.object().get(name))

    @property
    def is_there(self) -> bool:
        """Whether it was said at all, and is not null."""
        return self.value is not None

    def object(self) -> dict[str, Any]:
        """Return an object's data as it came: who takes it apart trusts none of it."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def items(self, count: int | None = None) -> list[Answer]:
        """Return the items of a list, which has so many if a count is given."""
        if not isinstance(self.value, list) or (count is not None and len(self.value) != count):
            raise self.wrong("a list" if count is None else f"a list of {count}")
        return [self._part(f"{self.place}[{index}]", item) for index, item in enumerate(self.value)]

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a number; neither infinity nor "no number" is one."""
        value = self.value
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if fits and low <= value <= high and abs(value) <= MAX_WHOLE:
            return float(value)
        raise self.wrong("a number" if math.isinf(low) else f"a number from {low:g} to {high:g}")

    def moment(self) -> float | None:
        """Return a time as seconds since 1970, None where none was said."""
        return self.number(0, LATEST) if self.is_there else None

    def whole(self, low: int = 0, high: int = MAX_WHOLE) -> int:
        """Return a whole number."""
        value = self.value
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise self.wrong(f"a whole number from {low}" + (f" to {high}" if high != MAX_WHOLE else ""))

    def flag(self) -> bool:
        """Return whether it is true; what is absent is not."""
        if not self.is_there or isinstance(self.value, bool):
            return bool(self.value)
        raise self.wrong("true or false")

    def text(self, default: str | None = None, limit: int = MAX_LINE) -> str:
        """Return a text as a part of one line that may be shown."""
        return one_line(self.exact(default), limit)

    def exact(self, default: str | None = None) -> str:
        """Return a text as it came, to be used and not shown."""
        if not self.is_there and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def word(self, *words: str) -> str:
        """Return one of the words that it may be."""
        if self.value not in words:
            raise self.wrong(" or ".join(words))
        return str(self.value)

    def wrong(self, expected: str) -> ProtocolError:
        """Return the error that says what was expected here."""
        return self.refused(f"{expected} was expected, got {in_words(self.value)}")

    def refused(self, why: str) -> ProtocolError:
        """Return the error that says why this cannot be."""
        where = f"{one_line(self.place)}: " if self.place else ""
        text = f"the answer to {self.what} is not what its program sends: {where}{why}"
        return ProtocolError(self.node, text, "", self.beginning)

    def _part(self, place: str, value: Any) -> Answer:
        return Answer(self.node, self.what, value, place, self.beginning)
