"""Which words of the ssh_config files may be meant for a host: what ssh need not be asked about is not asked.

The files are read for their keywords alone: which host gets which value only ssh can tell.
"""

from __future__ import annotations

import errno
import shlex
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from asyncdeploy.connect.ssh.config.homes import account_home, expand_home
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS, OLDER
from asyncdeploy.connect.ssh.config.patterns import is_pattern, match_pattern
from asyncdeploy.tasks.threads import run_abandonable
from asyncdeploy.values.regex import regex

SYSTEM_FILES = ("/etc/ssh/ssh_config", "/usr/local/etc/ssh/ssh_config", "/opt/homebrew/etc/ssh/ssh_config")
"""One of these is the ssh client's own, by who built it; so may be etc/ssh beside its bin (conda, Nix, MacPorts)."""
UNNAMED = "asyncdeploy-unnamed-host"
"""A host that nobody's configuration names; what is said of it is said of all that are not named."""
MAX_DEPTH = 16
"""Files that include files; OpenSSH's own bound."""
MAX_FILES = 1000
MAX_BYTES = 16 << 20
"""Of one file: a hundred thousand hosts."""
SHORT = 10_000
"""Letters of patterns that are looked through within a millisecond; to ask a thread takes a third of one."""

NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Errors that say nothing about a file or a program: this machine has no more descriptors, memory, processes."""

_CANONICAL = frozenset({"canonicalizehostname", "canonicaldomains", "canonicalizepermittedcnames"})
_RENAMING = _CANONICAL | {"hostname"}
"""Keywords after which a host may have another name than the one that is asked about."""
_MANY_DIGESTS = frozenset({"controlpath", "localcommand", "remotecommand"})
"""Words without effect here in which a digest of the host is usual."""
_OLDER = {old.lower(): new.lower() for old, new in OLDER.items()}
_LINE = regex(r'\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+|(?="))(.*)')
_NOT_OURS = regex(r"\\|[\"'].*#|#.*[\"']")
"""In a line's words: where a word or a comment begins is read by ssh otherwise than by shlex."""


class UnclearError(Exception):
    """Only ssh itself can tell what else is said."""


@attrs.frozen
class Section:
    """What is said of some hosts: of those that a Host line means, or perhaps of all (``patterns`` is None)."""

    patterns: tuple[str, ...] | None
    words: set[str] = attrs.field(factory=set)

    def bare(self) -> Iterator[str]:
        """Yield its patterns, negated ones among them, in lower case."""
        yield from (pattern.removeprefix("!").lower() for pattern in self.patterns or ())

    def may_mean(self, host: str) -> bool:
        """Return whether it may be meant for a host. ssh minds case; one section too many does no harm."""
        name, patterns = host.lower(), self.patterns or ()
        if not any(match_pattern(pattern.lower(), name) for pattern in patterns if not pattern.startswith("!")):
            return False
        return not any(match_pattern(pattern[1:], host) for pattern in patterns if pattern.startswith("!"))


class WrittenWords:
    """The keywords of ssh_config files, by the hosts for which they may be meant.

    Args:
        sections: as they stand in the files.
        is_clear: only Host lines tell hosts apart, and a value that depends on its host shows it.
        is_read_twice: Host lines are compared with a host's new name too, if it gets one.
    """

    def __init__(self, sections: Sequence[Section], *, is_clear: bool, is_read_twice: bool) -> None:
        self._is_clear, self._is_read_twice = is_clear, is_read_twice
        self._every = frozenset().union(*(section.words for section in sections))
        self._of_all = frozenset().union(*(section.words for section in sections if section.patterns is None))
        self._named: defaultdict[str, list[Section]] = defaultdict(list)
        for section in sections:
            for name in section.bare():
                self._named[name].append(section)
        self._wild = [section for section in sections if any(map(is_pattern, section.bare()))]
        wild = {pattern for section in self._wild for pattern in section.bare() if is_pattern(pattern)} - {"*"}
        self._patterns = tuple(wild)
        self._is_short = sum(map(len, wild)) <= SHORT
        self._is_clear = self._is_clear and not self._tells_apart(UNNAMED)

    @classmethod
    def read(cls, file: Path | None = None) -> WrittenWords:
        """Read the user's and the system's ssh_config with all that they include, or another file alone. Blocking.

        Of at most MAX_FILES files of MAX_BYTES, keywords and Host lines are kept: up to 40 times their length.

        Raises:
            OSError: this machine has no more of what is needed to read a file.
        """
        reader = _Reader()
        # ssh goes by the account's home, whatever HOME says; names in a file of -F are looked up there too.
        folder = account_home() / ".ssh"
        places = [(folder / "config", folder), *((path, path.parent) for path in _system_files())]
        try:
            for path, base in [(file, folder)] if file is not None else places:
                reader.begin(None)
                reader.read(path, base, 0)
        except (UnclearError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NO_MORE:
                raise
            return cls([Section(None, set(KEYWORDS))], is_clear=False, is_read_twice=True)
        return cls(reader.sections, is_clear=reader.is_clear, is_read_twice=reader.is_read_twice)

    async def look_up(self, host: str) -> tuple[frozenset[str], bool]:
        """Return `of` and `tell_apart`, found off the loop where there are many patterns."""
        if self._is_short:
            return self._look_up(host)
        return await run_abandonable(self._look_up, host)

    def _look_up(self, host: str) -> tuple[frozenset[str], bool]:
        return self.of(host), self.tell_apart(host)

    def tell_apart(self, host: str) -> bool:
        """Return whether something may be said of this host that is not said of all."""
        return not self._is_clear or self._tells_apart(host)

    def _tells_apart(self, host: str) -> bool:
        name = host.lower()
        return name in self._named or any(match_pattern(pattern, name) for pattern in self._patterns)

    def of(self, host: str) -> frozenset[str]:
        """Return the keywords that may be said of a host, in lower case and by their present names."""
        found = set(self._of_all)
        for section in (*self._named.get(host.lower(), ()), *self._wild):
            if not found.issuperset(section.words) and section.may_mean(host):
                found |= section.words
        is_renamed = self._is_read_twice and not _RENAMING.isdisjoint(found)
        return self._every if is_renamed else frozenset(found)


def _system_files() -> Iterator[Path]:
    """Yield where the system's file may be; of those that are not there nothing is read."""
    ssh = shutil.which("ssh")
    beside = [Path(ssh).resolve().parent.parent / "etc/ssh/ssh_config"] if ssh else []
    yield from dict.fromkeys([*map(Path, SYSTEM_FILES), *beside])


class _Reader:
    """Reads files into sections."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.is_clear = True
        self.is_read_twice = False
        self._files = 0

    def begin(self, patterns: tuple[str, ...] | None) -> None:
        """Begin a section."""
        self.sections.append(Section(patterns))

    def read(self, path: Path, base: Path, depth: int) -> None:
        """Read a file, and those that it includes below ``base``."""
        self._files += 1
        if depth > MAX_DEPTH or self._files > MAX_FILES:
            raise UnclearError
        for keyword, line in _lines(path):
            if keyword == "include":
                self._include(_split(line), base, depth)
            elif keyword == "host":
                self.begin(tuple(_split(line)))
            elif keyword == "match":
                self._match(line.lower())
            else:
                self.is_read_twice |= keyword in _CANONICAL
                # A digest of the host does not show that the value is meant for this one alone.
                has_digest = "%C" in line and keyword not in _MANY_DIGESTS
                self.is_clear &= keyword not in _CANONICAL and not has_digest
                self.sections[-1].words.add(keyword)

    def _match(self, line: str) -> None:
        self.begin(None)
        self.is_read_twice |= "final" in line or "canonical" in line
        # "Match final all" is meant for all; Red Hat's own file begins so.
        self.is_clear &= line.split() in (["all"], ["final", "all"], ["canonical", "all"])

    def _include(self, words: list[str], base: Path, depth: int) -> None:
        patterns = self.sections[-1].patterns
        for word in words:
            if any(letter in word for letter in "%$["):  # "[" is more to ssh than to us
                raise UnclearError
            whole = base / expand_home(word)
            for found in sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor)))):
                self.begin(patterns)
                self.read(found, base, depth + 1)
        self.begin(patterns)


def _split(line: str) -> list[str]:
    """Return the words of a line, up to a comment: "#" begins one only where a word begins."""
    if _NOT_OURS.search(line):
        raise UnclearError
    words = shlex.split(line)
    return words[: next((number for number, word in enumerate(words) if word.startswith("#")), None)]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each line's keyword, in lower case and by its present name, and what stands behind it."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return
    if len(raw) > MAX_BYTES:
        raise UnclearError
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        if found := _LINE.match(line + " "):
            keyword = found[1].lower()
            yield _OLDER.get(keyword, keyword), found[2].strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            raise UnclearError
