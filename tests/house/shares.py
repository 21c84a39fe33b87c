"""In which order tests run side by side: each process begins with its share of the long ones, none ends with one."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

T = TypeVar("T")


def long_first(long: Sequence[T], short: Sequence[T], processes: int) -> list[T]:
    """Return all tests in one row, such that xdist, which cuts it into a piece a process, gives each long ones first.

    Neighbours stay neighbours, as they share beds and environments: real engines run one after the other.
    """
    sizes = list(_sizes(len(long) + len(short), processes))
    pieces = zip(sizes, _sizes(len(long), processes), strict=True)
    longs, shorts = iter(long), iter(short)
    return list(chain.from_iterable(_take(longs, few) + _take(shorts, all_ - few) for all_, few in pieces))


def _sizes(number: int, pieces: int) -> Iterator[int]:
    """As xdist's worksteal cuts."""
    for left in range(pieces, 0, -1):
        yield number // left
        number -= number // left


def _take(source: Iterator[T], number: int) -> list[T]:
    return [next(source) for _ in range(number)]
