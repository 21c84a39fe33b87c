"""Shells for ShellRemote whose programs die or fail at a chosen system call, as they would with their node or disk."""

from tests.support.tools import need


def killing(call: str, count: int) -> tuple[str, ...]:
    """A shell whose worker is killed as it makes its ``count``-th such system call."""
    need("strace")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    return (*trace, "-e", f"inject={call}:signal=KILL:when={count}", "sh", "-c")


def failing(call: str, error: str, count: int) -> tuple[str, ...]:
    """A shell whose worker's ``count``-th such system call fails."""
    need("strace")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    return (*trace, "-e", f"inject={call}:error={error}:when={count}", "sh", "-c")
