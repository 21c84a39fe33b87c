"""The files that say whose keys are trusted, read once and again when they change, and what they say of a node."""

from __future__ import annotations

import asyncio
import base64
import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import anyio
import attrs
from asyncssh import SSHKey

from asyncdeploy.connect.ssh.config.answer import Trust
from asyncdeploy.connect.ssh.known_hosts.edit import record_key
from asyncdeploy.connect.ssh.known_hosts.entries import Entry, KnownHosts, read_known_hosts
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.connect.ssh.known_hosts.revoked import Revocations, read_revoked
from asyncdeploy.connect.ssh.known_hosts.shown_key import ShownKey
from asyncdeploy.tasks.threads import run_abandonable, run_in_thread
from asyncdeploy.values.regex import regex

Stamp = tuple[int, int] | None

FILE_S = 5.0
"""A file is read in milliseconds; a FIFO that nobody writes to, or one of a dead NFS, never: it is one that we cannot
read."""
_AS_ABSENT = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Why ssh cannot read a file either, and goes on without."""
_PLAIN_NAME = regex(r"(?![@#|!])[^\s,*?]+")
"""A HostKeyAlias that means itself alone where it stands in a file."""


@attrs.frozen
class Known:
    """What is known of one node.

    Attributes:
        keys: entries whose key is trusted.
        pins: if there are any, a key that is none of ``keys`` has changed, and is not merely new.
        authorities: keys that may sign host certificates.
        revoked: keys that are never trusted.
        unread: why a file could not be read, in which anything may stand.
    """

    keys: tuple[Entry, ...]
    pins: tuple[Entry, ...]
    authorities: tuple[Entry, ...]
    revoked: tuple[Entry, ...]
    unread: str = ""


class KnownFiles:
    """What known_hosts files say, and keys accepted in this process, at once for all.

    Args:
        files_of: the files for a node of which ssh_config says this.
    """

    def __init__(self, files_of: Callable[[Trust], Sequence[Path]]) -> None:
        self._files_of = files_of
        self._read: dict[Path, tuple[Stamp, KnownHosts]] = {}
        self._revoked: dict[Path, tuple[Stamp, Revocations | str]] = {}
        self._unread: dict[Path, str] = {}
        self._accepted: dict[tuple[str, str], Entry] = {}
        self._loading = anyio.Lock()

    async def load(self, who: Identity, *more: str) -> list[str]:
        """Read files of a node that are new or have changed, and look it up, off the loop; return what to tell people.

        What is asked for afterwards is at hand, however many lines there are; more: names to look up besides.
        """
        notes: list[str] = []
        async with self._loading:
            for path in self._files_of(who.trust):
                known = await self._load(path, notes)
                if names := [name for name in (*who.every_name, *more) if not known.is_found(name)]:
                    await run_abandonable(known.find_all, names)
            for path in who.trust.revoked_files:
                await self._load_revoked(path)
        return notes

    async def _load(self, path: Path, notes: list[str]) -> KnownHosts:
        stamp, kept = _stamp(path), self._read.get(path)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        self._unread.pop(path, None)
        try:
            async with asyncio.timeout(FILE_S):
                known = await run_abandonable(read_known_hosts, path)
        except OSError as error:
            known = KnownHosts()
            why = error.strerror or str(error) or f"it gave nothing within {FILE_S:.0f} s"
            notes.append(f"known_hosts not read: {error if str(error) else f'{path}: {why}'}")
            if error.errno not in _AS_ABSENT:  # and is looked at again next time
                self._read.pop(path, None)
                self._unread[path] = f"{path}: {why}"
                return known
        notes += [f"known_hosts line skipped: {line}" for line in known.bad[:10]]  # ten tell the story
        self._read[path] = (stamp, known)
        return known

    async def _load_revoked(self, path: Path) -> None:
        stamp = _stamp(path)
        if path not in self._revoked or self._revoked[path][0] != stamp:
            try:
                self._revoked[path] = stamp, await run_abandonable(read_revoked, path)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else None
                self._revoked[path] = stamp, why or str(error)

    def of(self, who: Identity) -> Known:
        """Return what is known of a node."""
        found = {name: self.find(who, name) for name in who.every_name}
        address = [e for e in found[who.address] if not e.marker and not (e.is_ours and who.borrowed)]
        names = dict.fromkeys([*who.names, *([who.borrowed] if who.borrowed else [])])
        keys: list[Entry] = []
        pins: list[Entry] = []
        for name in names:  # the first that is known alone counts
            keys = [entry for entry in found[name] if not entry.marker]
            # What we recorded for a borrowed address was the key of who is reached there on another way.
            pins = [entry for entry in keys if name != who.borrowed or not entry.is_ours]
            # A pattern is written for addresses, which ssh looks up: where there are lines for this one they count.
            if keys and not (address and all(entry.by_pattern for entry in keys)):
                break
        if address and pins and not any(entry.is_ours for entry in pins):
            # ssh knows no names of nodes: a line with one that we did not write may be about another machine.
            kinds, same = {entry.kind for entry in pins}, {entry.key for entry in pins}
            keys = [entry for entry in address if entry.key in same or entry.kind not in kinds]
            pins = list(dict.fromkeys([*pins, *address]))
        bare = [] if who.trust.alias else found[who.host]  # OpenSSH takes an entry without a port for all ports
        if not pins:
            keys += [entry for entry in bare if not entry.marker]
        authorities = [entry for entry in found[who.address] if entry.marker == "cert-authority"]
        every = [entry for name in (*names, who.host) for entry in found[name]]
        return Known(
            tuple(keys),
            tuple(pins),
            tuple(authorities or [entry for entry in bare if entry.marker == "cert-authority"]),
            tuple(entry for entry in every if entry.marker == "revoked"),
            next((self._unread[path] for path in self._files_of(who.trust) if path in self._unread), ""),
        )

    def find(self, who: Identity, name: str) -> list[Entry]:
        """Return the entries of a name in a node's files, and what was accepted under it in this process."""
        found = [entry for known in self._known(who) for entry in known.find(name)]
        accepted = self._accepted.get((self._target(who), name.lower()))
        return [*found, accepted] if accepted and accepted.key not in [entry.key for entry in found] else found

    def why_revoked(self, path: Path, shown: ShownKey) -> str:
        """Return what a file of RevokedHostKeys has against a key: "" nothing, "revoked", or why it cannot be read."""
        revoked = self._revoked[path][1]
        if isinstance(revoked, str):
            return revoked
        return "revoked" if revoked.has(shown.plain.public_data, shown.certified) else ""

    def accept(self, who: Identity, key: SSHKey) -> None:
        """Trust a key under all names of a node from now on, where new keys are kept in the same file."""
        blob, target = base64.b64encode(key.public_data).decode(), self._target(who)
        entry = Entry("", key.algorithm.decode(), blob, f"{target}: accepted just now", is_ours=True)
        self._accepted.update({(target, name.lower()): entry for name in who.names})

    def _target(self, who: Identity) -> str:
        return str(next(iter(self._files_of(who.trust)), ""))

    async def record(self, who: Identity, key: SSHKey, target: Path) -> list[Entry]:
        """Write a key down under those of a node's names that have none.

        Returns:
            Other keys that another process recorded for it meanwhile.

        Raises:
            OSError: the file cannot be written, or keeps nothing.
        """
        missing = [name for name in who.names if not self._is_written(who, name)]
        if not missing:
            self._leave_to_files(who)
            return []
        if target.exists() and not target.is_file():  # noqa: ASYNC240 - a look, once a node
            raise OSError(f"{target} keeps nothing")
        if strange := [name for name in missing if not _PLAIN_NAME.fullmatch(name)]:
            raise OSError(f"{strange[0]!r} would mean other hosts there")
        blob = base64.b64encode(key.public_data).decode()
        async with self._loading:
            entries = await run_in_thread(record_key, target, missing, key.algorithm.decode(), blob)
        await self.load(who)
        self._leave_to_files(who)
        return [
            entry
            for name, found in entries.items()
            for entry in found
            if entry.key != key.public_data and not (name == who.borrowed and entry.is_ours)
        ]

    def _leave_to_files(self, who: Identity) -> None:
        """Know no more of a node than its files once they know it: who takes it out of them wants it forgotten."""
        for name in who.names:
            if self._is_written(who, name):
                self._accepted.pop((self._target(who), name.lower()), None)

    def _is_written(self, who: Identity, name: str) -> bool:
        return any(not entry.marker for known in self._known(who) for entry in known.find(name))

    def _known(self, who: Identity) -> Iterable[KnownHosts]:
        return [self._read[path][1] for path in self._files_of(who.trust) if path in self._read]


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
