"""Bytes, cut into what a target needs: numbers, choices, texts."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dough:
    """Takes values off the front; of what is used up come zeros and empty texts."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        start, self._at = self._at, min(self._at + size, len(self._data))
        return self._data[start : self._at]

    def number(self, most: int) -> int:
        """Return a number from 0 to ``most``."""
        size = (most.bit_length() + 7) // 8
        return int.from_bytes(self.take(size), "big") % (most + 1)

    def of(self, choices: Sequence[T]) -> T:
        """Return one of several values."""
        return choices[self.number(min(len(choices) - 1, 255))]

    def piece(self) -> bytes:
        """Return what stands before the next 0xFF, a byte of no text, and step over it."""
        end = self._data.find(b"\xff", self._at)
        end = len(self._data) if end < 0 else end
        found, self._at = self._data[self._at : end], min(end + 1, len(self._data))
        return found

    def pieces(self) -> list[bytes]:
        """Return all that is left, cut at each 0xFF."""
        found = []
        while self:
            found.append(self.piece())
        return found

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)


def text_of(data: bytes) -> str:
    """Return bytes as a text, with surrogates for what is no UTF-8, as Python reads names of files."""
    return data.decode("utf-8", "surrogateescape")
