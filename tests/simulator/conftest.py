"""What a story's killed client leaves is let go of within its own test."""

import gc
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def what_was_killed_says_nothing() -> Iterator[None]:
    """A coroutine that a killed client never came to await would complain in whichever test it is collected."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = hook
