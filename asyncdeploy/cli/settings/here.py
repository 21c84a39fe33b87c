"""What of this machine matters before any node is asked: ssh, agent, keys, git, uv, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import attrs

KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
ASK_S = 10.0
"""For a program that prints its version."""


@attrs.frozen
class Seen:
    """One thing that was looked at: what it is, whether it will do, and in words."""

    name: str
    ok: bool
    text: str

    def to_dict(self) -> dict[str, object]:
        """Return plain data."""
        return attrs.asdict(self)


def look_here() -> list[Seen]:
    """Return what was seen of this machine, in the order in which it is needed."""
    found = [Seen("asyncdeploy", True, f"{_version('asyncdeploy')}, Python {platform.python_version()}")]
    found.append(Seen("asyncssh", True, _version("asyncssh")))
    found.append(_tool("ssh", ("-V",), "ssh_config is read by it: install OpenSSH's client", needed=True))
    found.append(_agent())
    found.append(_keys())
    found.append(_tool("git", ("--version",), "without it all files of a folder are sent, ignored ones too"))
    uv = _version("uv")
    text = (
        f"{uv}, sent to nodes that have none" if uv else "pip install 'asyncdeploy[uv]' sends it to nodes that lack it"
    )
    found.append(Seen("uv", True, text if uv else f"- ({text})"))
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tool(name: str, words: tuple[str, ...], lacking: str, *, needed: bool = False) -> Seen:
    path = shutil.which(name)
    if path is None:
        return Seen(name, not needed, f"- ({lacking})")
    said = _said(path, *words)
    return Seen(name, True, f"{said.splitlines()[0] if said else 'it says nothing'} ({path})")


def _said(*words: str) -> str:
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).decode("utf-8", "replace").strip()


def _agent() -> Seen:
    if not os.environ.get("SSH_AUTH_SOCK"):
        return Seen("agent", True, "- (none; keys without a passphrase need none)")
    if shutil.which("ssh-add") is None:
        return Seen("agent", True, "there is one; without ssh-add nobody can say what it holds")
    lines = [line for line in (_said("ssh-add", "-l")).splitlines() if "SHA256:" in line]
    return Seen("agent", True, f"{len(lines)} key{'' if len(lines) == 1 else 's'}" if lines else "it holds no key")


def _keys() -> Seen:
    folder = Path.home() / ".ssh"
    found = [name for name in KEYS if (folder / name).is_file()]
    loose = [name for name in found if (folder / name).stat().st_mode & 0o077]
    if loose:
        return Seen("keys", False, f"{', '.join(loose)}: others may read it; chmod 600 {folder / loose[0]}")
    if not found and not os.environ.get("SSH_AUTH_SOCK"):
        return Seen("keys", False, f"- (no key in {folder}, and no agent: ssh-keygen -t ed25519 makes one)")
    return Seen("keys", True, ", ".join(found) if found else f"- (none of the usual names in {folder})")
