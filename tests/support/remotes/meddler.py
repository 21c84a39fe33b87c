"""A node on which something happens in the midst of a collect."""

from collections.abc import Callable
from pathlib import Path

from tests.support.remotes.shell_remote import ShellChannel, ShellRemote


class Meddler(ShellRemote):
    """A node on which something happens after its files were listed and before they are sent."""

    def __init__(self, home: Path, meddle: Callable[[], object]) -> None:
        super().__init__(home)
        self.meddle = meddle

    async def open(self, line: str, *, kind: str | None = None) -> ShellChannel:
        channel = await super().open(line, kind=kind)
        if not channel.reused:
            send = channel.send

            def watched(data: bytes) -> None:
                if data[:1] == b"Y":
                    self.meddle()
                send(data)

            channel.send = watched  # type: ignore[method-assign]
        return channel
