"""What a node says of processes that were to end and may not have."""

from __future__ import annotations

from collections.abc import Sequence

_UNSEEN = "0 "
"""No process has this number: behind it stands why nobody could look."""


def describe_survivors(survivors: Sequence[str], form: str = ": {}") -> str:
    """Return what is to be said of them: that they could not be ended, or that nobody can tell.

    Args:
        survivors: "pid name" each; "0 why" where the node could not look.
        form: how their names, or the reason, stand behind that.
    """
    if unseen := [each.removeprefix(_UNSEEN) for each in survivors if each.startswith(_UNSEEN)]:
        return "that it has ended cannot be proven" + form.format(unseen[0])
    return "could not be ended" + form.format(", ".join(survivors))
