"""A rule for host keys at work: what the files say of a node, and whether the key that it shows is trusted.

A node is known under its own name and under its address. The name comes first: a machine of another key under a known
name is refused wherever it lives, and so is another machine at an address that is known.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

import anyio
import asyncssh
import attrs

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.known_hosts.edit import record_key
from asyncdeploy.connect.ssh.known_hosts.entries import Entry, KnownHosts, fingerprint, read_known_hosts
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.verdicts import changed_error, revoked_error, unknown_error
from asyncdeploy.tasks.threads import run_abandonable, run_in_thread
from asyncdeploy.values.errors import HostKeyError


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
                        known = await run_abandonable(read_known_hosts, path)
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
            others = await run_in_thread(record_key, target, missing, key.algorithm.decode(), blob)
        await self.load()
        wrong = [entry for entry in others if entry.blob != blob]
        return changed_error(who, key.public_data, wrong) if wrong else None

    def _is_written(self, name: str) -> bool:
        return any(not entry.marker for _, known in self._files.values() for entry in known.find(name))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
