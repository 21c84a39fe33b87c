"""Where "~" leads: ssh goes by the account's home folder whatever HOME says, other programs by HOME."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path


def account_home() -> Path:
    """Return the account's home folder, as ssh takes it; HOME where the account has no entry, and ssh does not run."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path(os.environ.get("HOME") or "/")


def homes() -> tuple[Path, ...]:
    """Return HOME and the account's home folder, which are mostly one."""
    said = os.environ.get("HOME")
    return tuple(dict.fromkeys([*([Path(said)] if said else []), account_home()]))


def expand_home(text: str, home: Path | None = None) -> Path:
    """Expand "~" and "~user" as ssh does; of a user who does not exist nothing is expanded, and no such file is there.

    Args:
        text: a path.
        home: what "~" alone is; None is the account's home.
    """
    first, slash, rest = text.partition("/")
    if first == "~":
        return Path(home or account_home(), rest.lstrip("/"))
    if first.startswith("~"):
        try:
            return Path(pwd.getpwnam(first[1:]).pw_dir, rest.lstrip("/"))
        except KeyError:
            return Path(text)
    return Path(f"{first}{slash}{rest}")


def find_home(text: str) -> Path:
    """Expand "~" to the first home where such a file lies; in none of them, as ssh does."""
    for home in homes():
        path = expand_home(text, home)
        with contextlib.suppress(OSError):
            path.stat()
            return path
    return expand_home(text)
