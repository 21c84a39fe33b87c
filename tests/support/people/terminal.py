"""A terminal with somebody in front of it: tmux."""

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.support import tools
from tests.support.people.command_line import CommandLine
from tests.support.waiting import eventually_sync

ENDED = "status of the end:"


@attrs.frozen
class Terminal:
    """A window of 120 x 50 in which a command runs."""

    socket: Path

    def tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-S", str(self.socket), *words], capture_output=True, text=True, check=True)
        return done.stdout

    def screen(self) -> str:
        """What is to be seen, lines that were wrapped joined."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-200")

    def press(self, key: str) -> None:
        self.tmux("send-keys", key)

    def shows(self, text: str, within_s: float = 60) -> None:
        """Wait until a text is to be seen."""
        try:
            eventually_sync(lambda: text in self.screen(), within_s=within_s)
        except AssertionError:
            raise AssertionError(f"{text!r} was not to be seen:\n{self.screen()}") from None

    def ended(self) -> int:
        """Wait for the command's end and return its status."""
        self.shows(ENDED)
        return int(self.screen().split(ENDED)[1].split()[0])


@contextmanager
def terminal(ad: CommandLine, *words: str) -> Iterator[Terminal]:
    """A terminal in which the command runs."""
    tools.need("tmux")
    folder = Path(tempfile.mkdtemp(prefix="ad-tmux-"))  # a socket's path is short
    window = Terminal(folder / "s")
    line = f"{shlex.join(ad.words(*words))}; echo '{ENDED}' $?; exec sleep 600"
    subprocess.run(
        ["tmux", "-S", str(window.socket), "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "50", line],
        env=ad.environ(),
        cwd=ad.folder,
        check=True,
    )
    try:
        yield window
    finally:
        subprocess.run(["tmux", "-S", str(window.socket), "kill-server"], check=False)
        shutil.rmtree(folder)
