"""The files that say whose keys are trusted, read once and again when they change, and what they say of a node."""

from __future__ import annotations

import base64
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

Stamp = tuple[int, int] | None


@attrs.frozen
class Known:
    """What is known of one node.

    Attributes:
        keys: entries whose key is trusted.
        pins: if there are any, a key that is none of ``keys`` has changed, and is not merely new.
        authorities: keys that may sign host certificates.
        revoked: keys that are never trusted.
    """

    keys: tuple[Entry, ...]
    pins: tuple[Entry, ...]
    authorities: tuple[Entry, ...]
    revoked: tuple[Entry, ...]


class KnownFiles:
    """What known_hosts files say, and keys accepted in this process, at once for all.

    Args:
        files_of: the files for a node of which ssh_config says this.
    """

    def __init__(self, files_of: Callable[[Trust], Sequence[Path]]) -> None:
        self._files_of = files_of
        self._read: dict[Path, tuple[Stamp, KnownHosts]] = {}
        self._revoked: dict[Path, tuple[Stamp, Revocations | str]] = {}
        self._accepted: dict[str, Entry] = {}
        self._loading = anyio.Lock()

    async def load(self, who: Identity) -> list[str]:
        """Read files of a node that are new or have changed, and look it up, off the loop; return what to tell people.

        What is asked for afterwards is at hand, however many lines there are.
        """
        notes: list[str] = []
        async with self._loading:
            for path in self._files_of(who.trust):
                stamp = _stamp(path)
                if path not in self._read or self._read[path][0] != stamp:
                    try:
                        known = await run_abandonable(read_known_hosts, path)
                    except OSError as error:
                        known = KnownHosts()
                        notes.append(f"known_hosts not read: {error}")
                    notes += [f"known_hosts line skipped: {line}" for line in known.bad[:10]]  # ten tell the story
                    self._read[path] = (stamp, known)
                known = self._read[path][1]
                if names := [name for name in who.every_name if not known.is_found(name)]:
                    await run_abandonable(known.find_all, names)
            for path in who.trust.revoked_files:
                await self._load_revoked(path)
        return notes

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
        names = dict.fromkeys([*who.names, *([who.borrowed] if who.borrowed else [])])
        keys: list[Entry] = []
        pins: list[Entry] = []
        for name in names:  # the first that is known alone counts
            keys = [entry for entry in found[name] if not entry.marker]
            # What we recorded for a borrowed address was the key of who is reached there on another way.
            pins = [entry for entry in keys if name != who.borrowed or not entry.is_ours]
            if keys:
                break
        every = [entry for name in names for entry in found[name]]
        bare = [] if who.trust.alias else found[who.host]  # OpenSSH takes an entry without a port for all ports
        if not pins:
            keys += [entry for entry in bare if not entry.marker]
        authorities = [entry for entry in every if entry.marker == "cert-authority"]
        return Known(
            tuple(keys),
            tuple(pins),
            tuple(authorities or [entry for entry in bare if entry.marker == "cert-authority"]),
            tuple(entry for entry in (*every, *found[who.host]) if entry.marker == "revoked"),
        )

    def find(self, who: Identity, name: str) -> list[Entry]:
        """Return the entries of a name in a node's files, and what was accepted under it in this process."""
        found = [entry for known in self._known(who) for entry in known.find(name)]
        accepted = self._accepted.get(name.lower())
        return [*found, accepted] if accepted and accepted.key not in [entry.key for entry in found] else found

    def why_revoked(self, path: Path, shown: ShownKey) -> str:
        """Return what a file of RevokedHostKeys has against a key: "" nothing, "revoked", or why it cannot be read."""
        revoked = self._revoked[path][1]
        if isinstance(revoked, str):
            return revoked
        return "revoked" if revoked.has(shown.plain.public_data, shown.certified) else ""

    def accept(self, who: Identity, key: SSHKey, where: str) -> None:
        """Trust a key under all names of a node from now on."""
        blob = base64.b64encode(key.public_data).decode()
        entry = Entry("", key.algorithm.decode(), blob, f"{where}: accepted just now", is_ours=True)
        self._accepted.update({name.lower(): entry for name in who.names})

    async def record(self, who: Identity, key: SSHKey, target: Path) -> list[Entry]:
        """Write a key down under those of a node's names that have none.

        Returns:
            Other keys that another process recorded for it meanwhile.

        Raises:
            OSError: the file cannot be written, or keeps nothing.
        """
        missing = [name for name in who.names if not self._is_written(who, name)]
        if not missing:
            return []
        if target.exists() and not target.is_file():  # noqa: ASYNC240 - a look, once a node
            raise OSError(f"{target} keeps nothing")
        blob = base64.b64encode(key.public_data).decode()
        async with self._loading:
            entries = await run_in_thread(record_key, target, missing, key.algorithm.decode(), blob)
        await self.load(who)
        return [
            entry
            for name, found in entries.items()
            for entry in found
            if entry.key != key.public_data and not (name == who.borrowed and entry.is_ours)
        ]

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
