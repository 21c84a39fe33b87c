"""One machine and the way to it: Node."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import attrs

from asyncdeploy.nodes.names import check_count, check_host, check_name, check_user, default_name, same_host, shown
from asyncdeploy.nodes.ranges import GAPS
from asyncdeploy.nodes.syntax import Written, is_ssh_line, read_ssh_line, read_target
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import PlainData

MAX_HOPS = 8
"""Jump hosts in a row: each is a connection inside a connection."""

MAX_SLURM_JOB = 2**32
"""Slurm counts its jobs in 32 bits."""

_SLURM_NAME = regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,255}")
_CONTROL = regex(r"[\x00-\x1f\x7f-\x9f]")
_SEVERAL = regex(rf"[{GAPS},]|\[(?![0-9.]+\.[0-9.]+\])[^\]:]*\]")  # a list or a range; addresses stand in brackets too
_PACKAGE = __name__.partition(".")[0]


class NodeNote(UserWarning):
    """Part of what was written about a node has no effect here."""


def as_key_path(value: str | os.PathLike[str] | None) -> Path | None:
    """Return where a private key lies on the client, "~" expanded."""
    if value is None:
        return None
    try:
        text = os.fspath(value)
        path = Path(os.path.expanduser(text))  # noqa: PTH111  Path.expanduser raises for a user it does not know
    except TypeError:
        raise ValueError(f"Node key_path: the path of a private key was expected, got {shown(value)}") from None
    if not text or _CONTROL.search(text):
        raise ValueError(f"Node key_path: the path of a private key was expected, got {shown(text)}")
    if text.startswith("~") and str(path).startswith("~"):
        raise ValueError(f"Node key_path: a home folder that exists was expected, got {shown(text)}")
    return path


def as_jump(value: Node | str | None) -> Node | None:
    """Return the last hop of "a,b" (b), which is reached through the one before it (a)."""
    if not isinstance(value, str):
        return value
    hop: Node | None = None
    for text in value.split(","):
        try:
            hop = _from_written(read_target(text.strip(GAPS)), jump=hop)
        except ValueError as error:
            raise ValueError(f"Node jump {shown(value)}: {error}") from None
    return hop


def _to_name(value: str | None) -> str:
    if value is None:
        return ""  # Node fills it in
    check_name(value)
    return value


@attrs.frozen(repr=False)
class Node(PlainData):
    """A machine that runs sshd, and the way to it.

    Args:
        host: host name, alias of ~/.ssh/config, or address; IPv6 without brackets, a zone allowed.
        user: who logs in; None leaves it to ssh_config.
        port: 1 to 65535; None leaves it to ssh_config.
        name: what people, results and host keys call it, fit for a folder's name; None is the host (in an IPv6
            address ":" becomes "_" and "%" becomes "-"), followed by "-<port>" if a port is given and is not 22.
        address: the host name or address at which the other nodes reach it; None is found out.
        slots: processes to start on it; None is found out.
        key_path: private key; "~" is expanded here, on the client.
        jump: the node through which it is reached; or text as ssh's -J takes it: "first,second" is the second,
            whose own ``jump`` is the first.
        slurm_job: the number of a Slurm job that holds it: not ssh to it, but ``srun`` in this job carries everything,
            run on ``jump``, the login node, or, without one, here; ``host`` is then Slurm's name for it.

    Raises:
        ValueError: a value does not fit; the error shows it and says what was expected.
    """

    host: str
    user: str | None = attrs.field(default=None, kw_only=True)
    port: int | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default=None, kw_only=True, converter=_to_name)
    address: str | None = attrs.field(default=None, kw_only=True)
    slots: int | None = attrs.field(default=None, kw_only=True)
    key_path: Path | None = attrs.field(default=None, kw_only=True, converter=as_key_path)
    jump: Node | None = attrs.field(default=None, kw_only=True, converter=as_jump)
    slurm_job: int | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_host("host", self.host)
        if self.user is not None:
            check_user(self.user)
        if self.port is not None:
            check_count("port", self.port, at_most=65535)
        if not self.name:
            object.__setattr__(self, "name", default_name(self.host, self.port))
        check_name(self.name)
        if self.address is not None:
            check_host("address", self.address)
        if self.slots is not None:
            check_count("slots", self.slots)
        _check_jump(self)
        _check_slurm_job(self)

    def __repr__(self) -> str:
        said = self.to_dict() | ({"jump": self.jump} if self.jump else {})
        rest = "".join(f", {field}={value!r}" for field, value in said.items() if field != "host")
        return f"Node({self.host!r}{rest})"

    @classmethod
    def parse(cls, text: str, *, key_path: str | os.PathLike[str] | None = None, name: str | None = None) -> Node:
        """Read one node as people write it.

        Args:
            text: "root@h:22", "[::1]:22", "ssh://u@h:22", an alias of ~/.ssh/config, or a pasted ``ssh ...`` line. Of
                its options -p, -l, -i, -J and their -o forms are read; a NodeNote (a warning) names the others.
            key_path: private key; wins over the text's.
            name: what to call it; None is derived from the host.

        Raises:
            ValueError: the text is not one node; the error shows it and says what was expected.
        """
        if not isinstance(text, str):
            raise ValueError(f"Node.parse: text was expected, got {shown(text)}")
        try:
            written, note = _read_one(text.strip(GAPS))
            node = _from_written(written, name=name, key_path=key_path, jump=written.jump)
        except ValueError as error:
            raise ValueError(f"{shown(text)}: {error}") from None
        tell(note)
        return node


def _read_one(line: str) -> tuple[Written, str]:
    if is_ssh_line(line):
        return read_ssh_line(line)
    if _SEVERAL.search(line):
        raise ValueError("one node was expected; parse_nodes takes lists and ranges")
    return read_target(line), ""


def _from_written(
    written: Written,
    *,
    name: str | None = None,
    key_path: str | os.PathLike[str] | None = None,
    jump: Node | str | None,
) -> Node:
    key = written.key_path if key_path is None else key_path
    return Node(written.host, user=written.user, port=written.port, name=name, key_path=key, jump=jump)


def _check_jump(node: Node) -> None:
    hop, hops = node.jump, 0
    while hop is not None:
        if not isinstance(hop, Node):
            raise ValueError(f"Node jump: a Node or text such as 'user@gate:22' was expected, got {shown(hop)}")
        if login(hop) == login(node):
            raise ValueError(f"Node jump: another machine than {node.host!r} itself was expected on the way to it")
        hop, hops = hop.jump, hops + 1
    if hops > MAX_HOPS:
        raise ValueError(f"Node jump: at most {MAX_HOPS} hops were expected, got {hops}")


def _check_slurm_job(node: Node) -> None:
    if node.slurm_job is None:
        return
    check_count("slurm_job", node.slurm_job, at_most=MAX_SLURM_JOB)
    if not _SLURM_NAME.fullmatch(node.host):
        raise ValueError(f"Node host: Slurm's name of a node was expected beside slurm_job, got {shown(node.host)}")


def login(node: Node) -> tuple[str | None, str, int | None]:
    """Return who logs in where, equal for two spellings of one host."""
    return node.user, same_host(node.host), node.port


def tell(note: str) -> None:
    """Give people a NodeNote at the line of theirs that called us, however deep we are."""
    if not note:
        return
    frame, level = sys._getframe(), 1  # noqa: SLF001  the documented way in CPython, and warnings itself does so
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(note, NodeNote, stacklevel=level)
