"""What was looked for in vain: a program (status 127), and where; a name, and which was meant. For hints."""

from __future__ import annotations

import re
from collections.abc import Iterable

from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import one_line

STATUS = 127
MAX_PATH = 1000
"""Characters of a PATH that a hint repeats."""
MOST = 20
"""Names that are listed where none is near: more than that nobody reads in a line."""

_IN_FRONT = regex(r"export PATH='?([^\s'$]+)'?\$\{PATH")
_SAID = tuple(
    regex(rf"^[^\n]*?{said}\s*$", re.MULTILINE)
    for said in (
        r"command not found: (\S+)",  # zsh
        r"(?:exec: )?([^\s:'\"]+): (?:command )?not found",  # dash, bash, busybox, ksh
        r"(?:env|xargs): ['\"\u2018]?([^\s:'\"\u2019]+)['\"\u2019]?: No such file or directory",
        r"failed to (?:run command|execute) ['\"\u2018]?([^\s:'\"\u2019]+)['\"\u2019]?: .*",  # timeout, nohup, setsid
        r"([^\s:]+): inaccessible or not found",  # mksh
    )
)


def hint_of_missing(printed: str, path: str = "", line: str = "") -> str:
    """Return what to do about a command whose status is 127.

    Args:
        printed: the end of what it printed on stderr.
        path: the PATH of the login that it ran by, "" where it is not known.
        line: its shell line, in which an environment may put folders in front of that.
    """
    found = [said[1] for pattern in _SAID if (said := pattern.search(printed))]
    what = one_line(found[0]) if found else "a program"
    where = f"on the PATH of the login, {one_line(path)[:MAX_PATH]}" if path else "on the PATH of the login"
    if front := _IN_FRONT.findall(line):
        where = f"in {one_line(front[-1])} and {where}"
    if "/" in what:
        return f"{what} is not there, or what its first line (#!) names: was it pushed, is it on this node?"
    elsewhere = "" if what != "python" else ", say python3"
    return (
        f"{what} was looked for {where}; what only an interactive shell's .bashrc puts there is not seen: give its "
        f"whole path{elsewhere}, set PATH in env=, or let an environment (UvEnv) bring it"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that there is not: the one that was probably meant, else all that there are.

    Args:
        name: as it was written.
        known: all that there are.
    """
    import difflib  # for those alone who wrote a name that there is not

    names = list(known)
    folded = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.lower(), folded, 1, 0.6) or [low for low in folded if low.startswith(name)]
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if len(names) < 2:
        return f"there is only {names[0]!r}" if names else "there is none"
    return f"there are {', '.join(names[:MOST])}{', ...' if len(names) > MOST else ''}"
