"""A target and what holds for every one of them: nothing escapes, nothing hangs, nothing fills the memory."""

import contextlib
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import attrs

CORPUS = Path(__file__).with_name("corpus")
MOST_S = 1.0
"""Of processor time, whatever else this machine does: no input of a few KB takes a thousandth of it."""
MOST_BYTES = 4 << 20
"""Of memory at once, for an input of MOST_INPUT: what it says, as Python's objects, and the libraries' own caches."""
MOST_INPUT = 4096


class Hung(Exception):
    """A target took longer than MOST_S."""


class Swollen(Exception):
    """A target took more memory than it may."""


@attrs.frozen
class Target:
    """A parser, and what must hold for it.

    Attributes:
        name: as the corpus' folder is called.
        run: takes any bytes; raises only where a promise is broken.
        words: what its inputs are made of: of such a word chance alone finds none.
        slow: it asks another program; few inputs must do.
        most_bytes: of memory, where it promises another bound than MOST_BYTES: who reads a file asks for room for the
            largest that it takes, of which the system gives no more than is used.
    """

    name: str
    run: Callable[[bytes], None]
    words: tuple[bytes, ...] = ()
    slow: bool = False
    most_bytes: int = MOST_BYTES

    def corpus(self) -> list[Path]:
        """Return the inputs that are kept."""
        return sorted((CORPUS / self.name).glob("*"))

    def case(self, data: bytes, *, weighed: bool = False) -> None:
        """Run one input within the bounds.

        Args:
            data: the input.
            weighed: measure its memory too, which makes it three times as slow.
        """
        with _timed(), _weighed(self.most_bytes) if weighed else contextlib.nullcontext():
            self.run(data)


TARGETS: dict[str, Target] = {}


def target(
    *words: bytes, slow: bool = False, most_bytes: int = MOST_BYTES
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Make a function of bytes a target, called as it is."""

    def enter(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        assert run.__name__ not in TARGETS
        TARGETS[run.__name__] = Target(run.__name__, run, words, slow, most_bytes)
        return run

    return enter


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    """Raise Hung where something of ours takes too long; `re` too is interrupted by it."""

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise Hung(f"took over {MOST_S} s of processor time")

    before = signal.signal(signal.SIGPROF, hung)
    signal.setitimer(signal.ITIMER_PROF, MOST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _weighed(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > most:
        raise Swollen(f"took {peak} bytes, {most} were expected at most")
