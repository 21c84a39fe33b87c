"""The only place that writes shell: one POSIX program a file, and the quoting of what goes into it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from asyncdeploy.values.texts import packaged_text


def script(names: tuple[str, ...], *words: str) -> bytes:
    """Return programs as one script whose positional parameters are ``words``, for ``interpreter.open_script``.

    Args:
        names: programs of node_side without ".sh", in the order in which they run.
        words: any text without a NUL; bytes that are no UTF-8 as surrogates.
    """
    text = "\n".join([f"set -- {shlex.join(words)}", *(packaged_text(f"node_side/{name}.sh") for name in names)])
    return text.encode("utf-8", "surrogateescape")


def exports(env: Mapping[str, str]) -> str:
    """Return lines that put variables into the environment."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
