"""How many files this process may have open at once, and how to be allowed more.

Runs on a node, loaded by other programs: Python >= 3.8, standard library only.
"""

import resource

ENOUGH = 1 << 16  # some containers allow 2^30, which nobody needs


def raise_limit():
    """Let us open as many files as we may let ourselves; return how many, and the limits as they were.

    What we start from now on may open as many: whoever starts other people's programs puts the limits back.
    """
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted, before
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft, before  # a sandbox that does not let us
    return wanted, before


def restore_limit(before):
    """Put back what ``raise_limit`` found; files that are open stay open."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    except (OSError, ValueError):
        return
