"""Who may answer: HostKeys, the rule by which a node's host key is trusted or refused.

A node is known under its own name and under its address. The name comes first: a machine of another key under a known
name is refused wherever it lives, and so is another machine at an address that is known.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import anyio.to_thread
import asyncssh
import attrs

from asyncdeploy.connect.ssh.known_hosts import (
    Entry,
    KnownHosts,
    address_name,
    fingerprint,
    forget_names,
    read_known_hosts,
    record_key,
)
from asyncdeploy.nodes.names import default_name
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import HostKeyError

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
            ValueError: a fingerprint is none.
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


@attrs.frozen
class Identity:
    """Whose key it is: the node's name, and where it is reached (``alias`` is ssh_config's HostKeyAlias)."""

    node: str
    host: str
    port: int
    alias: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called in known_hosts: its own name if it has one, then its address."""
        own = () if self.node in (self.host, default_name(self.host, self.port)) else (self.node,)
        return (*own, self.address)

    @property
    def address(self) -> str:
        """The address as OpenSSH would look it up."""
        return self.alias or address_name(self.host, self.port)


@attrs.frozen
class Known:
    """What is known of one node.

    Attributes:
        hard: entries of which the node's key must be one, if there are any.
        soft: entries of its host without a port, which OpenSSH accepts but does not insist on.
        authorities: keys that may sign host certificates.
        revoked: keys that are never trusted.
    """

    hard: tuple[Entry, ...]
    soft: tuple[Entry, ...]
    authorities: tuple[Entry, ...]
    revoked: tuple[Entry, ...]


class HostKeyChecker:
    """A rule at work: files read once and again when they change, keys accepted in this process at once for all."""

    def __init__(self, rule: HostKeys) -> None:
        self.rule = rule
        self._files: dict[Path, tuple[tuple[int, int] | None, KnownHosts]] = {}
        self._accepted: dict[str, Entry] = {}
        self._keys: dict[str, asyncssh.SSHKey | None] = {}
        self._loading = anyio.Lock()

    async def load(self) -> list[str]:
        """Read files that are new or have changed, off the loop; return notes on what could not be read."""
        notes: list[str] = []
        async with self._loading:
            for path in self.rule.files:
                stamp = _stamp(path)
                if path not in self._files or self._files[path][0] != stamp:
                    try:
                        known = await anyio.to_thread.run_sync(read_known_hosts, path)
                    except OSError as error:
                        known = KnownHosts()
                        notes.append(f"known_hosts not read: {error}")
                    notes += [f"known_hosts line skipped: {line}" for line in known.bad[:10]]  # ten tell the story
                    self._files[path] = (stamp, known)
        return notes

    def known(self, who: Identity) -> Known:
        """Return what the files say about a node."""
        found = {name: self._find(name) for name in dict.fromkeys((*who.names, who.host))}
        every = [entry for name in who.names for entry in found[name]]
        hard: tuple[Entry, ...] = ()
        for name in who.names:  # its own name first: once that is known, it alone counts
            hard = tuple(entry for entry in found[name] if not entry.marker)
            if hard:
                break
        bare = [] if hard or who.alias else found[who.host]
        return Known(
            hard,
            tuple(entry for entry in bare if not entry.marker),
            tuple(entry for entry in every if entry.marker == "cert-authority"),
            tuple(entry for entry in (*every, *found[who.host]) if entry.marker == "revoked"),
        )

    def _find(self, name: str) -> list[Entry]:
        found = [entry for path in self.rule.files if path in self._files for entry in self._files[path][1].find(name)]
        accepted = self._accepted.get(name)
        return [*found, accepted] if accepted and not any(entry.blob == accepted.blob for entry in found) else found

    def key(self, entry: Entry) -> asyncssh.SSHKey | None:
        """Return an entry's key; None if it is of a kind that we cannot use."""
        if entry.blob not in self._keys:
            try:
                self._keys[entry.blob] = asyncssh.import_public_key(f"{entry.kind} {entry.blob}")
            except asyncssh.KeyImportError:
                self._keys[entry.blob] = None
        return self._keys[entry.blob]

    def keys(self, entries: Iterable[Entry]) -> list[asyncssh.SSHKey]:
        """Return the usable keys of entries."""
        return [key for key in map(self.key, entries) if key is not None]

    def judge(self, who: Identity, key: asyncssh.SSHKey) -> HostKeyError | None:
        """Return why this key is not trusted; None if it is. A new one that the rule accepts is remembered at once."""
        if self.rule.mode == "pinned":
            return self._judge_pin(who, fingerprint(key.public_data))
        blob = base64.b64encode(key.public_data).decode()
        known = self.known(who)
        for entry in known.revoked:
            if entry.blob == blob:
                return revoked_error(who, key.public_data, entry.source)
        if any(entry.blob == blob for entry in known.hard or known.soft):
            return None
        if known.hard:
            return changed_error(who, key.public_data, known.hard)
        if self.rule.mode == "strict":
            return unknown_error(who, key.public_data)
        entry = Entry("", key.algorithm.decode(), blob, f"{self.rule.files[0]}: accepted just now")
        self._accepted.update(dict.fromkeys(who.names, entry))
        return None

    def _judge_pin(self, who: Identity, offered: str) -> HostKeyError | None:
        names = {who.node, who.host, who.address}
        pins = tuple(pin for name, pin in self.rule.pins if name in names)
        if offered in pins:
            return None
        if not pins:
            hint = f'add {who.node!r}: "{offered}" to HostKeys.pinned if that is the node\'s key'
            return HostKeyError(who.node, f"no host key is pinned; it showed {offered}", hint, offered=offered)
        hint = "if the machine was made anew, pin its new key"
        message = f"the host key is not the pinned one: it showed {offered}, pinned is {' or '.join(pins)}"
        where = "HostKeys.pinned"
        return HostKeyError(who.node, message, hint, reason="changed", offered=offered, expected=pins, source=where)

    async def record(self, who: Identity, key: asyncssh.SSHKey) -> HostKeyError | None:
        """Write a key down under those of the node's names that have none, if the rule does that; off the loop.

        Returns:
            An error if another process recorded another key meanwhile.

        Raises:
            OSError: the file cannot be written; what was accepted is forgotten.
        """
        missing = [name for name in who.names if not self._is_written(name)]
        if self.rule.mode != "accept_new" or not missing:
            return None
        blob = base64.b64encode(key.public_data).decode()
        target = self.rule.files[0]
        async with self._loading:
            others = await anyio.to_thread.run_sync(record_key, target, missing, key.algorithm.decode(), blob)
        await self.load()
        wrong = [entry for entry in others if entry.blob != blob]
        return changed_error(who, key.public_data, wrong) if wrong else None

    def _is_written(self, name: str) -> bool:
        return any(not entry.marker for _, known in self._files.values() for entry in known.find(name))


def changed_error(who: Identity, offered: bytes, known: Iterable[Entry]) -> HostKeyError:
    """The node showed another key than the one that is known."""
    entries = tuple(known)
    shown, expected = fingerprint(offered), tuple(entry.fingerprint for entry in entries)
    source = entries[0].source
    message = f"the host key has changed: it showed {shown}, {source} has {' or '.join(expected)}"
    hint = (
        "someone may be in between; if the machine was made anew or its address given to another, "
        "HostKeys.forget(node) takes the old key out"
    )
    return HostKeyError(who.node, message, hint, reason="changed", offered=shown, expected=expected, source=source)


def unknown_error(who: Identity, offered: bytes) -> HostKeyError:
    """The node was never seen."""
    shown = fingerprint(offered)
    port = "" if who.port == 22 else f" -p {who.port}"
    scan = f"ssh-keyscan{port} {shlex.quote(who.host)} >> ~/.ssh/known_hosts"
    hint = f"compare the fingerprint with the provider's, then `{scan}`; or use HostKeys.accept_new()"
    message = f"the host key of {who.address} is not known: {shown}"
    return HostKeyError(who.node, message, hint, reason="unknown", offered=shown)


def revoked_error(who: Identity, offered: bytes, source: str) -> HostKeyError:
    """The node showed a key that must not be trusted any more."""
    shown = fingerprint(offered)
    hint = "the key was marked @revoked there: this machine must get a new one"
    message = f"the host key is revoked: {shown}, {source}"
    return HostKeyError(who.node, message, hint, reason="revoked", offered=shown, source=source)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
