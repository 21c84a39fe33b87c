"""Who we are on this machine, also where our uid has no account (OpenShift, ``docker run -u``)."""

from __future__ import annotations

import getpass
from pathlib import Path


def user_name() -> str | None:
    """Return what LOGNAME, USER or the account says; None where nothing does."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None


def home_folder() -> Path:
    """Return what HOME or the account says, "/" where neither does: what is kept there is then kept nowhere."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
