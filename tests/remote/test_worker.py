"""Frames from a node: the same whatever pieces the network makes of them."""

import asyncio
import os
import sys

from hypothesis import given, settings, strategies as st

from asyncdeploy.remote.frames import Inbox, Session
from tests.support.places import ROOT
from tests.support.remotes.shell_remote import ShellRemote


class Pieces:
    """A channel that has these pieces to say, and no more."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def read(self, limit: int = 262144) -> bytes:
        return self.pieces.pop(0)


frames = st.lists(st.tuples(st.sampled_from([b"D", b"Z", b"Q"]), st.binary(max_size=200)), min_size=1, max_size=8)


@settings(deadline=None)
@given(frames, st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=10))
def test_frames_do_not_depend_on_the_pieces_in_which_they_come(
    sent: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    wire = b"".join(kind + len(payload).to_bytes(4, "big") + payload for kind, payload in sent)
    pieces = []
    while wire:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(wire[:size])
        wire = wire[size:]

    async def receive() -> list[tuple[bytes, bytes]]:
        line = Session(ShellRemote("/nowhere"), Pieces(pieces))
        return [await line.receive() for _ in sent]

    assert asyncio.run(receive()) == sent


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=10), st.lists(st.integers(min_value=0, max_value=40)))
def test_an_inbox_gives_what_was_put_in(pieces: list[bytes], takes: list[int]) -> None:
    inbox, taken = Inbox(), b""
    for piece in pieces:
        inbox.put(piece)
    for size in takes:
        if size <= inbox.size:
            taken += inbox.take(size)
    assert taken + inbox.take(inbox.size) == b"".join(pieces)
    assert inbox.size == 0


BUSY = """
import sys, time
from asyncdeploy.node_side.worker import MAX_INBOX, Worker
worker = Worker(b"")
while len(worker.inbox) < MAX_INBOX:
    worker.poll()
end = time.monotonic() + 1.2
while time.monotonic() < end:  # a long copy, four times as long as a client may be silent
    worker.poll()
sys.stderr.write("lives\\n")
sys.stderr.flush()
while True:
    worker.poll()
"""


async def test_p16_a_client_whose_words_fill_the_inbox_is_not_taken_for_dead_and_its_end_is_seen() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BUSY),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "ASYNCDEPLOY_SILENCE_S": "0.3"},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(bytes((8 << 20) + 32_000))
    assert await process.stderr.readline() == b"lives\n", await process.stderr.read()
    process.stdin.close()  # the kernel's pipe still holds what nobody reads
    _, errors = await process.communicate()
    assert b"closed the channel" in errors
