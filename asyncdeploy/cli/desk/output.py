"""What is written where: results on stdout, progress on stderr, or both as JSON on stdout for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import attrs

import asyncdeploy as ad
from asyncdeploy.values.serialize import to_plain
from asyncdeploy.values.words import clean
from asyncdeploy.view.colours import may_colour

V = 1
"""Of what programs read: what a field means is never changed under one number."""


def speak_plainly() -> None:
    """Let no letter that the streams cannot write end us: it is spelled out."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@attrs.frozen
class Output:
    """Where a verb's words go.

    Attributes:
        verb: its name.
        json: for a program: nothing but JSON on stdout.
        asks: it asks, and answers with one document; else each event is a line.
        quiet: only failures are said.
    """

    verb: str
    json: bool = False
    asks: bool = False
    quiet: bool = False

    def result(self, text: str) -> None:
        """Print what was asked for, for people."""
        if not self.json:
            print(clean(text), flush=True)

    def line(self, text: str) -> None:
        """Print a line of a node that was made harmless already."""
        if not self.json:
            print(text, flush=True)

    @property
    def colours(self) -> bool:
        """Whether results are to be coloured."""
        return may_colour(sys.stdout)

    def say(self, text: str) -> None:
        """Print what a person should know while it goes on."""
        if not (self.json or self.quiet):
            print(clean(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Say what went wrong beside the work, whose end it does not change."""
        print(clean(f"warning: {text}"), file=sys.stderr, flush=True)

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """Write one line of NDJSON."""
        if self.json and not self.asks:
            self._write({"v": V, "event": name, **fields})

    def seen(self, event: ad.Event) -> None:
        """Write an event of the library as such a line."""
        if self.json and not self.asks:
            self._write({"v": V, **event.to_dict()})

    def document(self, fields: Mapping[str, Any]) -> None:
        """Write the answer: a document where it asks, else the last line."""
        if self.json:
            head = {"v": V, "verb": self.verb} if self.asks else {"v": V, "event": "Result", "verb": self.verb}
            self._write({**head, **fields})

    def error(self, error: BaseException | str, code: int) -> int:
        """Say why it failed, and return the exit status."""
        if self.json:
            plain = error.to_dict() if hasattr(error, "to_dict") else {"type": "UsageError", "message": str(error)}
            self.document({"ok": False, "exit": code, "error": plain})
        else:
            red, end = ("\x1b[31m", "\x1b[0m") if may_colour(sys.stderr) else ("", "")
            print(f"{red}error:{end} {clean(in_words(error))}", file=sys.stderr, flush=True)
        return code

    def _write(self, data: dict[str, Any]) -> None:
        print(json.dumps({key: to_plain(value) for key, value in data.items()}), flush=True)


def in_words(error: BaseException | str) -> str:
    """Return an error as people read it."""
    if not isinstance(error, ad.DeployError | ad.FleetError):
        return str(error) or type(error).__name__
    return error.describe()


def failures_in_words(report: ad.Report[Any]) -> str:
    """Return what failed; of one node alone its error."""
    first = report.outcomes[0].error if len(report) == 1 else None
    return in_words(first if first is not None else ad.FleetError.of(report))
