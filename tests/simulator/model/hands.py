"""Programs of node_side as they are, run by a simulated process: in a thread that runs only while the loop does not.

Such a program blocks where it waits for its client, sleeps, or changes something on its disk. There the thread stops
and the loop goes on, until what it waits for has come; so a story is the same each time, and a process can be killed at
each of these places. One that was killed changes nothing any more, whatever it tries to tidy up.
"""

from __future__ import annotations

import _signal
import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from asyncdeploy.node_side.push import receiver
from tests.simulator.model.worker import Gone, Worker, errno_of

if TYPE_CHECKING:
    from tests.simulator.machine.world import World

PLACES = ("asyncdeploy.node_side.push.", "asyncdeploy.node_side.files", "asyncdeploy.node_side.locks")
"""Modules whose `os` and `time` are ours."""
HOLDERS = "asyncdeploy.push.bundle.bundle"
"""Where the client says to a node who it is, its pid among that."""
NEEDS_ROOM = ("mkdir", "symlink", "write")
CHANGES = (*NEEDS_ROOM, "rename", "replace", "unlink", "rmdir", "chmod", "utime", "ftruncate")
_LOCAL = threading.local()
_CATCH = _signal.signal


class Killed(BaseException):
    """The process was killed; what its code does about that changes nothing."""


class Hands:
    """One call of a program; to the program it is the worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._go, self._here = threading.Semaphore(0), threading.Semaphore(0)
        self._asked: tuple[str, Any] = ("", None)
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    async def run(self, main: Callable[[Any, bytes], bytes], args: bytes) -> bytes:
        """Run a program to its end and return its answer."""
        self._thread = threading.Thread(target=self._body, args=(main, args), daemon=True)
        self._worker.process.at_death.append(self.kill)
        self._worker.node.world.hands.append(self)
        self._thread.start()
        while True:
            self._here.acquire()
            what, value = self._asked
            if what == "done":
                self._thread.join()
                break
            self._answer = self._error = None
            try:
                self._answer = await self._do(what, value)
            except Gone:
                self._error = SystemExit("the client went away")
            except OSError as error:
                self._error = error
            self._go.release()
        if isinstance(value, SystemExit):
            raise Gone
        if isinstance(value, BaseException):
            raise value
        return bytes(value)

    async def _do(self, what: str, value: Any) -> Any:
        """Do for the thread what waits."""
        node = self._worker.node
        if what == "receive":
            return await self._worker.receive()
        if what == "send":
            return await self._worker.send(*value)
        if what == "sleep":
            return await asyncio.sleep(value)
        if node.disk_s:
            await asyncio.sleep(node.disk_s / 10)
        elif node.world.chance.random() < 0.2:
            await asyncio.sleep(0.001)
        if value in NEEDS_ROOM and node.disk_is_full:
            raise errno_of(errno.ENOSPC)
        return None

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _body(self, main: Callable[[Any, bytes], bytes], args: bytes) -> None:
        _LOCAL.hands = self
        value: Any
        try:
            value = main(self, args) or b""
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            value = error
        self._asked = ("done", value)
        self._here.release()

    def ask(self, what: str, value: Any = None) -> Any:
        """Let the loop go on until this is done."""
        if self._worker.process.is_dead:
            raise Killed
        self._asked = (what, value)
        self._here.release()
        self._go.acquire()
        if self._worker.process.is_dead:
            raise Killed
        if self._error is not None:
            raise self._error
        return self._answer

    def kill(self) -> None:
        """End the thread, whose process is dead."""
        self._worker.process.is_dead = True
        if self._thread is not None and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._go.release()
            self._thread.join(5)

    # -- the worker, to the program ----------------------------------------------------------------------------------

    def receive(self) -> tuple[bytes, bytes]:
        frame: tuple[bytes, bytes] = self.ask("receive")
        return frame

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.ask("send", (kind, payload))

    def take(self) -> tuple[bytes, bytes] | None:
        return self._worker.take()

    def poll(self) -> None:
        if self._worker.is_gone():
            raise SystemExit("the client went away")
        self.ask("look")

    def sign_life(self) -> None:
        self.ask("look")


class _Os:
    """The module `os`: a process that was killed, or whose disk is full, changes nothing."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGES or getattr(_LOCAL, "hands", None) is None:
            return real

        def changed(*args: Any, **kwargs: Any) -> Any:
            _LOCAL.hands.ask("change", name)
            return real(*args, **kwargs)

        return changed

    def getpid(self) -> int:
        """The same in each process that plays a story."""
        return 7

    def umask(self, mask: int) -> int:
        """All processes are one here; what is made says its mode."""
        return mask if getattr(_LOCAL, "hands", None) is not None else os.umask(mask)


def _catch(number: int, action: Any) -> Any:
    """Do as `signal` does; of a process that is a thread none is caught."""
    return None if getattr(_LOCAL, "hands", None) is not None else _CATCH(number, action)


class _Time:
    """The module `time`, which sleeps by the loop's clock; times of files are the real disk's."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.loop.now

    def sleep(self, seconds: float) -> None:
        _LOCAL.hands.ask("sleep", seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextmanager
def on_real_disks(world: World, root: str) -> Iterator[None]:
    """Let programs of node_side work below a real folder in a block; at its end all of them are killed."""
    changed: list[tuple[Any, str, Any]] = []
    _signal.signal = _catch  # imported where it is needed
    homes = {name: os.environ.get(name) for name in ("HOME", "XDG_CACHE_HOME")}
    os.environ.update(HOME=root, XDG_CACHE_HOME=f"{root}/cache")
    for name, module in tuple(sys.modules.items()):
        if name.startswith(PLACES):
            for key, ours in (("os", _Os()), ("time", _Time(world))):
                if isinstance(vars(module).get(key), ModuleType):
                    changed.append((module, key, vars(module)[key]))
                    setattr(module, key, ours)
    changed.append((sys.modules[HOLDERS], "os", os))
    sys.modules[HOLDERS].os = _Os()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for hands in world.hands:
            hands.kill()
        _signal.signal = _CATCH
        for module, key, value in changed:
            setattr(module, key, value)
        for name, home in homes.items():
            if home is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = home


async def push_receiver(worker: Worker, args: bytes) -> bytes:
    """The receiver itself."""
    return await Hands(worker).run(receiver.main, args)
