"""The name that every machine of ours has at its provider: ``ad-<owner>-<rental>-<n>-<until>``.

It is the mark by which we know our own, also where the ledger is lost, and it says until when it is wanted. What has
another name is not ours, whatever id somebody told us.
"""

from __future__ import annotations

import secrets

import attrs

from asyncdeploy.nodes.names import shown
from asyncdeploy.values.account import user_name
from asyncdeploy.values.regex import regex

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_NAME = regex(r"ad-([a-z0-9]{1,16})-([a-z2-7]{8})-([0-9]{1,4})-([0-9]{10})")
_RENTAL = regex(r"[a-z2-7]{8}")
_OWNER = regex(r"[a-z0-9]{1,16}")


@attrs.frozen
class RentedName:
    """A name of ours, in its parts; ``until`` in seconds since 1970."""

    owner: str
    rental: str
    number: int
    until: int

    def __str__(self) -> str:
        return f"ad-{self.owner}-{self.rental}-{self.number}-{self.until}"


def read_name(text: str) -> RentedName | None:
    """Return a name's parts; None for what is not ours."""
    found = _NAME.fullmatch(text)
    name = RentedName(found[1], found[2], int(found[3]), int(found[4])) if found else None
    return name if name is not None and str(name) == text else None


def label_of(name: str) -> str:
    """Return what all of a machine's rental is marked with: its name without number and time."""
    return "-".join(name.split("-")[:3])


def new_rental_id() -> str:
    """Return an id that nobody else has: 40 random bits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


def as_rental_id(given: str) -> str:
    """Return a rental's id; it becomes a part of a path.

    Raises:
        ValueError: it is none.
    """
    if not _RENTAL.fullmatch(given):
        raise ValueError(f"rental: its id of 8 letters a-z and digits 2-7 was expected, got {shown(given)}")
    return given


def as_owner(given: str | None) -> str:
    """Return whose machines they are: what was given, else the login name's letters and digits.

    Raises:
        ValueError: what was given cannot stand in a name.
    """
    if given is None:
        letters = "".join(c for c in (user_name() or "").lower() if c.isascii() and c.isalnum())
        return letters[:16] or "somebody"
    if not _OWNER.fullmatch(given):
        raise ValueError(f"owner: 1 to 16 small letters and digits were expected, got {shown(given)}")
    return given
