"""The exit status that a report, a launch or an error has, as scripts around us read it."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import asyncdeploy as ad

OK, FAILED, USAGE, TIMEOUT, NOT_FOUND, CTRL_C, UNREACHED = 0, 1, 2, 124, 127, 130, 255


def exit_of_report(report: ad.Report[Any]) -> int:
    """Return 0 where all is ok; the status of the one node that failed, or of all where all failed alike; else 1.

    255 only where no node at all could be reached.
    """
    codes = [exit_of(outcome.error) for outcome in report.failures]
    if not codes:
        return OK
    if all(code == UNREACHED for code in codes) and len(codes) == len(report):
        return UNREACHED
    if set(codes) == {TIMEOUT}:
        return TIMEOUT
    alike = len(codes) == 1 or (len(set(codes)) == 1 and len(codes) == len(report))
    return codes[0] if alike and codes[0] != UNREACHED else FAILED


def exit_of_launch(report: ad.Report[ad.JobStatus]) -> int:
    """Return the root cause's own status; without one, as of any report."""
    for error in _errors(report):
        if isinstance(error, ad.LaunchFailed):
            return exit_of(error)
    return exit_of_report(report)


def exit_of(error: BaseException | None) -> int:
    """Return the status that an error stands for."""
    if isinstance(error, ad.FleetError):
        return exit_of_report(error.report) if len(error.report) else FAILED
    if isinstance(error, ad.CommandTimeout | ad.DeadlineExceeded | TimeoutError):
        return TIMEOUT
    if isinstance(error, ad.CommandFailed | ad.JobFailed | ad.LaunchFailed) and (error.status or error.signal):
        return error.status or 128 + _number(error.signal or "")
    if isinstance(error, ad.ConnectError | ad.AuthError | ad.HostKeyError | ad.NoShell):
        return UNREACHED
    return FAILED


def _number(name: str) -> int:
    found = getattr(signal, f"SIG{name}", None)
    return int(found) if found is not None else 127 if not name.isdigit() else int(name)


def _errors(report: ad.Report[Any]) -> Iterable[BaseException]:
    return (outcome.error for outcome in report.failures if outcome.error is not None)
