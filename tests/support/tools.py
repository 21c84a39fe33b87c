"""What a test needs from the machine: missing on a laptop it skips, under CI=true it fails."""

import importlib.util
import os
import shutil
from typing import NoReturn

import pytest


def in_ci() -> bool:
    """Whether this run must prove everything, so that nothing may be skipped."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def missing(reason: str) -> NoReturn:
    """Give up on this test: a skip with its reason on a laptop, a failure under CI."""
    __tracebackhide__ = True
    if in_ci():
        pytest.fail(f"{reason} (under CI=true nothing is skipped; .ci/run must provide it)")
    pytest.skip(reason)


def need(*tools: str) -> None:
    """Give up on this test unless every one of `tools` is found (PATH, /usr/sbin and /sbin are searched)."""
    __tracebackhide__ = True
    absent = [tool for tool in tools if find(tool) is None]
    if absent:
        missing(f"needs {', '.join(absent)}, which this machine does not have")


def need_root() -> None:
    """Give up on this test unless we are root."""
    __tracebackhide__ = True
    if os.geteuid() != 0:
        missing("needs root")


def need_torch() -> None:
    """Give up on this test unless the Python that runs the tests, which the nodes use as well, has torch."""
    __tracebackhide__ = True
    need_package("torch")


def need_package(name: str) -> None:
    """Give up on this test unless the Python that runs it has a package."""
    __tracebackhide__ = True
    if importlib.util.find_spec(name) is None:
        missing(f"needs {name}")


def find(tool: str) -> str | None:
    """The absolute path of `tool`, or None; system programs are found even where PATH lacks their folder."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"
    return shutil.which(tool, path=path)
