"""Shells for ShellRemote whose programs die or fail at a chosen system call, as they would with their node or disk."""

from tests.support.tools import need


def killing(call: str, count: int) -> tuple[str, ...]:
    """A shell whose worker is killed as it makes its ``count``-th such system call."""
    return _injecting(call, f"signal=KILL:when={count}")


def failing(call: str, error: str, count: int) -> tuple[str, ...]:
    """A shell whose worker's ``count``-th such system call fails."""
    return _injecting(call, f"error={error}:when={count}")


def slowed(call: str, seconds: float) -> tuple[str, ...]:
    """A shell whose worker waits before each such system call."""
    return _injecting(call, f"delay_enter={int(seconds * 1e6)}")


def lingering(call: str, seconds: float) -> tuple[str, ...]:
    """A shell whose worker waits after each such system call, when what it does is done."""
    return _injecting(call, f"delay_exit={int(seconds * 1e6)}")


def _injecting(call: str, what: str) -> tuple[str, ...]:
    need("strace")
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}"]
    return (*words, "sh", "-c")
