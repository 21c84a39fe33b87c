"""Which hosts an ssh_config tells apart: all others get one answer of `ssh -G`, which costs 5 ms each time."""

from __future__ import annotations

import fnmatch
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs

from asyncdeploy.connect.ssh.config.ask import SshConfig, ask_ssh
from asyncdeploy.nodes.parse import Node
from asyncdeploy.tasks.threads import run_abandonable

CONFIGS_AT_ONCE = 4
"""`ssh -G` takes 5 ms of a core each."""
SYSTEM_FILE = Path("/etc/ssh/ssh_config")
MAX_DEPTH = 16
"""Files that include files; OpenSSH's own bound."""
MAX_FILES = 1000
UNNAMED = "asyncdeploy-unnamed-host"
"""A host that nobody's configuration names; what is said of it is said of all that are not named."""

_TELLING = frozenset({"match", "canonicalizehostname", "canonicaldomains"})
"""Keywords after which only ssh itself knows what holds for a host."""


class UnclearError(Exception):
    """Only ssh itself can tell."""


@attrs.frozen
class NamedHosts:
    """The patterns of an ssh_config's Host lines.

    Attributes:
        patterns: lower case, without their "!", and without "*" alone; None if only ssh can tell.
    """

    patterns: frozenset[str] | None

    @classmethod
    def read(cls, file: Path | None = None) -> NamedHosts:
        """Read the user's and the system's ssh_config with all that they include, or another file alone. Blocking."""
        try:
            # ssh goes by the account's home, whatever HOME says; names in a file of -F are looked up there too.
            folder = Path(pwd.getpwuid(os.getuid()).pw_dir, ".ssh")
            places = [(file, folder)] if file is not None else [(folder / "config", folder)]
            places += [] if file is not None else [(SYSTEM_FILE, SYSTEM_FILE.parent)]
            patterns = {name for path, base in places for name in _patterns(path, base, [0], 0)}
        except (UnclearError, OSError, ValueError, KeyError):
            return cls(None)
        return cls(frozenset(patterns - {"*"}))

    def tell_apart(self, host: str) -> bool:
        """Return whether something may be said of this host that is not said of all."""
        if self.patterns is None:
            return True
        return any(fnmatch.fnmatchcase(host.lower(), pattern) for pattern in self.patterns)


def _patterns(path: Path, base: Path, files: list[int], depth: int) -> Iterator[str]:
    """Yield the patterns of a file, and of those it includes below ``base``."""
    files[0] += 1
    if depth > MAX_DEPTH or files[0] > MAX_FILES:
        raise UnclearError
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in text.splitlines():
        keyword, _, _ = line.strip().replace("=", " ", 1).partition(" ")
        keyword = keyword.partition("\t")[0].lower()
        if keyword in _TELLING:
            raise UnclearError
        if keyword in ("host", "include"):
            words = shlex.split(line.strip().replace("=", " ", 1), comments=True)[1:]
            if keyword == "host":
                yield from (word.removeprefix("!").lower() for word in words)
            else:
                for word in words:
                    yield from _included(word, base, files, depth)


def _included(word: str, base: Path, files: list[int], depth: int) -> Iterator[str]:
    if "%" in word or "$" in word or word.startswith("~"):
        raise UnclearError
    whole = base / word
    for found in sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor)))):
        yield from _patterns(found, base, files, depth + 1)


class SshConfigs:
    """What ssh would do with nodes: those that its configuration does not tell apart are asked about once for all.

    Args:
        file: another ssh_config than the user's.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._asking = anyio.CapacityLimiter(CONFIGS_AT_ONCE)
        self._reading = anyio.Lock()
        self._named: NamedHosts | None = None
        self._of_all: dict[tuple[str | None, int | None], SshConfig] = {}

    async def ask(self, node: Node) -> SshConfig:
        """Return what ssh would do with a node.

        Raises:
            ConnectError: it cannot read its configuration.
        """
        # Under the lock, so that of a hundred nodes that begin at once the first one asks for all.
        async with self._reading:
            if self._named is None:
                self._named = await run_abandonable(NamedHosts.read, self._file)
            key = (node.user, node.port)
            if not self._named.tell_apart(node.host):
                if key not in self._of_all:
                    self._of_all[key] = await self._ask_ssh(node, UNNAMED)
                of_all = self._of_all[key]
                if not of_all.by_name and of_all.jump is None:  # a jump host is not behind itself
                    return attrs.evolve(of_all, host=node.host)
        async with self._asking:
            return await self._ask_ssh(node, node.host)

    async def _ask_ssh(self, node: Node, host: str) -> SshConfig:
        return await ask_ssh(host, node=node.name, user=node.user, port=node.port, file=self._file)
