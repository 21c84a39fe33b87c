"""What an environment turned out to be on a node."""

from __future__ import annotations

import json
from typing import Self

import attrs

from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.words import is_harmless

MAX_WORD = 100
"""Of what a node says of itself, one word."""


@attrs.frozen
class Built(PlainData):
    """What an environment turned out to be on a node, as it says itself.

    Attributes:
        python: its Python's version.
        torch: torch's version, "" without torch.
        cuda: the CUDA that torch was built for, "" if for none.
        packages: how many distributions are installed.
        digest: names all of them with their versions.
    """

    python: str = ""
    torch: str = ""
    cuda: str = ""
    packages: int = 0
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what a node's line says, None if it makes no sense: it is looked at, not trusted."""
        try:
            found = cls.from_dict(json.loads(text))
        except (ValueError, RecursionError):
            return None
        words = (found.python, found.torch, found.cuda, found.digest)
        return found if all(is_harmless(word, MAX_WORD) for word in words) else None
