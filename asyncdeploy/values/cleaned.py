"""What was taken away from a node: Cleaned, CleanedItem."""

from __future__ import annotations

from typing import Literal

import attrs

from asyncdeploy.values.serialize import PlainData

CleanedKind = Literal["job", "launch", "site", "environment", "tool", "image", "part"]


@attrs.frozen
class CleanedItem(PlainData):
    """One thing that nobody had used for long.

    Attributes:
        kind: "job" and "launch" (what is known of those that ended, with their logs), "site" (what was pushed, and the
            environments made for it), "environment" (one that no .venv leads to any more), "tool" and "image" (what an
            environment needed; it is sent again when one does), "part" (never finished by who died).
        path: where it was.
        bytes: what it took on the disk, or would have given back.
        idle_s: seconds since it was last used.
        kept: why it stands, or a part of it; "" if it is gone.
    """

    kind: CleanedKind
    path: str
    bytes: int
    idle_s: float
    kept: str = ""


@attrs.frozen
class Cleaned(PlainData):
    """What was taken away from a node, or would be.

    Attributes:
        node: the node's name.
        items: what nobody had used for long.
        dry_run: nothing was touched: it was only looked at.
    """

    node: str
    items: tuple[CleanedItem, ...] = ()
    dry_run: bool = False

    @property
    def bytes(self) -> int:
        """What that gave back to the disk, or would."""
        return sum(item.bytes for item in self.items if not (self.dry_run and item.kept))
