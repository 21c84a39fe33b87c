"""The law of foreign words (fault H4): nothing that a node says can drive a terminal, hide, or flood us."""

import io
import json
import re
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from asyncdeploy.values import errors, events
from asyncdeploy.values.words import (
    EVIDENCE_LINES,
    MAX_LINE,
    MAX_TEXT,
    clean,
    is_harmless,
    last_lines,
    one_line,
    shown_line,
)
from asyncdeploy.view.plain import print_events

FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f"  # invisible: reorders, hides, ends a line
    "\ud800-\udfff]"  # no UTF-8
)
DANGEROUS = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x1bP1$r\x1b\\", "\r", "\x08" * 80, "\x00", "\x7f", "\x85"),
    *("\u202egpj.exe\u202c", "\u2066x\u2069", "\u2028", "\udcff", "\ufeff", "\U000e0041", "\u200b"),
    *("plain", "dänisch", "漢字", "😀", " "),
]
PIECES = st.one_of(st.sampled_from([*DANGEROUS, "\n", "\t"]), st.text(max_size=20))
WORDS = st.lists(PIECES, max_size=30).map("".join)


@given(WORDS, st.integers(0, 200))
def test_a_text_is_harmless_and_bounded(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert not FORBIDDEN.search(shown)
    assert len(shown) <= limit
    shown.encode("utf-8")
    assert clean(shown, limit) == shown
    if len(text) <= limit and re.sub("[\n\t]", "", text).isprintable():
        assert shown == text


@given(st.one_of(WORDS, st.binary(max_size=400)), st.integers(1, 200))
def test_a_word_in_a_sentence_stays_in_its_line(said: str | bytes, limit: int) -> None:
    shown = one_line(said, limit)
    assert shown.isprintable()
    assert is_harmless(shown, limit)
    assert one_line(shown, limit) == shown


@given(st.one_of(WORDS, st.binary(max_size=400)), st.integers(1, 9))
def test_the_last_lines_of_an_output(output: str | bytes, count: int) -> None:
    shown = last_lines(output, count)
    assert not FORBIDDEN.search(shown)
    assert len(shown.split("\n")) <= count
    assert all(line.strip() for line in shown.split("\n") if shown)


def test_what_they_look_like() -> None:
    assert one_line(b"a\nb\x1b[2Jc\xff ") == "a b\\x1b[2Jc\N{REPLACEMENT CHARACTER}"
    assert one_line("x" * 500) == "x" * (MAX_LINE - 3) + "..."
    assert clean("two\nlines\t\u202e\udcff") == "two\nlines\t\\u202e\\udcff"
    assert len(clean("\x1b" * 2 * MAX_TEXT)) == MAX_TEXT
    progress = "".join(f"\r{done} %" for done in range(100))
    assert last_lines(f"\x1b[1;31merror:\x1b[0m\x1b[K bad\r\n\n  {progress}\n", 2) == "98 %\n99 %"
    assert last_lines(b"\x1b[1;31merror:\x1b[0m\x1b[K bad\r\n") == "error: bad"
    assert last_lines("head " + "x" * 1000).startswith("...xx")
    assert last_lines(b"".join(b"%d\n" % number for number in range(10**5))).split("\n") == [
        str(number) for number in range(10**5 - EVIDENCE_LINES, 10**5)
    ]


def all_errors() -> list[type[errors.DeployError]]:
    """Every kind of error."""
    found = [errors.DeployError]
    for kind in found:
        found += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_no_error_can_drive_a_terminal(kind: type[errors.DeployError]) -> None:
    foreign = "".join(DANGEROUS)
    error = kind("gpu-1", foreign, foreign, foreign)
    error.message += foreign  # who names it later is no exception
    for shown in (str(error), repr(error), *(error.message, error.hint, error.evidence)):
        assert not FORBIDDEN.search(shown)
    assert not FORBIDDEN.search(json.dumps(error.to_dict(), ensure_ascii=False).replace("\\n", ""))


def all_events() -> list[type[events.Event]]:
    """Every kind of event."""
    found = [events.Event]
    for kind in found:
        found += kind.__subclasses__()
    return found[1:]


@pytest.mark.parametrize("kind", all_events(), ids=lambda kind: kind.__name__)
def test_no_event_can_drive_a_terminal_or_fake_another_one(kind: type[events.Event]) -> None:
    foreign = "".join(DANGEROUS) + "\n12:00:00.0 gpu-2 push ok"
    ours: dict[str, Any] = {"node": "gpu-1", "stage": "push", "stream": "stdout", "seconds": 1.0, "done": 1, "total": 2}
    words = {field.name: ours.get(field.name, foreign) for field in attrs.fields(kind) if field.name != "at"}
    screen = io.StringIO()
    print_events(screen, show="all")(kind(**words))
    first, *rest = screen.getvalue().splitlines() or [""]
    assert not FORBIDDEN.search(screen.getvalue())
    assert all(line.startswith("    ") for line in rest)
    assert (kind in (events.BytesMoved, events.StageStarted)) == (not first)


NASTY_LINES = {
    "\x1b[31mred\x1b[0m": "red",
    "\x1b[1;38;5;196;48;2;1;2;3mred": "red",
    "\x1b[4:3mcurly": "curly",
    "\x1b]0;a title\x07x": "\\x1b]0;a title\\x07x",
    "\x1b]52;c;cm0gLXJm\x07": "\\x1b]52;c;cm0gLXJm\\x07",
    "\x1b]8;;http://x\x1b\\link": "\\x1b]8;;http://x\\x1b\\link",
    "\x1b[2J\x1b[H\x1b[1A": "\\x1b[2J\\x1b[H\\x1b[1A",
    "\x1b[6n\x1b[c\x9b31mx": "\\x1b[6n\\x1b[c\\x9b31mx",
    "\x1b[31": "\\x1b[31",
    "\x1b[" + "1;" * 60 + "mx": "\\x1b[" + "1;" * 60 + "mx",
    "\x1b[?25lx\x1bc\x1bP+q\x1b\\": "\\x1b[?25lx\\x1bc\\x1bP+q\\x1b\\",
    "a\rb\x08c": "a b\\x08c",
    "\u202eevil\u200b": "\\u202eevil\\u200b",
    "col\tumn": "col\tumn",
    "\ud800": "\\ud800",
    "plain äß": "plain äß",
}


@pytest.mark.parametrize("text,plain", NASTY_LINES.items(), ids=map(repr, NASTY_LINES))
def test_of_a_line_only_its_colours_reach_a_terminal(text: str, plain: str) -> None:
    assert shown_line(text) == plain
    coloured = shown_line(text, colours=True)
    marks = re.findall(r"\x1b\[[0-9;:]*m", coloured)
    assert re.sub(r"\x1b\[[0-9;:]*m", "", coloured) == plain
    assert not marks or marks[-1] == "\x1b[0m", "it colours nothing behind it"
    assert [letter for letter in coloured.replace("\x1b[", "") if not letter.isprintable() and letter != "\t"] == []
    coloured.encode()


@given(st.text(st.sampled_from("\x1b[]0;1m52J\x07\x9b\r\n\ta:c\\é\u202e")))
def test_no_line_carries_anything_but_colours(text: str) -> None:
    left = re.sub(r"\x1b\[[0-9;:]{0,40}m", "", shown_line(text, colours=True))
    assert left == shown_line(text)
    assert not set(left) & set("\x1b\x07\x9b\r\n\u202e")
