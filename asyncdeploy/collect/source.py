"""Where results lie: how a person names them for a project, and what that is on a node."""

from __future__ import annotations

from asyncdeploy.values.workspace import check_remote_path


def find_source(source: str, workdir: str, what: str) -> str:
    """Return the path of a project's results on its node.

    Args:
        source: absolute, "~" or "~/..."; anything else is relative to the project's folder, "~notes" too.
        workdir: that folder, absolute.
        what: whose argument it is, for the error.

    Raises:
        ValueError: it leads out of the project's folder, or holds what no path may.
    """
    is_whole = source.startswith(("/", "~/")) or source == "~"
    path = source if is_whole else f"{workdir.rstrip('/')}/{source}"
    check_remote_path(path, what)
    return path
