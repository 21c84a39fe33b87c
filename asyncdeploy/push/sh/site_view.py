"""A site as sh has seen it: what the node's own plan of a push asks for, answered here."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Sequence

from asyncdeploy.node_side.push.plan import OTHER_META
from asyncdeploy.node_side.push.site_folder import pairs_of
from asyncdeploy.node_side.push.site_record import DIR, FILE, LINK, MAX_DEPTH, META, Entry, ancestors
from asyncdeploy.remote.sh_session import MAX_ANSWER, Found, ShSession
from asyncdeploy.values.errors import ProtocolError

Content = tuple[bytes, bytes, bytes]


class SeenSite:
    """Stands for ``site_folder.Site`` where ``push_plan.Plan`` and ``push_swap.Swap.go_back`` look.

    Attributes:
        path: the site, absolute on the node.
        found: what stands at each path that was looked at.
    """

    def __init__(self, session: ShSession, path: bytes) -> None:
        self.path = path
        self.found: dict[bytes, Found] = {}
        self._session = session
        self._contents: dict[bytes, Content] = {}
        self._names: dict[bytes, list[bytes]] = {}
        self._steps: list[tuple[int, int]] | None = None

    # --- what the plan asks ------------------------------------------------------------

    def look(self, path: bytes) -> Found | None:
        """Return what stands at a path."""
        return self.found.get(path)

    def content_of(self, _worker: object, path: bytes, found: Found) -> Content | None:
        """Return what stands at a path in the form of Entry.content; None for what no manifest can hold."""
        if stat.S_ISDIR(found.st_mode):
            return DIR, b"", b""
        return self._contents.get(path)

    def names_in(self, folder: bytes) -> list[bytes]:
        """Return the names in a folder."""
        return self._names.get(folder, [])

    def is_folder(self, path: bytes) -> bool:
        """Return whether a folder stands there."""
        found = self.found.get(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_file(self, path: bytes) -> bool:
        """Return whether a regular file stands there."""
        found = self.found.get(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_by_step(self, found: Found) -> bool:
        """Return whether a file was changed, or made, while a step that makes an environment ran."""
        changed = found.st_ctime_ns
        return stat.S_ISREG(found.st_mode) and any(began <= changed <= ended for began, ended in self._steps or ())

    # --- what sh is asked ----------------------------------------------------------------

    async def see(self, old: Iterable[Entry], new: Iterable[Entry]) -> None:
        """Look at all that a plan from one tree to another asks for."""
        before = {entry.path: entry for entry in old}
        after = {entry.path: entry for entry in new}
        paths = before.keys() | after.keys()
        await self.see_names(paths | ancestors(paths) | {OTHER_META})
        await self.see_steps()
        unsure = [path for path in paths if path in self.found and not self._stands(before.get(path), path)]
        await self.see_contents(unsure)
        for path in unsure:
            if path in after and after[path].kind != DIR and stat.S_ISDIR(self.found[path].st_mode):
                await self._see_below(path)

    async def see_steps(self) -> None:
        """Learn when steps ran."""
        if self._steps is None:
            _, text = await self._session.ask("step_files")
            names = [b"%s/steps/%s" % (META, name) for name in text.split()]
            found = await self._session.look(names)
            self._steps = pairs_of({os.fsdecode(path): seen.st_mtime_ns for path, seen in found.items()})

    def _stands(self, entry: Entry | None, path: bytes) -> bool:
        return entry is not None and path in self.found and bool(entry.holds(self.found[path]))

    async def stands(self, entries: Sequence[Entry]) -> bool:
        """Look whether all that was put there stands as it was put there."""
        await self.see_names(entry.path for entry in entries)
        missed = [entry.path for entry in entries if not self._stands(entry, entry.path)]
        if not missed:
            return True
        await self.see_steps()
        return all(path in self.found and self.is_by_step(self.found[path]) for path in missed)

    async def see_names(self, paths: Iterable[bytes]) -> None:
        """Look at names, not following links."""
        asked = sorted(paths)
        for path in asked:
            self.found.pop(path, None)
        self.found.update(await self._session.look(asked))

    async def see_contents(self, paths: Iterable[bytes]) -> None:
        """Learn the hash of each regular file and where each link leads."""
        kinds = {path: stat.S_IFMT(self.found[path].st_mode) for path in paths}
        sums = await self._session.sums(path for path, kind in kinds.items() if kind == stat.S_IFREG)
        links = await self._session.links(path for path, kind in kinds.items() if kind == stat.S_IFLNK)
        self._contents.update((path, (FILE, sha, b"")) for path, sha in sums.items())
        self._contents.update((path, (LINK, b"", target)) for path, target in links.items())

    async def _see_below(self, folder: bytes) -> None:
        _, text = await self._session.ask("names", str(MAX_ANSWER), str(MAX_DEPTH), b"./" + folder)
        below = [name.removeprefix(b"./") for name in text.split(b"\0")[:-1]]
        if (other := next((name for name in below if not name.startswith(folder + b"/")), None)) is not None:
            what = (
                f"what lies in {os.fsdecode(folder)!r} was asked for, and the node named {os.fsdecode(other[:300])!r}"
            )
            raise ProtocolError(self._session.remote.node.name, what)
        await self.see_names(below)
        for parent, names in itertools.groupby(sorted(below, key=_split), key=lambda name: _split(name)[0]):
            self._names[parent] = [_split(name)[1] for name in names]


def _split(path: bytes) -> tuple[bytes, bytes]:
    folder, _, name = path.rpartition(b"/")
    return folder, name
