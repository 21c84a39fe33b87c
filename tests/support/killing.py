"""Shells for ShellRemote whose programs die at a chosen system call, as they would with their node."""

from tests.support.tools import need


def killing(call: str, count: int) -> tuple[str, ...]:
    """A shell whose worker is killed as it makes its ``count``-th such system call."""
    need("strace")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    return (*trace, "-e", f"inject={call}:signal=KILL:when={count}", "sh", "-c")
