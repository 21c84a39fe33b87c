"""What is asked of a node and what came back: Command, Completed."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_type_hints

import attrs

from asyncdeploy.values import not_found
from asyncdeploy.values.arguments import checked, checked_class
from asyncdeploy.values.errors import CommandFailed, ConnectionLost, DeployError
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import Pairs, PlainData, to_pairs
from asyncdeploy.values.shown.ended import Ended
from asyncdeploy.values.words import last_lines

MAX_ENV_BYTES = 128 * 1024 - 1
"""Linux refuses one longer string in an exec (MAX_ARG_STRLEN), so it is refused here, by name."""
MAX_ENV_BYTES_IN_ALL = 384 * 1024
"""Linux takes arguments and variables up to a quarter of the stack's limit (2 MiB), and the login has its own."""
MAX_LINE_BYTES = 320 * 1024
"""A line is what people read again in a list of jobs; with its variables it fits one message to a node (1 MiB)."""

_ENV_NAME = regex(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Secret:
    """A text that never shows: not in a repr, a log, an event, an error or JSON. Its owner's name for it does.

    No attrs class: ``attrs.asdict`` of whoever holds one would show it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value

    @property
    def value(self) -> str | None:
        """The text; None if it has to be given again, because it came from JSON."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def to_dict(self) -> None:
        """Return None: a secret has no plain form."""
        return

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Return a secret whose value must be given again before it can be used."""
        if data is not None:
            raise ValueError("a secret's value does not travel in JSON")
        return cls(None)


Secrets = tuple[tuple[str, Secret], ...]


def to_secrets(value: Mapping[str, str | Secret] | Secrets) -> Secrets:
    """Return a mapping of names to secret text as sorted pairs of names and Secrets."""
    items = value.items() if isinstance(value, Mapping) else value
    pairs = ((str(name), item if isinstance(item, Secret) else Secret(str(item))) for name, item in items)
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


# attrs copies it to the constructors of classes elsewhere, where the names in it mean nothing.
to_secrets.__annotations__ = get_type_hints(to_secrets)


def secret_values(secrets: Secrets) -> dict[str, str]:
    """Return secrets' names and values, for those who send them.

    Raises:
        ValueError: they came from JSON, where secrets do not travel.
    """
    values = {}
    for name, secret in secrets:
        if secret.value is None:
            raise ValueError(f"secret {name}: its value did not travel with the JSON; give it again")
        values[name] = secret.value
    return values


def check_env(name: str, value: str) -> None:
    """Raise ValueError unless a shell and the kernel can take this environment variable."""
    if not _ENV_NAME.match(name):
        expected = "letters, digits and _ were expected, not starting with a digit"
        raise ValueError(f"environment variable {name!r}: {expected}")
    if "\0" in value:
        raise ValueError(f"environment variable {name}: its value holds a NUL byte, which no process can take")
    if len(name) + 1 + _size(f"environment variable {name}", value) > MAX_ENV_BYTES:
        raise ValueError(f"environment variable {name}: over 128 KiB, which Linux refuses; send it as stdin or a file")


def carried_line(what: str, name: str, line: str) -> dict[str, str]:
    """Return the variable that carries a shell line to a program of ours which runs it on a node.

    In the program's arguments everybody on the node could read it, and a `pkill -f` in it would find the program.

    Raises:
        ValueError: it is longer than a variable can be.
    """
    size, most = _size(what, line), MAX_ENV_BYTES - len(name) - 1
    if size > most:
        raise ValueError(f"{what}: a line of at most {most} bytes was expected, got {size}; put it into a file")
    return {name: line}


def _size(what: str, text: str) -> int:
    """Return the bytes of a text as a node gets it; bytes that are no UTF-8 stand in it as surrogates."""
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise ValueError(f"{what}: a text that can be sent as UTF-8 was expected, got {text[:80]!r}") from None


def _to_stdin(value: bytes | str | Path | None) -> bytes | Path | None:
    return value.encode() if isinstance(value, str) else value


def _to_path(value: str | Path | None) -> Path | None:
    return Path(value) if isinstance(value, str) else value


@checked_class
@attrs.frozen
class Command(PlainData):
    """One command for a node.

    Args:
        line: a POSIX shell line; ``Command.of`` quotes an argv.
        cwd: absolute folder on the node ("~/..." is the login home's); None is the login home, or the project's folder
            where one is meant.
        env: variables added to the login environment.
        secrets: the same, but their values never show anywhere.
        stdin: bytes or text fed to it, or a local file; None is an empty input.
        stdout_to / stderr_to: a local file that takes all of the stream (the capture stays bounded); both may
            be one file.
        timeout_s: seconds until it is ended, None for no limit.
        on_end: a shell line that runs on the node whenever the run was stopped from outside (ends a container by its
            name).
        told: what people are shown in place of the line, where an environment has put lines of its own around it.

    Raises:
        ValueError: a NUL byte, a variable no process can take, a timeout that is not positive.
    """

    line: str
    cwd: str | None = attrs.field(default=None, kw_only=True)
    env: Pairs = attrs.field(default=(), kw_only=True, converter=to_pairs)
    secrets: Secrets = attrs.field(default=(), kw_only=True, converter=to_secrets)
    stdin: bytes | Path | None = attrs.field(default=None, kw_only=True, converter=_to_stdin, repr=False)
    stdout_to: Path | None = attrs.field(default=None, kw_only=True, converter=_to_path)
    stderr_to: Path | None = attrs.field(default=None, kw_only=True, converter=_to_path)
    timeout_s: float | None = attrs.field(default=None, kw_only=True)
    on_end: str | None = attrs.field(default=None, kw_only=True)
    told: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        for what, text in (("line", self.line), ("cwd", self.cwd), ("on_end", self.on_end)):
            if text is not None and "\0" in text:
                raise ValueError(f"Command {what}: a NUL byte cannot be sent to a shell: {text!r}")
            if (size := _size(f"Command {what}", text or "")) > MAX_LINE_BYTES:
                many = "a longer script goes into a file of the workspace, or into stdin of `sh -s`"
                raise ValueError(f"Command {what}: at most {MAX_LINE_BYTES} bytes were expected, got {size}; {many}")
        if not self.line.strip():
            raise ValueError("Command line: a shell line was expected, got an empty one")
        if self.cwd is not None and not self.cwd.startswith(("/", "~/")) and self.cwd != "~":
            raise ValueError(f"Command cwd: an absolute path or ~/... was expected, got {self.cwd!r}")
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            expected = "a positive number of seconds, or None for no limit"
            raise ValueError(f"Command timeout_s: {expected} was expected, got {self.timeout_s!r}")
        for name, value in self.env:
            check_env(name, value)
        for name, secret in self.secrets:
            check_env(name, secret.value or "")
        pairs = (*self.env, *((name, secret.value or "") for name, secret in self.secrets))
        if (size := sum(len(name) + len(os.fsencode(value)) + 2 for name, value in pairs)) > MAX_ENV_BYTES_IN_ALL:
            expected = f"at most {MAX_ENV_BYTES_IN_ALL} bytes in all were expected"
            raise ValueError(f"Command env: {expected}, got {size}; what is larger goes into a file")

    @classmethod
    def of(cls, *argv: str | Path) -> Command:
        """Return the command that runs exactly this argv, every word quoted.

        Raises:
            ValueError: no word was given, or one holds a NUL byte.
        """
        if not argv:
            raise ValueError("Command.of: at least the program's name was expected, got no word")
        return cls(shlex.join(str(word) for word in argv))

    @property
    def shown(self) -> str:
        """The line as whoever asked for it wrote it."""
        return self.told or self.line

    def with_env(self, env: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> Command:
        """Return the command with variables added; what it already has wins."""
        hidden = {**dict(to_secrets(secrets or {})), **dict(self.secrets)}
        return attrs.evolve(self, env={**env, **dict(self.env)}, secrets=hidden)

    def secret_values(self) -> dict[str, str]:
        """Return the secrets' names and values, for the one place that sends them.

        Raises:
            ValueError: the command came from JSON, where secrets do not travel.
        """
        return secret_values(self.secrets)


def as_command(value: Command | str) -> Command:
    """Return a Command; a str is a shell line."""
    return value if isinstance(value, Command) else Command(value)


@attrs.frozen(repr=False)
class Completed(Ended, PlainData):
    """What an attached command left behind.

    Attributes:
        node, command: the node's name, the shell line as it was asked for.
        status, signal: its exit status, or the signal's name without SIG ("KILL"); both None if nobody knows.
        stdout / stderr: bytes: the first and the last MiB of each, the gap marked where something was dropped.
        dropped: bytes left out of stdout and stderr together.
        duration_s: seconds on our clock.
        signal_possible: the node has no python3, and a shell cannot tell status 128+n from signal n.
        survivors: processes of the run that could not be ended, "pid name"; "0 why" where we cannot see what lives.
        leftovers: processes that it left behind and that were ended with it, "pid name"; told where there is python3.
        path: the PATH that it was started with, where its status is 127: the shell did not find something.
    """

    node: str
    command: str
    status: int | None
    signal: str | None = None
    stdout: bytes = attrs.field(default=b"", repr=False)
    stderr: bytes = attrs.field(default=b"", repr=False)
    dropped: int = 0
    duration_s: float = 0.0
    signal_possible: bool = False
    survivors: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    path: str = attrs.field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """True only if exit status 0 was recorded."""
        return self.status == 0 and self.signal is None

    @property
    def text(self) -> str:
        """stdout as text, bytes that are no UTF-8 replaced, without the final line ends."""
        return self.stdout.decode("utf-8", "replace").rstrip("\r\n")

    def last_lines(self) -> list[str]:
        """Return the last lines of stdout, of stderr where stdout is empty, without their colours."""
        return last_lines(self.stdout or self.stderr).splitlines()

    def failure(self) -> DeployError | None:
        """Return None if it is ok, else the error that says how it ended."""
        if self.ok:
            return None
        evidence = last_lines(self.stderr or self.stdout)
        if self.status is None and self.signal is None:
            return ConnectionLost(self.node, f"no exit status came back from: {self.command}", evidence=evidence)
        doubt = " (or died of a signal: without python3 the node cannot tell)" if self.signal_possible else ""
        message = f"command {self._how}{doubt}: {self.command}"
        hint = ""
        if self.status == not_found.STATUS:
            hint = not_found.hint_of_missing(self.stderr[-4096:].decode("utf-8", "replace"), self.path, self.command)
        return CommandFailed(self.node, message, hint, evidence, self.command, self.status, self.signal, self)

    @checked
    def check(self) -> Completed:
        """Return self if it is ok.

        Raises:
            CommandFailed: it ended otherwise.
            ConnectionLost: nobody knows how it ended.
        """
        if error := self.failure():
            raise error
        return self
