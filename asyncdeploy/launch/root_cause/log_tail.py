"""The end of a rank's log: the lines that say why it ended. No I/O."""

from __future__ import annotations

from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines

EVIDENCE_LINES = 8
"""Of the failing rank's last words: a traceback's end and the frames above it."""
MAX_AFTER = 24
"""Lines that may stand behind a traceback which was the last word: other threads and children say theirs, too."""

_RANK_LINE = regex(r"\[[^\]\s]{0,64}?([0-9]{1,6})\]:(.*)")
_RANK_TAG = regex(r"\[rank[0-9]+\]:\s?")
_AGENT_NOISE = regex(r"[EWI][0-9]{4} [0-9:.]+ +[0-9]+ .*torch/distributed/")
_TRACE = "Traceback (most recent call last)"
_CRASH = "Fatal Python error:"


def last_words(log: str, local_rank: int | None = None) -> str:
    """Return what a rank printed at last: at most EVIDENCE_LINES lines, and three times the log in memory meanwhile.

    Args:
        log: the end of its log, or of one that it shares with others.
        local_rank: of a shared log, whose lines are meant; where it has none, those of nobody are returned.
    """
    mine, rest = [], []
    for line in log.splitlines():
        found = _RANK_LINE.match(line)
        if found and int(found[1]) == local_rank:
            mine.append(_RANK_TAG.sub("", found[2].removeprefix(" "), count=1))
        elif not _AGENT_NOISE.match(line) and (found is None or local_rank is None):
            rest.append(_RANK_TAG.sub("", line, count=1))
    lines = [line.rstrip() for line in mine or rest if line.strip()]
    return last_lines("\n".join(_telling(lines)), EVIDENCE_LINES)


def error_line(words: str) -> str:
    """Return the line that names the error, of words that end in a traceback; "" of others."""
    lines = words.splitlines()
    if len(lines) > 1 and any(line.startswith(("  File ", _TRACE)) for line in lines) and not lines[-1].startswith(" "):
        return lines[-1]
    return ""


def _telling(lines: list[str]) -> list[str]:
    """Return the last traceback, or the beginning of Python's own report of a crash, or all lines."""
    crash = next((index for index, line in enumerate(lines) if line.startswith(_CRASH)), None)
    if crash is not None:
        return lines[max(0, crash - 2) : crash + EVIDENCE_LINES - 2]
    traces = [index for index, line in enumerate(lines) if line.startswith(_TRACE)]
    if not traces:
        return lines
    trace = _one_trace(lines[traces[-1] :])
    return trace if len(lines) - traces[-1] - len(trace) <= MAX_AFTER else lines


def _one_trace(lines: list[str]) -> list[str]:
    """Return a traceback up to the line that names its error: stdout comes by another way, and may come after it."""
    for index, line in enumerate(lines[1:], 2):
        if not line.startswith(" "):
            return lines[:index]
    return lines
