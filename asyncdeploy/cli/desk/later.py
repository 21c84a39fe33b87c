"""What only the work of a verb needs, loaded when it begins: a page of help pays for none of it."""

from __future__ import annotations

import importlib
from typing import Any


def later(name: str) -> Any:
    """Return a module of the command line by its name below ``asyncdeploy.cli``."""
    return importlib.import_module(f"asyncdeploy.cli.{name}")
