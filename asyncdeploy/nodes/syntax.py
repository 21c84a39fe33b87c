"""How people write a node: "root@h:22", "ssh://u@h", "[::1]:22", or the ssh line that a provider shows. Pure text."""

from __future__ import annotations

import getopt
import re
import shlex
from urllib.parse import unquote

import attrs

from asyncdeploy.nodes.names import is_ipv4, is_ipv6, shown
from asyncdeploy.values.regex import regex

_SSH_LINE = regex(r"(?:\$ +)?ssh[ \t]")  # copied with the prompt before it, too
_SCHEME = regex(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BRACKETED = regex(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)

# ssh's own options: getopt reads clusters, "-p22" and "-p 22" as ssh does.
_SSH_FLAGS = "1246ACGKMNTVXYafgknqstvxy"
_SSH_VALUED = "BDEFIJLOPQRSWbceilmopw"
_SHORT_OPTIONS = _SSH_FLAGS + "".join(f"{letter}:" for letter in _SSH_VALUED)

_MEANING = {"-p": "port", "-l": "user", "-i": "key_path", "-J": "jump"}
_MEANING |= {"port": "port", "user": "user", "identityfile": "key_path", "proxyjump": "jump"}
_KEYWORD = regex(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.+)", re.DOTALL)
_HOST_KEY_WORDS = {"stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile"}
_REFUSED = {  # to leave one of these out would lead to another machine, or to none
    "-F": "only ~/.ssh/config is read: put an Include of that file there",
    "proxycommand": "use -J, or an alias in ~/.ssh/config",
    "hostname": "write that address as the host",
}


@attrs.frozen
class Written:
    """What a text says about a node; None where it says nothing."""

    host: str
    user: str | None = None
    port: int | None = None
    key_path: str | None = None
    jump: str | None = None


def is_ssh_line(text: str) -> bool:
    """Return whether text is a pasted command line of ssh, and not the name of a node."""
    return _SSH_LINE.match(text) is not None


def read_target(text: str) -> Written:
    """Read one address: ``[user@]host[:port]``, ``[user@][IPv6]:port``, a bare IPv6 address, ``ssh://...`` or an alias.

    Raises:
        ValueError: the text has another form. Characters are the business of Node.
    """
    scheme = _SCHEME.fullmatch(text)
    if scheme is None:
        return _read_login(text)
    if scheme[1].lower() != "ssh":
        raise ValueError(f"ssh:// was expected, got {scheme[1]}://")
    authority, _, path = scheme[2].partition("/")
    if path:
        raise ValueError("an ssh:// address has no path; where the workspace goes is Workspace.remote_path")
    user, at, rest = authority.rpartition("@")
    # What stands behind %XX is text and no syntax, so it is decoded after the parts are known.
    return attrs.evolve(_read_login(f"{user}{at}{rest.replace('%25', '%')}"), user=unquote(user) if at else None)


def read_ssh_line(line: str) -> tuple[Written, str]:
    """Read a pasted ``ssh ...`` line as ssh does: options on both sides of the host, and of two values the first.

    Returns:
        What it says, and a note for people about what was left out ("" if nothing was).

    Raises:
        ValueError: no host, an unknown option, a remote command, or an option that cannot be left out.
    """
    before, rest = _split_options(_words(line))
    if not rest:
        raise ValueError("a host was expected after ssh and its options")
    after, command = _split_options(rest[1:])
    if command:
        raise ValueError(f"only the way in was expected; give the command {shown(shlex.join(command))} to run_command")
    found = _SshLine()
    for option, value in before:
        found.take(option, value)
    target = read_target(rest[0])
    found.set("user", target.user)
    found.set("port", None if target.port is None else str(target.port))
    for option, value in after:
        found.take(option, value)
    port = found.fields.pop("port", None)
    written = Written(target.host, port=None if port is None else _read_port(port), **found.fields)
    return written, f"{shown(line)}: {found.note()}" if found.left_out else ""


@attrs.define
class _SshLine:
    """What the options of one line have said so far."""

    fields: dict[str, str | None] = attrs.field(factory=dict)
    left_out: list[str] = attrs.field(factory=list)
    about_host_keys: bool = False

    def take(self, option: str, value: str) -> None:
        """Read one option: "-p" and "22", "-v" and "", or "-o" and "Port=22"."""
        word, value = _read_keyword(value) if option == "-o" else (option, value)
        if field := _MEANING.get(word):
            self.set(field, value)
        elif word in _REFUSED and value.lower() != "none":
            raise ValueError(f"{word} {shown(value)} cannot be left out and is not understood here: {_REFUSED[word]}")
        else:
            self.left_out.append(f"{word}={value}" if option == "-o" else f"{word} {value}".rstrip())
            self.about_host_keys |= word in _HOST_KEY_WORDS

    def set(self, field: str, value: str | None) -> None:
        """Keep a field's value; the first one stands, as in ssh."""
        if value is None:
            return
        wanted = None if field in ("key_path", "jump") and value.lower() == "none" else value
        if self.fields.setdefault(field, wanted) != wanted:
            self.left_out.append(f"a second {field}, {value}")

    def note(self) -> str:
        """Say what of the line has no effect."""
        text = f"left out: {shown(', '.join(self.left_out))}"
        if self.about_host_keys:
            text += "; host keys stay checked, HostKeys.accept_new() is the way to take unknown ones"
        return text


def _words(line: str) -> list[str]:
    """Return the arguments of ssh, as a shell would pass them."""
    joined = line.replace("\\\n", " ")
    try:
        words = shlex.split(joined[joined.index("ssh") :])
    except ValueError as error:
        raise ValueError(f"this is no shell line: {error}") from None
    comment = next((index for index, word in enumerate(words) if word.startswith("#")), len(words))
    return words[1:comment]


def _split_options(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return getopt.getopt(words, _SHORT_OPTIONS)
    except getopt.GetoptError as error:
        raise ValueError(f"an option of ssh was expected: {error}") from None


def _read_keyword(text: str) -> tuple[str, str]:
    """Read the value of -o: "Port=22", "Port 22" or 'IdentityFile="a b"'."""
    found = _KEYWORD.fullmatch(text)
    if found is None:
        raise ValueError(f"-o wants Keyword=value, got {shown(text)}")
    return found[1].lower(), found[2].strip().strip('"')


def _read_login(text: str) -> Written:
    """Read ``[user@]host[:port]``."""
    user, at, rest = text.rpartition("@")
    if at and not user:
        raise ValueError("a user was expected before the @")
    if ":" in user:
        raise ValueError("no password was expected before the @; use a key (key_path) or ssh-agent")
    host, port = _read_host(rest)
    return Written(host, user=user or None, port=port)


def _read_host(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        bracketed = _BRACKETED.fullmatch(text)
        if bracketed is None or not (is_ipv6(bracketed[1]) or is_ipv4(bracketed[1])):  # `ssh -G` prints both so
            raise ValueError(f"an IPv6 address in brackets was expected, such as [::1]:22, got {shown(text)}")
        return bracketed[1], None if bracketed[2] is None else _read_port(bracketed[2])
    if is_ipv6(text):
        return text, None
    if text.count(":") > 1:
        raise ValueError(f"host:port or an IPv6 address was expected, such as [::1]:22, got {shown(text)}")
    host, colon, port = text.partition(":")
    return host, _read_port(port) if colon else None


def _read_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"a port from 1 to 65535 was expected, got {shown(text)}")
    return int(text)
