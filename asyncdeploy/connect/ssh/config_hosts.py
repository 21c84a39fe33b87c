"""Which hosts an ssh_config tells apart: all others get one answer of `ssh -G`, which costs 5 ms each time."""

from __future__ import annotations

import fnmatch
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

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
