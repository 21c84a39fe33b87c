"""A table as text for terminals and as HTML for notebooks: Table. Every word in it is made harmless here."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

WIDTH = 100
"""Characters of one cell: with a node's name and a state before it a line still fits a wide terminal."""
_CUT = "..."
# What html.escape does; that module brings a list of 2,000 names, which an import would pay for.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_STYLE = "text-align:left;vertical-align:top;white-space:pre-wrap"


@attrs.frozen
class Table:
    """What a person is shown of many things, or of one.

    Attributes:
        title: one line above it.
        head: the columns' names.
        rows: cells of text, as many as there are columns.
        below: lines below it.
    """

    title: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    below: tuple[str, ...] = ()

    def as_text(self) -> str:
        """Return it in columns, padded with spaces, each row a line."""
        rows = [tuple(map(cell, row)) for row in (self.head, *self.rows) if row]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(
            [*filter(None, [line(self.title)]), *(each.rstrip() for each in lines), *map(line, self.below)]
        )

    def as_html(self) -> str:
        """Return it as a table of a notebook, with no style, script or word of anybody else in it."""
        head = "".join(f'<th style="{_STYLE}">{_escape(cell(name))}</th>' for name in self.head)
        rows = "".join(f"<tr>{_cells(row)}</tr>" for row in self.rows)
        title = f"<div>{_escape(line(self.title))}</div>" if self.title else ""
        below = "".join(f'<div style="white-space:pre-wrap">{_escape(line(each))}</div>' for each in self.below)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if self.rows else ""
        return f"<div>{title}{table}{below}</div>"


class Described:
    """A value that shows itself to people: ``describe()`` in a terminal, a table in a notebook."""

    __slots__ = ()

    def table(self) -> Table:
        """Return what a person is shown of it."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return it for people: one line, a table, or both."""
        return self.table().as_text()

    def _repr_html_(self) -> str:
        """Notebooks ask for this."""
        return self.table().as_html()


def cell(text: str, width: int = WIDTH) -> str:
    """Return a text as one cell: no control character, nothing that hides or reorders, at most ``width`` characters."""
    shown = line(text[: 4 * width])
    return shown if len(shown) <= width else shown[: width - len(_CUT)] + _CUT


def line(text: str) -> str:
    """Return a text as one line in which every character can be seen."""
    if text.isprintable():
        return text
    return "".join(_harmless(letter) for letter in text)


def count(number: int, what: str, many: str = "") -> str:
    """Return a number of things in words: "1 node", "3 nodes"."""
    return f"{number} {what if number == 1 else many or what + 's'}"


def tally(words: Sequence[str]) -> str:
    """Return how many there are of each word, in the order in which they came: "3 ok, 1 failed"."""
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _cells(row: Sequence[str]) -> str:
    return "".join(f'<td style="{_STYLE}">{_escape(cell(text))}</td>' for text in row)


def _escape(text: str) -> str:
    return text.translate(_ENTITIES)


def _harmless(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else letter.encode("unicode_escape").decode("ascii")
