"""Whom renting verbs ask: flags and variables to the library's providers. No file of settings has a word here: a
project that somebody downloads shall not say who is told our keys.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence

import asyncdeploy as ad
from asyncdeploy.cli.settings.usage import UsageError, unknown

KNOWN = {
    "runpod": ("RunPod", "RUNPOD_API_KEY"),
    "vast": ("Vast", "VAST_API_KEY"),
    "lambda": ("LambdaCloud", "LAMBDA_API_KEY"),
    "prime": ("PrimeIntellect", "PRIME_API_KEY"),
}
"""By the name that stands in every list: the class, and the variable with the key."""


def providers_of(verb: str, words: Sequence[str]) -> list[ad.Provider]:
    """Return the providers that are named; without a name all whose key is set here.

    Args:
        verb: who asks.
        words: names, or MODULE:NAME of somebody's own: a provider, or what makes one when it is called.

    Raises:
        UsageError: there is no such one, or no key of any.
        ToolMissing: the extra that asks them is not installed.
    """
    chosen = list(words) or [name for name, (_, variable) in KNOWN.items() if os.environ.get(variable)]
    if any(":" not in word for word in chosen or KNOWN) and importlib.util.find_spec("aiohttp") is None:
        text = f"`asyncdeploy {verb}` needs aiohttp: pip install 'asyncdeploy[rent]'"
        raise ad.ToolMissing("", text, tool="aiohttp")
    if not chosen:
        variables = ", ".join(variable for _, variable in KNOWN.values())
        raise UsageError(f"no provider: set {variables}, or name one with --provider")
    return [_own(word) if ":" in word else _known(word) for word in dict.fromkeys(chosen)]


def _known(word: str) -> ad.Provider:
    if word not in KNOWN:
        raise UsageError(str(unknown("provider", word, KNOWN)))
    name, variable = KNOWN[word]
    if not os.environ.get(variable):
        raise UsageError(f"--provider {word}: its key was expected in the variable {variable}")
    provider: ad.Provider = getattr(ad, name)()
    return provider


def _own(word: str) -> ad.Provider:
    place, _, name = word.partition(":")
    try:
        found = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--provider {word}: MODULE:NAME was expected, got {error}") from error
    provider: ad.Provider = found() if callable(found) else found
    return provider
