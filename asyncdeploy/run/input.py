"""What a command reads: bytes or a local file, in blocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio

INPUT_BLOCK = 256 * 1024


async def input_blocks(stdin: bytes | Path | None) -> AsyncGenerator[bytes, None]:
    """Yield a command's input in blocks that fit into a frame."""
    if isinstance(stdin, bytes):
        for start in range(0, len(stdin), INPUT_BLOCK):
            yield stdin[start : start + INPUT_BLOCK]
    elif stdin is not None:
        async with await anyio.open_file(stdin, "rb") as file:
            while block := await file.read(INPUT_BLOCK):
                yield block
