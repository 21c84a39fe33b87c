"""What one command started: the parts of its end that no run shows by itself."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncdeploy.node_side import proc, processes
from asyncdeploy.node_side.run import process_tree
from tests.support.waiting import eventually


async def test_a_line_at_the_end_that_hangs_is_ended_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "ON_END_S", 0.5)
    mark = b"MARK_OF_THIS_TEST=%d" % os.getpid()
    process_tree.run_on_end(b"sleep 1000 & wait", {**os.environb, **dict([mark.split(b"=")])})
    await eventually(lambda: not any(proc.is_marked(pid, mark) for pid in proc.pids()))


@pytest.mark.parametrize("find", [processes.find_prctl, processes.find_prctl_slowly])
def test_the_kernel_is_spoken_to_with_and_without_ctypes(find: Callable[[], Callable[..., int]]) -> None:
    comm = Path("/proc/thread-self/comm")
    before = comm.read_bytes().strip()
    prctl = find()
    try:
        processes.set_name(prctl, b"asyncdeploy-one")
        assert comm.read_text() == "asyncdeploy-one\n"
        assert processes.reap_orphans(prctl, True)
    finally:
        processes.reap_orphans(prctl, False)
        processes.set_name(prctl, before)
