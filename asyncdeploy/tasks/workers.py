"""Threads that wait for work; none of them keeps the interpreter from ending."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable

IDLE_S = 5.0
"""A thread that was given nothing for so long ends: a new one takes 0.1 ms."""
NAME = "asyncdeploy worker"

Work = Callable[[], Callable[[], object]]
"""It returns how its end is told, which is done when its thread is free again."""


def hand_over(work: Work) -> None:
    """Let a thread do some work: one that is idle, or a new one."""
    with _LOCK:
        worker = _IDLE.pop() if _IDLE else _Worker()
    worker.works.put(work)


class _Worker:
    def __init__(self) -> None:
        self.works: queue.SimpleQueue[Work] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=NAME, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                tell = self.works.get(timeout=IDLE_S)()
            except queue.Empty:
                with _LOCK:
                    if self in _IDLE:  # else it was taken just now, and what it is to do comes
                        _IDLE.remove(self)
                        return
                continue
            with _LOCK:
                _IDLE.append(self)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and whoever asked with it
                tell()
            del tell


_LOCK = threading.Lock()
_IDLE: deque[_Worker] = deque()
os.register_at_fork(after_in_child=_IDLE.clear)  # a fork has none of its parent's threads
