"""The way to a node of a run, for people: forward, ssh."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from asyncdeploy.cli.desk.desk import Desk, attend
from asyncdeploy.cli.desk.later import later
from asyncdeploy.cli.settings.options import Reach, Show


def forward(run: str, port: int, /, *, local_port: int = 0, reach: Reach = Reach(), show: Show = Show()) -> int:
    """Make a port of a node one of this machine, until Ctrl-C; where it is is printed, for a browser.

    Parameters
    ----------
    run
        RUN or RUN/RANK: the node of a global rank, or RUN/NODE; without, that of rank 0
    port
        of the node
    local_port
        here; 0 is the same one, or another where that is taken
    """

    async def work(desk: Desk) -> int:
        return int(await later("work.reaching").forward(desk, run, port, local_port))

    return attend("forward", work, reach, show)


def ssh(
    run: str,
    /,
    *,
    print_: Annotated[bool, Parameter(name="--print", negative="", show_default=False)] = False,
    config: Annotated[bool, Parameter(name="--ssh-config", negative="", show_default=False)] = False,
    reach: Reach = Reach(),
    show: Show = Show(),
) -> int:
    """Open a shell on a node of a run, by the system's ssh: in the project's folder, inside its environment.

    Parameters
    ----------
    run
        RUN or RUN/RANK: the node of a global rank, or RUN/NODE; without, that of rank 0
    print_
        print the line instead
    config
        write Host entries of all its nodes into a file of ours instead, for an Include in ~/.ssh/config
    """
    words: list[str] = []

    async def work(desk: Desk) -> int:
        reaching = later("work.reaching")
        if config:
            return int(await reaching.write_config(desk, run))
        words.extend(await reaching.ssh_words(desk, run))
        if print_:
            reaching.show_words(desk, words)
        return 0

    code = attend("ssh", work, reach, show, asks=True)
    if not (code or config or print_):
        os.execvp(words[0], words)  # noqa: S606 - from here on we are ssh
    return code
