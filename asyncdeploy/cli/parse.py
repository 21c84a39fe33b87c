"""Words to the call of a verb, by cyclopts; a verb's module is loaded when it is named."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError

from asyncdeploy.cli.desk.exits import USAGE
from asyncdeploy.cli.overview import VERBS

BEHIND = "behind"
"""The parameter of verbs that take words behind ``--``."""


def build_app() -> App:
    """Return the parser of all verbs."""
    app = App(name="asyncdeploy", version_flags=(), help_format="plaintext", help_formatter="plain")
    for verb in VERBS.values():
        usage = f"Usage: asyncdeploy {verb.name} {verb.arguments}".rstrip()
        app.command(f"asyncdeploy.cli.verbs.{verb.place}", name=verb.name, usage=usage)
    return app


def parse(words: Sequence[str]) -> Callable[[], int]:
    """Return the call that the words mean; where they mean none, one that says why and gives 2."""
    at = list(words).index("--") if "--" in words else len(words)
    before, behind = list(words[:at]), tuple(words[at + 1 :])
    try:
        verb, bound, given = build_app().parse_args(before, exit_on_error=False, print_error=False)
    except UnusedCliTokensError as error:
        return functools.partial(_refuse, _too_many(error, before))
    except CycloptsError as error:
        return functools.partial(_refuse, str(error) + ("" if at < len(words) else _behind(error, before)))
    if BEHIND in given:
        bound.arguments[BEHIND] = behind
    elif at < len(words) and verb.__module__.startswith(__package__):
        return functools.partial(_refuse, f"asyncdeploy {before[0]} takes nothing behind --: {' '.join(behind)}")
    return lambda: verb(*bound.args, **bound.kwargs) or 0


def _behind(error: CycloptsError, words: Sequence[str]) -> str:
    """Return what is to be said to who has left out the ``--``: an option that is none of ours is the command's."""
    verb = VERBS.get(words[0])
    if verb is None or "--" not in verb.arguments or "Unknown option" not in str(error):
        return ""
    return f" What is not for us stands behind --: asyncdeploy {verb.name} {verb.arguments}"


def _too_many(error: UnusedCliTokensError, words: Sequence[str]) -> str:
    """Return what is to be said to who has given a verb more words than it takes: nodes, most often."""
    more = " ".join(shlex.quote(word) for word in error.unused_tokens or words[1:])
    verb = VERBS.get(words[0])
    if verb is None:
        return f"not expected: {more}"
    nodes = " --nodes names nodes." if verb.arguments.startswith(("RUN", "SCRIPT")) else ""
    return f"not expected: {more}. Usage: {f'asyncdeploy {verb.name} {verb.arguments}'.rstrip()}.{nodes}"


def _refuse(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return USAGE
