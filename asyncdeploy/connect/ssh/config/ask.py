"""What the user's ssh_config says about a host, asked of `ssh -G`: real Match, Include and tokens, no parser of ours.

Only what names a machine and a key is taken over. Agent forwarding, environment, terminals, host-key checking and
multiplexing are never inherited.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import attrs

from asyncdeploy.tasks.programs import run_program
from asyncdeploy.values.errors import ConnectError
from asyncdeploy.values.words import last_lines

ASK_S = 10.0
"""`Match exec` may run a program; one that takes longer would stop people's own ssh too."""


@attrs.frozen
class SshConfig:
    """How ssh would reach a host; None and () are left to our own defaults. ``by_name``: another one may be reached
    otherwise.
    """

    host: str | None = None
    user: str | None = None
    port: int | None = None
    key_paths: tuple[Path, ...] = ()
    keys_only: bool = False
    agent: str | None = None
    jump: str | None = None
    proxy_command: str | None = None
    host_key_alias: str | None = None
    by_name: bool = False


def parse_config(text: str, host: str = "") -> SshConfig:
    """Read the output of ``ssh -G``: "keyword value" lines; the first of a keyword counts, identityfile adds up.

    Args:
        text: the output.
        host: the host that was asked for; where anything but where it is holds its name, ``by_name`` is set.

    Raises:
        ValueError: a port is not a number.
    """
    said: dict[str, str] = {}
    paths: list[Path] = []
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        if keyword == "identityfile" and value != "none":
            paths.append(Path(value))
        elif value:
            said.setdefault(keyword, value)
    named = [line for line in text.splitlines() if host and host in line]
    agent, port = said.get("identityagent"), said.get("port", "0")
    if not port.isdecimal():
        raise ValueError(f"a number was expected as the port, got {port!r}")
    return SshConfig(
        host=said.get("hostname"),
        user=said.get("user"),
        port=int(port) or None,
        key_paths=tuple(_existing(path) for path in paths if _existing(path).is_file()),
        keys_only=said.get("identitiesonly") == "yes",
        agent=None if agent == "SSH_AUTH_SOCK" else agent,
        jump=_unless_none(said.get("proxyjump")),
        proxy_command=_unless_none(said.get("proxycommand")),
        host_key_alias=said.get("hostkeyalias"),
        by_name=any(line not in (f"host {host}", f"hostname {host}") for line in named),
    )


async def ask_ssh(host: str, *, node: str, user: str | None, port: int | None, file: Path | None = None) -> SshConfig:
    """Ask the ssh client how it would reach a host; without an ssh client the answer is empty.

    Args:
        host: the alias or host, as a Node has checked it.
        node: the node's name, for errors.
        user, port: what the node says itself, which ``Match user`` may look at.
        file: another ssh_config than the user's.

    Raises:
        ConnectError: ssh cannot read its configuration; its words are the evidence.
    """
    words = ["ssh", *(["-F", str(file)] if file else []), "-G"]
    words += [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", host]
    hint = f"look at `{' '.join(words)}`"
    try:
        done = await run_program(words, within_s=ASK_S)
    except FileNotFoundError:
        return SshConfig()
    except TimeoutError:
        raise ConnectError(node, f"ssh -G did not answer within {ASK_S:.0f} s", hint, reason="config") from None
    if done.status:
        evidence = last_lines(done.stderr)
        raise ConnectError(node, "ssh cannot read its configuration", hint, evidence, reason="config")
    try:
        return parse_config(done.stdout.decode("utf-8", "replace"), host)
    except ValueError as error:
        raise ConnectError(node, f"the answer of ssh -G: {error}", hint, reason="config") from None


def _existing(path: Path) -> Path:
    """Expand "~" where that is possible; a home that does not exist leaves the path as it is, which is no file."""
    with contextlib.suppress(RuntimeError):
        return path.expanduser()
    return path


def _unless_none(value: str | None) -> str | None:
    return None if value == "none" else value
