"""Without the extra "cli": the demo, which needs nothing, and one line that says what to install."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from asyncdeploy.cli.overview import INSTALL


def main(words: Sequence[str]) -> int:
    """Run the demo, or say what is lacking."""
    if words[0] != "demo":
        print(f"error: `asyncdeploy {words[0]}` needs cyclopts and rich: {INSTALL}", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser("asyncdeploy demo")
    parser.add_argument("--hosts", help="real machines instead of four local ones: a,b or root@gpu[01-04]:22")
    parser.add_argument("--accept-new", action="store_true", help="record host keys that are not known yet")
    parser.add_argument("--results", default=None, help="folder for the results (default: a temporary one)")
    args = parser.parse_args(words[1:])
    return show_demo(args.hosts, accept_new=args.accept_new, results=args.results)


def show_demo(hosts: str | None, *, accept_new: bool, results: str | None) -> int:
    """Run the demo to its end and return the exit status."""
    demo: Any = importlib.import_module("asyncdeploy.cli.demo")
    return int(demo.main(hosts, accept_new=accept_new, results=results))
