"""Who may answer: HostKeys, the rule by which a node's host key is trusted or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import attrs

from asyncdeploy.connect.ssh.config.answer import GLOBAL_FILES, Trust
from asyncdeploy.connect.ssh.config.homes import homes
from asyncdeploy.connect.ssh.endpoint import Places
from asyncdeploy.connect.ssh.known_hosts.edit import forget_names
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.regex import regex

_PIN = regex(r"SHA256:[A-Za-z0-9+/]{43}=?")


@attrs.frozen
class HostKeys:
    """The rule for host keys; made by ``strict``, ``accept_new`` or ``pinned``.

    Attributes:
        pins: (name, fingerprint): of a node that is named here these keys count and no file, whatever the mode is.
    """

    mode: Literal["strict", "accept_new", "pinned"]
    path: Path | None = None
    pins: tuple[tuple[str, str], ...] = ()

    @classmethod
    @checked
    def strict(cls, known_hosts: str | Path | None = None) -> HostKeys:
        """Trust only what stands in known_hosts.

        Args:
            known_hosts: the only file that counts; None is the files that ssh reads for a node: what ssh_config says
                (UserKnownHostsFile, GlobalKnownHostsFile), or the user's and the system's.
        """
        return cls("strict", _to_path(known_hosts))

    @classmethod
    @checked
    def accept_new(cls, known_hosts: str | Path | None = None) -> HostKeys:
        """Trust a node that was never seen, record its key, and refuse every other key of it from then on.

        Args:
            known_hosts: where keys stand and new ones are added; None is as for ``strict``, adding to the first of the
                user's files. Where ssh_config says StrictHostKeyChecking yes, a new node is refused all the same.
        """
        return cls("accept_new", _to_path(known_hosts))

    @classmethod
    @checked
    def pinned(cls, pins: Mapping[str, str | Iterable[str]]) -> HostKeys:
        """Trust only these keys; no file is read. A node is asked for all its keys, for a pin does not tell its kind.

        Args:
            pins: by node name or host, the fingerprint ("SHA256:...", as ``ssh-keygen -l`` prints it) or several.

        Raises:
            TypeError: it is no mapping of names to text.
            ValueError: a fingerprint is not written as ``ssh-keygen -l`` prints it.
        """
        return cls("pinned", None, _as_pins("HostKeys.pinned", pins))

    @checked
    def with_pins(self, pins: Mapping[str, str | Iterable[str]]) -> HostKeys:
        """Return this rule with pins beside it: nodes that they name are trusted by them alone, others as before.

        Args:
            pins: as for ``pinned``.

        Raises:
            TypeError, ValueError: as for ``pinned``.
        """
        return attrs.evolve(self, pins=tuple(sorted({*self.pins, *_as_pins("HostKeys.with_pins", pins)})))

    @checked
    def forget(self, node: Node, *, config_path: str | Path | None = None) -> int:
        """Take a recycled node out of the known_hosts files, under all names by which a Pool would have known it.

        Blocking; asks ssh_config as a Pool does, which takes some ten milliseconds.

        Args:
            node: the node.
            config_path: another ssh_config than the user's.

        Returns:
            How many lines were taken out.

        Raises:
            ValueError: pinned keys are given by the caller, who can leave one out.
            OSError: the file cannot be written.
            ConnectError: ssh_config cannot be read.
        """
        if self.mode == "pinned":
            raise ValueError("HostKeys.forget: pinned keys stand in no file; make new HostKeys without that node")
        with ThreadPoolExecutor(1) as thread:  # the caller's own may have a loop running
            who = thread.submit(asyncio.run, Places(_to_path(config_path)).identify(node)).result()
        names = [*who.names, *([who.borrowed] if who.borrowed else [])]
        return sum(forget_names(file, names, who.borrowed) for file in self.user_files_of(who.trust))

    def files_of(self, trust: Trust) -> tuple[Path, ...]:
        """Return the files that are read for a node of which ssh_config says this; new keys are added to the first."""
        if self.mode == "pinned":
            return ()
        files = trust.global_files if trust.global_files is not None else tuple(map(Path, GLOBAL_FILES))
        return (*self.user_files_of(trust), *(files if self.path is None else ()))

    def target_of(self, trust: Trust) -> Path | None:
        """Return the file that takes new keys; None if there is none."""
        files = self.user_files_of(trust)
        return files[0] if files and self.mode == "accept_new" else None

    def user_files_of(self, trust: Trust) -> tuple[Path, ...]:
        """Return those of them that are the user's own, which ``forget`` goes through."""
        if self.path is not None:
            return (self.path,)
        if trust.user_files is not None:
            return trust.user_files
        return tuple(home / ".ssh" / name for name in ("known_hosts", "known_hosts2") for home in homes())


def _as_pins(what: str, pins: Mapping[str, str | Iterable[str]]) -> tuple[tuple[str, str], ...]:
    pairs = [(name, pin) for name, said in pins.items() for pin in ([said] if isinstance(said, str) else said)]
    for name, pin in pairs:
        if not _PIN.fullmatch(str(pin)):
            raise ValueError(f"{what} {name!r}: 'SHA256:' and 43 characters were expected, got {pin!r}")
    return tuple(sorted((name, pin.rstrip("=")) for name, pin in pairs))


def _to_path(value: str | Path | None) -> Path | None:
    if value == "":
        raise ValueError("HostKeys: the path of a known_hosts file was expected, got ''")
    return None if value is None else Path(value).expanduser()
