"""Where a verb does its work: settings read, nodes chosen, a pool open, every end turned into an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.cli.desk.exits import CTRL_C, USAGE, exit_of
from asyncdeploy.cli.desk.output import Output, speak_plainly
from asyncdeploy.cli.settings.choose import choose_nodes, has_nodes
from asyncdeploy.cli.settings.file import File, find_file
from asyncdeploy.cli.settings.options import Project, Reach, Show
from asyncdeploy.cli.settings.rented import host_keys
from asyncdeploy.cli.settings.usage import UsageError
from asyncdeploy.cli.settings.values import env_of, workspace_of

Work = Callable[["Desk"], Awaitable[int]]

PIPE_CLOSED = 141
"""As a shell tells of a program that wrote to a reader who had left (SIGPIPE)."""


@attrs.define
class Desk:
    """What a verb works with.

    Attributes:
        out: where its words go.
        file: the settings file.
        reach / show: the flags.
        pool: the connections.
        listeners: see every event beside whoever shows them; one that returns True has shown it itself.
        source: what named the nodes, for people; "" while nobody has chosen any.
        stages: whether people are shown each stage of each node; else only what is noted.
        view: shows it to them.
        starting: something was begun to be started on a node.
        left: it was said what runs on after a Ctrl-C.
    """

    out: Output
    file: File
    reach: Reach
    show: Show
    pool: ad.Pool = attrs.field(init=False)
    listeners: list[Callable[[ad.Event], bool]] = attrs.field(init=False, factory=list)
    events: list[ad.Event] = attrs.field(init=False, factory=list)
    source: str = attrs.field(init=False, default="")
    stages: bool = False
    view: Any = attrs.field(init=False, default=None)
    starting: bool = attrs.field(init=False, default=False)
    left: bool = attrs.field(init=False, default=False)

    def nodes(self, words: Sequence[str] = ()) -> tuple[ad.Node, ...]:
        """Return the nodes that are meant; where no argument names them it is said what does.

        Raises:
            UsageError: there are none.
        """
        found, self.source = choose_nodes(self.file, self.reach, words)
        self.view.nodes = [node.name for node in found]
        if self.source != "the command line":
            names = ad.fold_names([node.name for node in found])
            self.out.say(f"{len(found)} node{'s' if len(found) > 1 else ''} from {self.source}: {names}")
        return found

    def has_nodes(self, words: Sequence[str] = ()) -> bool:
        """Return whether anything names nodes."""
        return has_nodes(self.file, self.reach, words)

    def workspace(self, project: Project) -> ad.Workspace:
        """Return what is pushed."""
        return workspace_of(self.file, project.path)

    def env(self, project: Project) -> ad.Env:
        """Return how a node becomes able to run it."""
        return env_of(self.file, project.env, project.extra, project.image)

    @property
    def accepts(self) -> bool:
        """Whether a node that was never seen is trusted: a flag or its variable says it, else the file."""
        said = self.reach.accept_new
        return bool(self.file.accept_new if said is None else said)

    def open_pool(self) -> ad.Pool:
        """Return a new pool by the flags."""

        def observe(event: ad.Event) -> None:
            self.out.seen(event)
            self.starting |= isinstance(event, ad.StageStarted) and event.stage == "start"
            if self.show.timeline is not None:
                self.events.append(event)
            shown_already = [listener(event) for listener in self.listeners]
            if not (any(shown_already) or self.out.json) and self._is_said(event):
                self.view(event)

        return ad.Pool(host_keys=host_keys(self.accepts), observer=observe)

    def _is_said(self, event: ad.Event) -> bool:
        return self.stages or self.show.verbose or (isinstance(event, ad.Noted) and not self.show.quiet)

    def end_view(self) -> None:
        """Leave the table as it stands: what comes now is for lines."""
        self.view.close()


def attend(verb: str, work: Work, reach: Reach | None, show: Show, *, asks: bool = False, stages: bool = False) -> int:
    """Do a verb's work and return the exit status; whatever ends it is said.

    Args:
        verb: its name.
        work: is given the desk, and returns the exit status.
        reach, show: the flags; without ``reach`` it is about no nodes that settings could name, and no file is read.
        asks: it asks, and answers with one document.
        stages: it works on nodes for long enough that people want to see how far each is.
    """
    import asyncio  # here, so that a page of help pays for no event loop

    out = Output(verb, show.json, asks, show.quiet)
    speak_plainly()
    try:
        file = File() if reach is None else find_file(reach.config)
        return asyncio.run(_at_desk(Desk(out, file, reach or Reach(), show, stages), work))
    except KeyboardInterrupt:
        return CTRL_C
    except BrokenPipeError:
        return leave_pipe()
    except UsageError as error:
        return out.error(error, USAGE)
    except ValueError as error:  # law 8: what makes no sense as an argument, said by the library
        return out.error(error, USAGE)
    except (ad.DeployError, ad.FleetError) as error:
        return out.error(error, exit_of(error))
    except OSError as error:
        return out.error(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), exit_of(error))


async def _at_desk(desk: Desk, work: Work) -> int:
    import asyncio  # see attend

    show = desk.show
    _check_timeline(show.timeline)
    desk.view = ad.live_view(show="all" if show.verbose else "failures" if show.quiet else "phases")
    shown = desk.stages and not (show.json or show.quiet)
    try:
        with desk.view if shown else contextlib.nullcontext():
            async with desk.open_pool() as desk.pool:
                return await work(desk)
    except asyncio.CancelledError:
        _tell_stopped(desk)
        raise
    finally:
        write_timeline(desk)


def _check_timeline(path: Path | None) -> None:
    """Open the file before the work, so that no work is in vain because of a name."""
    try:
        if path is not None:
            path.open("a").close()
    except OSError as error:
        raise UsageError(f"--timeline {path}: {error.strerror}") from error


def _tell_stopped(desk: Desk) -> None:
    """Say how a Ctrl-C has left things, unless that was done."""
    if desk.left:
        return
    if desk.stages:
        told = "what was being started was told to end: asyncdeploy ps shows what there is"
        desk.out.say(f"\nstopped; {told if desk.starting else 'nothing was started'}")
    desk.out.document({"ok": False, "exit": CTRL_C})


def write_timeline(desk: Desk) -> None:
    """Write what happened so far, if that was asked for; where that fails, what was done is done all the same."""
    path: Path | None = desk.show.timeline
    if path is None:
        return
    try:
        ad.write_timeline(path, desk.events, title=f"asyncdeploy {desk.out.verb}")
        desk.out.say(f"timeline: {path}")
    except OSError as error:
        desk.out.warn(f"the timeline was not written: {path}: {error.strerror}")


def leave_pipe() -> int:
    """Return the status of one whose reader has gone, and let the interpreter's own last flush fail on nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
