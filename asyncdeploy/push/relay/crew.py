"""Node -> node, for many at once: the client uploads a push's blocks about once, the nodes pass them on.

Pushes of one bundle that go on at the same time are a Crew. Those of its members that need the same blocks form a
chain: the client feeds the first, each passes every block on to the next as it comes, over mutual TLS with
certificates made for this run. Each block is verified against a digest that came over the node's own SSH channel.
Whatever goes wrong on the way (no route, a peer that dies, lies or stalls), the node that misses blocks says so, and
the client sends the rest to it directly; those behind it go on getting them from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import anyio

from asyncdeploy.push.bundle.blocks import BlockList
from asyncdeploy.push.bundle.bundle import Bundle
from asyncdeploy.push.relay.chain import Chain
from asyncdeploy.push.relay.feed import Feed
from asyncdeploy.push.relay.gathering import Gathering
from asyncdeploy.push.relay.trial import Trial

Relay = Literal["auto", "on", "off"]

WORTH_BYTES = 16 << 20
"""Uploads that a relay must save to be worth a trial: at 1 Gbit/s they take as long as its links do."""
WORTH_NODES = 3


class Crew:
    """Pushes of one bundle that go on at the same time.

    Args:
        source: what they push, or will once it is scanned.
        mode: "auto" forms chains where that is worth its links, "on" wherever two nodes need the same, "off" never.
        nodes: the names of the nodes that are pushed to, in the order in which blocks are passed on.
        at_once: how many of the pushes may go on at the same time.
    """

    def __init__(
        self,
        source: Bundle | asyncio.Future[Bundle],
        mode: Relay = "off",
        nodes: Sequence[str] = (),
        at_once: int = 1,
    ) -> None:
        self._source = source
        self._mode = mode
        self._ranks = {name: rank for rank, name in enumerate(nodes)}
        self._gathering = Gathering(nodes, at_once, self._form)
        self._groups: dict[Feed, Trial | Chain] = {}

    async def scanned(self) -> Bundle:
        """Return what is pushed, once it is scanned.

        Raises:
            TransferFailed, ToolMissing: it cannot be, see ``pack_workspace``.
        """
        if not isinstance(self._source, Bundle):
            # Shielded: the other pushes wait for the same scan, and one that is cancelled must not end it for them.
            self._source = await asyncio.shield(self._source)
            self._gathering.begin()
        return self._source

    def gone(self, name: str) -> None:
        """One push less to wait for: it failed, or had nothing to send, or is over."""
        self._gathering.gone(name)

    async def feed(self, feed: Feed) -> None:
        """Bring a feed's blocks to its node, by a chain or directly, until this is cancelled: its node has them all."""
        try:
            chain = await self._find_chain(feed)
            if chain is None:
                await feed.send_from(feed.reached)
            else:
                await chain.serve(feed)
            # That all was sent is not that all is there: what ends this is the node's answer.
            await anyio.sleep_forever()
        finally:
            self._leave(feed)

    async def _find_chain(self, feed: Feed) -> Chain | None:
        """Return the chain that a feed belongs to, once that is known."""
        if self._mode == "off" or not feed.blocks:
            self.gone(feed.node.name)
            return None
        await self._gathering.join(feed)
        group = self._groups.get(feed)
        if isinstance(group, Trial):
            await group.run(feed)
        return self._chain_of(feed)

    def _chain_of(self, feed: Feed) -> Chain | None:
        group = self._groups.get(feed)
        chain = group.chain if isinstance(group, Trial) else group
        return chain if chain is not None and feed in chain else None

    def _form(self, waiting: Sequence[Feed]) -> None:
        """Group those who need the same blocks; those who come later form the next groups."""
        groups: dict[BlockList, list[Feed]] = {}
        for feed in waiting:
            groups.setdefault(feed.blocks, []).append(feed)
        for blocks, feeds in groups.items():
            # They came in the order in which their connections were ready; promised is the order of the fleet.
            feeds.sort(key=lambda feed: self._ranks.get(feed.node.name, len(self._ranks)))
            if self._mode == "on" and len(feeds) > 1:
                self._groups |= dict.fromkeys(feeds, Chain(feeds))
            elif self._mode == "auto" and _is_worth_a_trial(blocks, len(feeds)):
                self._groups |= dict.fromkeys(feeds, Trial(feeds))

    def _leave(self, feed: Feed) -> None:
        """Take a feed out, however its push ended: a chain may have been formed while it was being cancelled."""
        feed.over = True
        self._gathering.withdraw(feed)
        if (chain := self._chain_of(feed)) is not None:
            chain.leave(feed)
        self._groups.pop(feed, None)


def _is_worth_a_trial(blocks: BlockList, nodes: int) -> bool:
    return nodes >= WORTH_NODES and (nodes - 1) * blocks.size >= WORTH_BYTES
