"""Who may answer: HostKeys, the rule by which a node's host key is trusted or refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import attrs

from asyncdeploy.connect.ssh.known_hosts.edit import forget_names
from asyncdeploy.connect.ssh.known_hosts.entries import address_name
from asyncdeploy.nodes.parse import Node

USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_PIN = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")


@attrs.frozen
class HostKeys:
    """The rule for host keys; made by ``strict``, ``accept_new`` or ``pinned``."""

    mode: Literal["strict", "accept_new", "pinned"]
    path: Path | None = None
    pins: tuple[tuple[str, str], ...] = ()

    @classmethod
    def strict(cls, known_hosts: str | Path | None = None) -> HostKeys:
        """Trust only what stands in known_hosts.

        Args:
            known_hosts: the only file that counts; None is the user's and the system's files, as for ssh.
        """
        return cls("strict", _to_path(known_hosts))

    @classmethod
    def accept_new(cls, known_hosts: str | Path | None = None) -> HostKeys:
        """Trust a node that was never seen, record its key, and refuse every other key of it from then on.

        Args:
            known_hosts: where keys stand and new ones are added; None is as for ``strict``, adding to
                ~/.ssh/known_hosts.
        """
        return cls("accept_new", _to_path(known_hosts))

    @classmethod
    def pinned(cls, pins: Mapping[str, str | Iterable[str]]) -> HostKeys:
        """Trust only these keys; no file is read.

        Args:
            pins: by node name or host, the fingerprint ("SHA256:...", as ``ssh-keygen -l`` prints it) or several.

        Raises:
            ValueError: a fingerprint is not written as ``ssh-keygen -l`` prints it.
        """
        pairs = [(name, pin) for name, said in pins.items() for pin in ([said] if isinstance(said, str) else said)]
        for name, pin in pairs:
            if not _PIN.fullmatch(str(pin)):
                raise ValueError(f"HostKeys.pinned {name!r}: 'SHA256:' and 43 characters were expected, got {pin!r}")
        return cls("pinned", None, tuple(sorted((name, pin.rstrip("=")) for name, pin in pairs)))

    def forget(self, node: Node) -> int:
        """Take a recycled node out of the known_hosts file: its name and its address. Blocking, a few milliseconds.

        Returns:
            How many lines were taken out.

        Raises:
            ValueError: pinned keys are given by the caller, who can leave one out.
            OSError: the file cannot be written.
        """
        if self.mode == "pinned":
            raise ValueError("HostKeys.forget: pinned keys stand in no file; make new HostKeys without that node")
        names = [node.name, address_name(node.host, node.port or 22)]
        files = [self.path] if self.path else [Path(file).expanduser() for file in USER_FILES]
        return sum(forget_names(file, names) for file in files)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read; new keys are added to the first."""
        if self.mode == "pinned":
            return ()
        return (self.path,) if self.path else tuple(Path(file).expanduser() for file in USER_FILES + GLOBAL_FILES)


def _to_path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()
