"""Shows a live view of what is typed: a line an event. Run in a terminal of its own, or with a pipe.

start NODE STAGE / ok NODE STAGE SECONDS TEXT / fail NODE STAGE SECONDS TEXT / out NODE TEXT / note NODE TEXT
ready N     so many nodes that are ready                 moved NODE STAGE DONE TOTAL
print TEXT  to stdout, as a script would                 end
"""

import asyncio
import logging
import os
import sys
import termios

from asyncdeploy.values.events import (
    BytesMoved,
    Event,
    Noted,
    Observer,
    OutputLine,
    StageFailed,
    StageFinished,
    StageStarted,
)
from asyncdeploy.view.live import live_view


def events(line: str) -> list[Event]:
    """What a typed line says happened."""
    verb, node, *rest = [*line.split(" ", 4), "", "", "", ""][:5]
    stage, seconds, text = rest
    said = f"{stage} {seconds} {text}".strip().encode().decode("unicode_escape")
    stage = stage.replace("_", " ")
    match verb:
        case "start":
            return [StageStarted(node=node, stage=stage)]
        case "ok":
            return [StageFinished(node=node, stage=stage, seconds=float(seconds), detail=text)]
        case "fail":
            return [StageFailed(node=node, stage=stage, seconds=float(seconds), error=text)]
        case "out":
            return [OutputLine(node=node, stream="stdout", text=said)]
        case "note":
            return [Noted(node=node, text=said)]
        case "moved":
            return [BytesMoved(node=node, stage=stage, done=int(seconds), total=int(text))]
        case "ready":
            return [StageFinished(node=f"gpu-{at:03}", stage="env", seconds=1.5) for at in range(int(node))]
    raise ValueError(line)


def show(view: Observer, line: str) -> None:
    """Do what a line says."""
    if line.startswith("print "):
        print(line.removeprefix("print "))
    elif line.startswith("log "):
        logging.getLogger("script").warning(line.removeprefix("log "))
    else:
        for event in events(line):
            view(event)


async def main() -> None:
    """Read until "end"."""
    if sys.stdin.isatty():  # what is typed must not be seen
        modes = termios.tcgetattr(0)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSANOW, modes)
    logging.basicConfig()
    typed, ended = bytearray(), asyncio.Event()

    def read() -> None:
        typed.extend(os.read(0, 65536))
        *lines, rest = bytes(typed).split(b"\n")
        typed[:] = rest
        for line in lines:
            if line == b"end":
                ended.set()
            else:
                show(view, line.decode())

    with live_view() as view:
        print("up", flush=True)
        asyncio.get_running_loop().add_reader(0, read)
        await ended.wait()
        asyncio.get_running_loop().remove_reader(0)
    print("over")


asyncio.run(main())
