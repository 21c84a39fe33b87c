"""The first words of a server: its version line, or what shows that no SSH server listens there."""

from __future__ import annotations

import attrs

from asyncdeploy.values.words import one_line

VERSION_S = 7.0
"""From a server's first words to its version line: sshd sends it with them; a mail server waits for minutes."""
KEPT = 512
"""Bytes of what came instead: a line or two of any protocol."""
SHOWN = 120
"""Characters of that in an error."""

_OURS = {
    b"Exceeded MaxStartups": "sshd there has as many logins under way as it allows (MaxStartups)",
    b"Not allowed at this time": "sshd there shuts this address out for a while (PerSourcePenalties)",
}
"""What sshd itself says before it closes, instead of its version line."""


class NotSshError(Exception):
    """What listens there does not speak SSH; the text is what it said."""


@attrs.define
class Greeting:
    """What a server says until its version line has come.

    Attributes:
        said: the beginning of it.
        version: its version line, b"" before it is there.
    """

    said: bytes = b""
    version: bytes = b""
    _line: bytes = b""

    def take(self, data: bytes) -> bool:
        """Take what came, and return whether the version line is there; what follows it does not count."""
        self.said += data[: KEPT - len(self.said)]
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            if line.startswith(b"SSH-"):
                self.version = line.rstrip(b"\r")
                return True
        self._line = rest[:KEPT]  # of a longer one its beginning is enough to tell that it is no version line
        return False

    @property
    def is_foreign(self) -> bool:
        """Whether something was said that is no version line."""
        return bool(self.said) and not self.version

    @property
    def refusal(self) -> str:
        """What sshd said instead of its version line, in our words; "" where it said nothing of that kind."""
        return next((words for start, words in _OURS.items() if self.said.startswith(start)), "")

    def shown(self) -> str:
        """Return what was said as an error may show it; what no text is, is written out."""
        text = self.said.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        return f"'{one_line(text, SHOWN)}'"
