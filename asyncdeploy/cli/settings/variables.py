"""Variables for what runs on nodes, as flags write them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from asyncdeploy.cli.settings.usage import UsageError


def pairs(words: Iterable[str]) -> dict[str, str]:
    """Return NAME=VALUE words as a mapping.

    Raises:
        UsageError: one has no "=".
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set: NAME=VALUE was expected, got {word!r}; --secret NAME sends a variable of ours")
        found[name] = value
    return found


def secrets(names: Iterable[str]) -> dict[str, str]:
    """Return the values that variables here have; they show nowhere.

    Raises:
        UsageError: one is not set here, or is written with its value, which everybody here could read.
    """
    found = {}
    for name in names:
        if "=" in name:
            raise UsageError("--secret: the name of a variable here was expected, no value: arguments are no secret")
        if name not in os.environ:
            raise UsageError(f"--secret: the variable {name} is not set here")
        found[name] = os.environ[name]
    return found
