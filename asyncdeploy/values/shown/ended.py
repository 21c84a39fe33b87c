"""A command that has ended, as a person is shown it. Text; no I/O."""

from __future__ import annotations

from asyncdeploy.values.shown.one_line import OneLine
from asyncdeploy.values.shown.table import Described, Table


class Ended(OneLine, Described):
    """What a Completed shows of itself."""

    __slots__ = ()

    node: str
    command: str
    status: int | None
    signal: str | None
    dropped: int
    duration_s: float
    survivors: tuple[str, ...]

    def gist(self) -> str:
        """Return the last line that it printed, else how it ended."""
        return next(reversed(self.last_lines()), "") or self._how

    def last_lines(self) -> list[str]:
        """Return the last lines that it printed, without their colours."""
        raise NotImplementedError

    def table(self) -> Table:
        """Return what a person is shown: the command, how it ended, its last lines."""
        below = [f"  | {line}" for line in self.last_lines()]
        below += [f"{self.dropped} bytes between its first and its last MiB were left out"] if self.dropped else []
        unseen = [each.removeprefix("0 ") for each in self.survivors if each.startswith("0 ")]
        below += [f"that it has ended cannot be proven: {each}" for each in unseen]
        below += [f"could not be ended: {each}" for each in self.survivors if not each.startswith("0 ")]
        return Table(f"{self.node}: {self._how} after {self.duration_s:.1f}s: {self.command}", below=tuple(below))

    @property
    def _how(self) -> str:
        if self.signal:
            return f"died of SIG{self.signal}"
        return f"exited {self.status}" if self.status is not None else "ended, nobody knows how"
