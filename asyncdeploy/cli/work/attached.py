"""What runs attached, as a person sees it and ends it: lines that nodes print alike once, and three Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import asyncdeploy as ad
from asyncdeploy.cli.desk.exits import CTRL_C
from asyncdeploy.cli.desk.output import Output
from asyncdeploy.launch.follow.log_fold import LineFolder
from asyncdeploy.tasks.urgency import Patience

T = TypeVar("T")

FOLD_S = 1.0
"""How long a line waits for other nodes to print the same; not at all once all that still run have."""


class Lines:
    """A listener that prints the lines of a command as they come, with the names of the nodes in front.

    Args:
        out: where the verb's words go.
        names: of the nodes.
        bare: without names, and not folded: for another program's input.

    Attributes:
        reader_left: nobody reads any more, as of ``| head``; then the work is cancelled.
    """

    def __init__(self, out: Output, names: Sequence[str], *, bare: bool) -> None:
        self._out = out
        self._names = list(names)
        self._bare = bare
        self._folder = LineFolder(range(len(names)), FOLD_S)
        self._timer: asyncio.TimerHandle | None = None
        self.reader_left = False
        self._task = asyncio.current_task()

    def __call__(self, event: ad.Event) -> bool:
        """Take an event; return whether it was a line."""
        if not isinstance(event, ad.OutputLine) or event.source:
            return False
        if self._bare:
            self._print(event.stream, ad.LaunchLine(0, event.node, event.text).shown(colours=self._out.colours))
        else:
            line = ad.LaunchLine(self._names.index(event.node), event.node, event.text, event.stream)
            self._folder.add(line, 0, self._now())
            self._give()
        return True

    def ended(self, name: str) -> None:
        """Wait for a node no longer."""
        self._folder.ended(self._names.index(name))
        self._give()

    def close(self) -> None:
        """Print what still waits."""
        self._give(final=True)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _give(self, *, final: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (taken := self._folder.take(self._now(), final=final)) is not None:
            line = taken[0]
            who = with_count(self._names[rank] for rank in line.node_ranks or (line.node_rank,))
            self._print(line.stream, f"{who}: {line.shown(colours=self._out.colours)}")
        if (due := self._folder.due()) < float("inf"):
            self._timer = asyncio.get_running_loop().call_at(due, self._give)

    def _print(self, stream: str, text: str) -> None:
        if self._out.json or self.reader_left:
            return
        try:
            print(text, file=sys.stderr if stream == "stderr" else sys.stdout, flush=True)
        except BrokenPipeError:  # as of `| head`: what runs is ended, as by Ctrl-C
            self.reader_left = True
            if self._task is not None:
                self._task.cancel()


def with_count(names: Iterable[str]) -> str:
    """Return nodes folded, with their number where there are several."""
    found = list(names)
    return found[0] if len(found) == 1 else f"{ad.fold_names(found)} ({len(found)})"


async def attended(work: Coroutine[Any, Any, T], out: Output, living: Callable[[], Sequence[str]]) -> T:
    """Do the work while a person attends to it: the first Ctrl-C cancels it, which sends TERM; the second one is KILL
    at once, the third leaves.

    Args:
        work: what ends on a cancellation, nodes included.
        out: where the verb's words go.
        living: names the nodes where something of it may live.

    Raises:
        CancelledError: there was a Ctrl-C.
    """
    loop, pressed = asyncio.get_running_loop(), 0
    with Patience() as patience:
        task = loop.create_task(work)

        def press() -> None:
            nonlocal pressed
            pressed += 1
            if pressed == 1:
                out.say("Ctrl-C: TERM was sent; what has come is kept. Again: KILL. A third time: leave")
                task.cancel()
            elif pressed == 2:
                out.say("Ctrl-C: KILL was sent")
                patience.lose()
            else:
                _leave(out, living())

        heard = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # as a shell's "&" makes it
        if heard:
            loop.add_signal_handler(signal.SIGINT, press)
        try:
            return await task
        finally:
            if heard:
                loop.remove_signal_handler(signal.SIGINT)


def _leave(out: Output, names: Sequence[str]) -> None:
    """End this process as it stands. What still lives there is ended by its leash; nobody has seen it end."""
    left = with_count(names) if names else "no node"
    out.say(f"left. Not seen to end: {left}; there it is ended when the node notices that we are gone")
    sys.stdout.flush()
    os._exit(CTRL_C)
