"""What ssh_config says about nodes: hosts that it does not tell apart get one answer, for each question costs 5 ms."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import attrs

from asyncdeploy.connect.ssh.config.answer import SshConfig, unsaid_keys
from asyncdeploy.connect.ssh.config.ask import NoSsh, Question, ask_ssh
from asyncdeploy.connect.ssh.config.files import UNNAMED, WrittenWords
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS
from asyncdeploy.connect.ssh.handshake.reasons import system_error
from asyncdeploy.nodes.parse import Node
from asyncdeploy.tasks.threads import run_abandonable
from asyncdeploy.values.errors import ConnectError

CONFIGS_AT_ONCE = 4
"""`ssh -G` takes 5 ms of a core each."""
MAX_LISTED = 20
"""Words that an error names; where it is more of them, a file could not be read."""

_SAID_BY = {
    "user": ("user",),
    "port": ("port",),
    "key_path": ("identityfile", "identitiesonly"),
    "jump": ("proxyjump", "proxycommand"),
}
"""What a node's own words settle."""


class SshConfigs:
    """What ssh would do with nodes.

    Args:
        file: another ssh_config than the user's.
        note: is told what a person should know: (node's name, text).
    """

    def __init__(self, file: Path | None = None, note: Callable[[str, str], None] | None = None) -> None:
        self._file = file
        self._note = note
        self._asking = anyio.CapacityLimiter(CONFIGS_AT_ONCE)
        self._reading = anyio.Lock()
        self._written: WrittenWords | None = None
        self._of_all: dict[tuple[str | None, int | None], SshConfig] = {}

    async def ask(self, node: Node) -> SshConfig:
        """Return what ssh would do with a node; one that says everything needs no ssh unless something is left to say.

        Raises:
            ConnectError: it cannot read its configuration, or says what cannot be followed.
        """
        try:
            return await self._find(node)
        except OSError as error:
            raise system_error(node.name, node.host, node.port or 22, error) from error

    async def _find(self, node: Node) -> SshConfig:
        # Under the lock, so that of a hundred nodes that begin at once the first one asks for all.
        async with self._reading:
            if self._written is None:
                self._written = await run_abandonable(WrittenWords.read, self._file)
            written, is_apart = await self._written.look_up(node.host)
            if says_all(node) and not _telling(written, node):
                return _unsaid(node)
            key = (node.user, node.port)
            if not is_apart:
                if key not in self._of_all:
                    self._of_all[key] = await self._ask(node, UNNAMED, written)
                of_all = self._of_all[key]
                if not of_all.by_name and of_all.jump is None:  # a jump host is not behind itself
                    # A HostName that is said of all leads all of them there.
                    return of_all if of_all.host != UNNAMED else attrs.evolve(of_all, host=canonical(node.host))
        async with self._asking:
            return await self._ask(node, node.host, written)

    async def _ask(self, node: Node, host: str, written: frozenset[str]) -> SshConfig:
        question = Question(host, node.name, node.user, node.port, self._file)
        try:
            return await ask_ssh(question, written)
        except NoSsh as error:
            lost = _needed(written, node)
            if lost:
                raise _unread(node, lost, str(error), question) from error
            ignored = sorted(KEYWORDS[word].name for word in _telling(written, node))
            if ignored and self._note is not None:
                why = str(error).splitlines()[-1:] or ["there is no ssh client"]
                self._note(node.name, f"ssh_config's {', '.join(ignored)} not followed: {why[0]}")
            return _unsaid(node)


def _unsaid(node: Node) -> SshConfig:
    return SshConfig(host=canonical(node.host), keys=unsaid_keys())


def says_all(node: Node) -> bool:
    """Return whether a node says itself where it is and how it is logged in to."""
    return bool(_is_numeric(node.host) and node.user and node.port and node.key_path)


def canonical(host: str) -> str:
    """Return an address as ssh writes it, and a name in lower case."""
    address, percent, zone = host.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, address)) + percent + zone
        except OSError:
            continue
    return host.lower()


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _telling(written: frozenset[str], node: Node) -> set[str]:
    """Return the words that matter for a node: those that are followed or refused, and that it does not say itself."""
    words = {word for word in written if word in KEYWORDS and KEYWORDS[word].effect != "no effect"}
    return words.difference(*(said for field, said in _SAID_BY.items() if getattr(node, field) is not None))


def _needed(written: frozenset[str], node: Node) -> list[str]:
    """Return the words without which we might reach another machine, trust another key, or have none to log in with.

    Words that nobody knows are among them: ssh reads no configuration that has one.
    """
    subjects = {"trust", "route", "file"} if says_all(node) else {"trust", "route", "file", "login"}
    found = {KEYWORDS[word].name for word in _telling(written, node) if KEYWORDS[word].subject in subjects}
    return sorted(found if says_all(node) else found | (written - KEYWORDS.keys()))


def _unread(node: Node, lost: list[str], said: str, question: Question) -> ConnectError:
    words = ", ".join(lost) if len(lost) <= MAX_LISTED else "what only ssh can tell"
    if not said:
        message = f"there is no ssh client to read ssh_config, which says {words}"
        return ConnectError(node.name, message, "install OpenSSH's client", reason="config")
    message, hint = "ssh cannot read its configuration", f"look at `{' '.join(question.words())}`; it says {words}"
    return ConnectError(node.name, message, hint, said, reason="config")
