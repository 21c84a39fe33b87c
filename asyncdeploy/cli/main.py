"""The command line: words to a verb. What needs no verb (help, version, completion) is answered without loading one."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import asyncdeploy
from asyncdeploy.cli import bare
from asyncdeploy.cli.overview import VERBS, overview
from asyncdeploy.values.texts import packaged_text

SHELLS = ("bash", "zsh", "fish")
USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: as cli/exits.py says; 2 usage, 130 Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    match words:
        case [] | ["--help" | "-h" | "help"]:
            print(overview())
            return 0 if words else USAGE
        case ["help", "--skill"]:
            print(packaged_text("cli/SKILL.md"), end="")
            return 0
        case ["--version" | "-V"]:
            print(asyncdeploy.__version__)
            return 0
        case ["completion", *shells]:
            return _completion(shells)
    asked = words[: words.index("--")] if "--" in words else words
    if words[0] in VERBS and ("--help" in asked or "-h" in asked):
        print(packaged_text(f"cli/pages/{words[0]}.txt"), end="")
        return 0
    if not all(importlib.util.find_spec(name) for name in ("cyclopts", "rich")):
        return bare.main(words)
    gc.disable()  # what is loaded stays: looking for garbage in it is a tenth of the start
    parse: Any = importlib.import_module("asyncdeploy.cli.parse")
    call = parse.parse(words)
    gc.enable()
    try:
        return int(call())
    except KeyboardInterrupt:
        return 130


def _completion(words: Sequence[str]) -> int:
    if len(words) != 1 or words[0] not in SHELLS:
        print(f"error: asyncdeploy completion SHELL: one of {', '.join(SHELLS)} was expected", file=sys.stderr)
        return USAGE
    print(packaged_text(f"cli/completions/asyncdeploy.{words[0]}"), end="")
    return 0
