"""What of a listing is asked for, and from which byte on: by the patterns, the bounds, and what is here already."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Generator

import attrs

from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.collect.listing import Entry, Listing
from asyncdeploy.collect.names import link_escapes, why_not
from asyncdeploy.collect.target import Target, is_file, why_on_disk
from asyncdeploy.values.patterns import Patterns


@attrs.frozen
class Want:
    """What we ask of a file: the bytes from ``offset`` on, if those before have this sha256."""

    entry: Entry
    offset: int = 0
    known: bytes = b"\0" * 32


class Choice:
    """What is wanted of a node's listing; what is refused the listing is told, with the reason.

    Attributes:
        wanted: what travels, by its number in the listing.
        links: what is put in its place last.
        here: how many files stand here already, as they are there.
    """

    def __init__(self, listing: Listing, local: Target, limits: CollectLimits) -> None:
        self.wanted: dict[int, Want] = {}
        self.links: list[Entry] = []
        self.here = 0
        self._listing = listing
        self._local = local
        self._limits = limits
        self._include, self._exclude = Patterns(limits.include), Patterns(limits.exclude)
        self._budget = limits.max_bytes
        self._folded: set[str] = set()

    def make(self) -> Generator[None, None, None]:
        """Look at what is here, make the folders, and decide what to ask for, an entry or a block of a file a step."""
        left_behind, largest = self._listing.left_behind, self._limits.max_file_bytes
        for number, entry in enumerate(self._listing.entries):
            yield
            if not self._is_asked_for(entry):
                continue
            if largest is not None and entry.size > largest:
                left_behind.add(entry.path, f"larger than {largest} bytes", wanted=False)
            elif (reason := self._refusal(entry)) is not None:
                left_behind.add(entry.path, reason)
            else:
                try:
                    yield from self._decide(number, entry)
                except OSError as error:
                    left_behind.add(entry.path, why_on_disk(error))

    def _decide(self, number: int, entry: Entry) -> Generator[None, None, None]:
        here = self._local.look(entry.path)
        if here is not None and (entry.kind == "d") != stat.S_ISDIR(here.st_mode):
            self._listing.left_behind.add(entry.path, "something of another kind stands there on this machine")
        elif entry.kind == "d":
            self._local.folder(entry.path, entry.mode)
        elif entry.kind == "l":
            self.links.append(entry)
        elif is_file(here) and (here.st_size, here.st_mtime_ns) == (entry.size, entry.mtime_ns):
            self.here += 1
        else:
            self._take(number, (yield from self._want(entry, here)))

    def _take(self, number: int, want: Want) -> None:
        travels = want.entry.size - want.offset
        if travels > self._budget:
            self._listing.left_behind.add(want.entry.path, f"over the budget of {self._limits.max_bytes} bytes")
            return
        self._budget -= travels
        self.wanted[number] = want

    def _is_asked_for(self, entry: Entry) -> bool:
        """Whether the patterns ask for it; a folder is made for what is in it."""
        path, folder = os.fsdecode(entry.path), entry.kind == "d"
        return (not self._include or self._include.match(path, folder=folder)) and not self._exclude.match(
            path, folder=folder
        )

    def _refusal(self, entry: Entry) -> str | None:
        reason = why_not(entry.path, self._limits.max_depth)
        if reason is not None:
            return reason
        if entry.kind == "l" and link_escapes(entry.path, entry.target):
            return "a link that may lead out of the folder"
        if self._local.folds_case:
            name = os.fsdecode(entry.path).casefold()
            if name in self._folded:
                return "this disk does not tell its name from another one's"
            self._folded.add(name)
        return None

    def _want(self, entry: Entry, here: os.stat_result | None) -> Generator[None, None, Want]:
        """What stands here may be the beginning of the node's file, or all of it with another time."""
        if not is_file(here) or not 0 < here.st_size <= entry.size:
            return Want(entry)
        sha = hashlib.sha256()
        try:
            yield from self._local.hash_beginning(entry.path, here.st_size, sha)
        except OSError as error:  # it cannot be read, but it may be replaced
            why_on_disk(error)
            return Want(entry)
        return Want(entry, here.st_size, sha.digest())
