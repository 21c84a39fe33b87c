"""A run that dies with us, by our program on the node or by sh: what both keep of it."""

from __future__ import annotations

import attrs

from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.streams import Input, Output
from asyncdeploy.values.command import Command, Completed
from asyncdeploy.values.errors import CommandTimeout
from asyncdeploy.values.events import Noted
from asyncdeploy.values.words import describe_survivors, last_lines


@attrs.define
class Run:
    """One command under way.

    Attributes:
        is_sent: all of its input is; before that it has not begun.
        completed: how it ended, by itself or because we wanted it; its status is None while nobody knows.
        is_confirmed: the node has said that nothing of it lives.
    """

    remote: Remote
    command: Command
    stdin: Input
    output: Output
    is_sent: bool = False
    completed: Completed = attrs.field(init=False)
    is_confirmed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.completed = Completed(self.remote.node.name, self.command.shown, None)

    def ended(self, completed: Completed) -> None:
        """Take the node's word of an end that we wanted; what could not be ended is said, whoever asks."""
        self.completed, self.is_confirmed = completed, not completed.survivors
        if completed.survivors:
            text = f"{describe_survivors(completed.survivors)}: {self.command.shown}"
            self.remote.emit(Noted(node=self.remote.node.name, text=text))

    def timeout(self, seconds: float) -> CommandTimeout:
        """Return the error of a run that took too long, with what it printed and what became of it."""
        limit, line = self.command.timeout_s or 0.0, self.command.shown
        over = f"command was not done within {limit:g} s"
        ended = self.is_confirmed or not self.is_sent
        if not self.is_sent:
            message = f"{over}, and was not started: {line}"
        elif ended:
            message = f"{over} and was ended: {line}"
        elif self.completed.survivors:
            message = f"{over}, and {describe_survivors(self.completed.survivors, ' ({})')}: {line}"
        else:
            message = f"{over}; the node did not confirm its end: {line}"
        stdout, stderr, dropped = self.output.value("stdout"), self.output.value("stderr"), self.output.dropped
        left = attrs.evolve(self.completed, stdout=stdout, stderr=stderr, dropped=dropped, duration_s=seconds)
        evidence = last_lines(stderr or stdout)
        return CommandTimeout(self.remote.node.name, message, "", evidence, line, limit, ended, left)
