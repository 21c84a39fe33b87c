"""The local folder in which each node of a collect has one of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from asyncdeploy.collect.target import missing_folders, remove_empty
from asyncdeploy.connect.pool import Pool
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.events import Noted
from asyncdeploy.values.regex import regex

SHOWN = 5
"""Folders named in an event."""
_OF_A_NODE = regex(r"[0-9]+-.+")


class Home:
    """Where the results of some nodes come to.

    Attributes:
        folders: of each node: ``target/<node_rank>-<name>``.
    """

    def __init__(self, target: Path | str, nodes: Sequence[Node]) -> None:
        self._path = Path(target).expanduser().absolute()
        self.folders = {node: self._path / f"{rank}-{node.name}" for rank, node in enumerate(nodes)}

    @asynccontextmanager
    async def kept_tidy(self, pool: Pool) -> AsyncIterator[None]:
        """Say at the beginning what stands there of other nodes; at the end an empty folder of ours goes again."""
        made = missing_folders(self._path)
        if self.folders and (others := self._others()):
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            text = f"{self._path} has folders of an earlier collect, of other nodes: {', '.join(others[:SHOWN])}{more}"
            first = next(iter(self.folders))
            pool.at(first).emit(Noted(node=first.name, text=text))
        try:
            yield
        finally:
            remove_empty(made)

    def _others(self) -> list[str]:
        ours = {folder.name for folder in self.folders.values()}
        with suppress(OSError), os.scandir(self._path) as entries:
            return sorted(
                entry.name
                for entry in entries
                if _OF_A_NODE.fullmatch(entry.name) and entry.name not in ours and entry.is_dir(follow_symlinks=False)
            )
        return []
