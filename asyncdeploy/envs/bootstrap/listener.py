"""What the steps of an environment say while they run: heard from the script's own words, and why one failed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable

import anyio

from asyncdeploy.envs.base import Step
from asyncdeploy.envs.built import Built
from asyncdeploy.envs.known_errors import find_hint, find_note
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.stage import Stage
from asyncdeploy.remote.transport import Channel, Remote
from asyncdeploy.values.errors import BootstrapFailed
from asyncdeploy.values.events import Event, Noted, OutputLine

EVIDENCE_LINES = 12
KEPT_LINES = 200
"""Of a step's output, where known causes are looked for."""
SIGN_S = 20.0
"""A step that prints nothing for so long is said to be running: uv is quiet while it fetches 3 GB."""
NOTE = "note: "
SHORTEST_SECRET = 4
"""A shorter one is part of any text, and nobody's secret."""
MAX_LINE = 2000
"""Kept of one line: evidence is for reading."""


class StepListener:
    """A Remote that hears the script's own words between the lines of the steps, and shows the lines as the steps'.

    Attributes:
        verdict: the script's last word, "" while there is none.
        status: the exit status that it gave with "failed".
        step_name: the step that ran last, "" if none did.
        built: what the environment is, if it said so.
    """

    def __init__(
        self,
        remote: Remote,
        mark: str,
        steps: tuple[Step, ...],
        limit: anyio.CancelScope | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.node: Node = remote.node
        self.memory: dict[str, object] = remote.memory
        self.observed = True  # we look, whoever else does
        self.verdict = ""
        self.status: int | None = None
        self.step_name = ""
        self.built: Built | None = None
        self._remote = remote
        self._mark = mark + " "
        self._steps = steps
        lines = {line for each in secrets for line in each.splitlines() if len(line) >= SHORTEST_SECRET}
        self._secrets = sorted(lines, key=len, reverse=True)
        self._limit = limit
        self._stage: Stage | None = None
        self._began = self._heard_at = 0.0
        self._sign: asyncio.TimerHandle | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        """Open a line on the node."""
        return await self._remote.open(line, kind=kind)

    async def open_spare(self, line: str) -> Channel | None:
        """Open one by a slot that nobody wants."""
        return await self._remote.open_spare(line)

    def give_back(self, channel: Channel, kind: str) -> None:
        """Give a channel back."""
        self._remote.give_back(channel, kind)

    def emit(self, event: Event) -> None:
        """Take an event of the run that we listen to."""
        if not isinstance(event, OutputLine):
            self._remote.emit(event)
            return
        self._heard_at = time.monotonic()
        # A step may have left its last line open, so the script's word need not stand at a line's start.
        before, found, words = event.text.partition(self._mark)
        before = self.without_secrets(before)
        if before or not found:
            self._lines.append(before[:MAX_LINE])
            if self._remote.observed:
                source = f"env: {self.step_name}" if self.step_name else "env"
                line = OutputLine(node=event.node, stream=event.stream, text=before, source=source, at=event.at)
                self._remote.emit(line)
                # what our own scripts want people to read, and what a tool says that we know
                note = before.removeprefix(NOTE) if before.startswith(NOTE) else find_note(before)
                if note:
                    self._remote.emit(Noted(node=self.node.name, text=f"env: {note}"))
        if found:
            self._hear(words.split())

    def _hear(self, words: list[str]) -> None:
        word, value = [*words, "", ""][:2]
        number = int(value) if value.isdecimal() and len(value) < 6 else None
        if word == "step" and number is not None and 0 < number <= len(self._steps):
            self.end_step(well=True)
            self._begin_step(self._steps[number - 1])
        elif word == "built":
            self.built = Built.parse(value)
        elif word == "skipped" and self._stage is not None:
            self._stage.detail = "= nothing to do"
        elif word == "waits":
            self._remote.emit(Noted(node=self.node.name, text="waiting for another deployer's env"))
        elif word in ("same", "differs", "busy", "made", "moved", "failed"):
            self.verdict, self.status = word, number
            self.end_step(well=word == "made")

    def _begin_step(self, step: Step) -> None:
        self.step_name = step.name
        self._began = self._heard_at = time.monotonic()
        self._lines.clear()
        self._sign = asyncio.get_running_loop().call_later(SIGN_S, self._give_sign)
        self._stage = Stage(self._remote, f"env: {step.name}")
        if self._limit is not None:
            self._limit.deadline = anyio.current_time() + step.timeout_s

    def _give_sign(self) -> None:
        """Say that the step still runs, where it does not say so itself."""
        if self._stage is not None:
            now = time.monotonic()
            if now - self._heard_at >= SIGN_S * 0.9:
                text = f"env: {self.step_name}: still running, {now - self._began:.0f} s"
                self._remote.emit(Noted(node=self.node.name, text=text, passing=True))
            self._sign = asyncio.get_running_loop().call_later(SIGN_S, self._give_sign)

    def end_step(self, *, well: bool = False) -> None:
        """Say that the step under way, if there is one, has ended."""
        if self._sign is not None:
            self._sign.cancel()
        ended, self._stage = self._stage, None
        if ended is not None and well:
            ended.finish()
        elif ended is not None:
            ended.fail(f"exited {self.status}" if self.status is not None else "ended")

    def without_secrets(self, text: str) -> str:
        """Return what a step printed without the values of secrets, should it have printed one."""
        for each in self._secrets:
            text = text.replace(each, "***")
        return text

    def evidence(self) -> str:
        """Return the last lines of the step that ran last."""
        return "\n".join([line for line in self._lines if line.strip()][-EVIDENCE_LINES:])

    def failure(self, how: str, facts: NodeFacts, hint: str = "") -> BootstrapFailed:
        """Return the error for the step that ran last.

        Args:
            how: what became of it ("exited 2").
            facts: for a hint that fits the node.
            hint: what to do, where that is known already.
        """
        what = f"env failed: {self.step_name} {how}"
        return BootstrapFailed(
            self.node.name, what, hint or self.hint(facts), self.evidence(), self.step_name, self.status
        )

    def hint(self, facts: NodeFacts | None = None) -> str:
        """Return what to do about the cause, if it is a known one, else ""."""
        return find_hint("\n".join(self._lines), facts)
