"""Foreign words made harmless: the one room through which what a node said enters whatever people see.

The law (fault H4): a node cannot drive our terminal, fake the line of another node, or flood us. What leaves this room

- holds no control character (C0, DEL, C1), so no escape sequence begins in it; newlines and tabs only where a text may
  have several lines. Of a line that goes to a terminal (``shown_line``) colours may stay, and end with it;
- holds nothing invisible that reorders or hides what stands around it (U+202A to E, U+2066 to 9, zero widths, tags):
  only what ``str.isprintable`` takes; the rest is written out, as "\\x1b";
- holds no surrogate, so it can be printed, logged and written as UTF-8;
- is no longer than its bound.

Every DeployError and every Event sends its texts through ``clean`` when it is built, so nobody can forget it. Who puts
a node's word into a sentence of ours takes ``one_line``; evidence is ``last_lines`` of an output. What is used and not
shown stays as it came (a path to act on, what a command printed): Python's own repr makes it harmless, and who shows
it otherwise comes here first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from asyncdeploy.values.regex import regex

MAX_LINE = 400
"""Characters of one line: a long path with a sentence around it."""
MAX_TEXT = 64 * 1024
"""Characters of a text of several lines: a report on a thousand nodes, and no flood."""
EVIDENCE_LINES = 5

_TAIL = 16 * 1024  # of an output, where its last lines are looked for
_COLOUR = regex(r"\x1b\[[0-9;:]{0,40}[mK]")  # of an output; in a name it would hide that two are not the same
_SGR = regex(r"(\x1b\[[0-9;:]{0,40}m)")
_CUT = "..."
RESET = "\x1b[0m"
"""What ends all colours."""


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text, of several lines where it has them, as it may be shown."""
    if text.isprintable() and len(text) <= limit:
        return text
    return _head("".join(c if c in "\n\t" else _harmless(c) for c in text[: limit + 1]), limit)


def one_line(said: str | bytes, limit: int = MAX_LINE) -> str:
    """Return what somebody said as a part of one line."""
    text = said[: 4 * (limit + 1)].decode("utf-8", "replace") if isinstance(said, bytes) else said
    return _head("".join(map(_harmless, text[: limit + 1])).strip(), limit)


def last_lines(output: str | bytes, count: int = EVIDENCE_LINES) -> str:
    """Return the last lines of an output that say anything, without their colours; of a long one its end."""
    tail = output[-_TAIL:]
    text = tail.decode("utf-8", "replace") if isinstance(tail, bytes) else tail
    lines = [line for line in re.split(r"[\r\n]", _COLOUR.sub("", text)) if line.strip()]
    return "\n".join(_end("".join(map(_harmless, line)).rstrip()) for line in lines[-count:])


def shown_line(text: str, *, colours: bool = False) -> str:
    """Return a line that a program printed as it may go to a terminal: whole, and with nothing in it but letters.

    Args:
        text: the line, as it came.
        colours: let its colours pass (SGR, "ESC [ ... m"), and end what it leaves open; else they are left out. All
            other sequences are written out, as "\\x1b]52;...".
    """
    if text.isprintable():
        return text
    parts = _SGR.split(text)
    plain = ["".join(letter if letter == "\t" else _harmless(letter) for letter in part) for part in parts[::2]]
    if not colours or len(parts) == 1:
        return "".join(plain)
    marks = [*parts[1::2], RESET]
    return "".join(part + mark for part, mark in zip(plain, marks, strict=True))


def is_harmless(text: str, limit: int = MAX_LINE) -> bool:
    """Return whether a text may be shown as it is, as a part of one line."""
    return text.isprintable() and len(text) <= limit


def _harmless(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode("ascii")


def _head(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(0, limit - len(_CUT))] + _CUT[:limit]


def _end(line: str) -> str:
    return line if len(line) <= MAX_LINE else _CUT + line[len(_CUT) - MAX_LINE :]


_UNSEEN = "0 "
"""No process has this number: behind it stands why nobody could look."""


def describe_survivors(survivors: Sequence[str], form: str = ": {}") -> str:
    """Return what is to be said of them: that they could not be ended, or that nobody can tell.

    Args:
        survivors: "pid name" each; "0 why" where the node could not look.
        form: how their names, or the reason, stand behind that.
    """
    if unseen := [each.removeprefix(_UNSEEN) for each in survivors if each.startswith(_UNSEEN)]:
        return "that it has ended cannot be proven" + form.format(unseen[0])
    return "could not be ended" + form.format(", ".join(survivors))
