"""How long the loop kept others from their turn."""

import asyncio
import time


class Lag:
    """How long the loop kept others from their turn, at most."""

    def __init__(self) -> None:
        self.most = 0.0

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.most = max(self.most, time.monotonic() - before)
