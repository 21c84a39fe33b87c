"""What must still be done is done: under every kind of cancellation, in bounded time, once."""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.tasks.programs import Ended, run_blocking, run_program
from asyncdeploy.tasks.threads import is_stopped, run_abandonable, run_in_thread
from tests.support.places import ROOT
from tests.support.waiting import eventually


async def by_task(call: Callable[[], Awaitable[object]], at_s: float, times: int) -> None:
    """``Task.cancel``, so many times."""
    task = asyncio.ensure_future(call())
    await asyncio.sleep(at_s)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(call: Callable[[], Awaitable[object]], at_s: float, times: int) -> None:
    """``asyncio.timeout``."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(at_s):
            await call()


async def by_wait_for(call: Callable[[], Awaitable[object]], at_s: float, times: int) -> None:
    """``asyncio.wait_for``."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), at_s)


async def by_group(call: Callable[[], Awaitable[object]], at_s: float, times: int) -> None:
    """A TaskGroup whose other task fails."""

    async def fail() -> None:
        await asyncio.sleep(at_s)
        raise LookupError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await both()


async def by_scope(call: Callable[[], Awaitable[object]], at_s: float, times: int) -> None:
    """A scope of anyio."""
    with anyio.move_on_after(at_s) as scope:
        await call()
    assert scope.cancelled_caught


WAYS = [by_task, by_timeout, by_wait_for, by_group, by_scope]
Way = Callable[[Callable[[], Awaitable[object]], float, int], Awaitable[None]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("times", [1, 3])
async def test_what_was_begun_is_finished(way: Way, times: int) -> None:
    done = []

    async def clean() -> None:
        await asyncio.sleep(0.1)
        done.append("cleaned")

    async def call() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await finish(clean(), 3)

    await way(call, 0.05, times)
    assert done == ["cleaned"]


@pytest.mark.parametrize("way", WAYS)
async def test_layers_share_one_budget(way: Way) -> None:
    """The innermost cannot be finished; the outer ones are still begun, and all is over in time."""
    begun = []

    async def never(name: str) -> None:
        begun.append(name)
        await asyncio.sleep(100)

    async def call() -> None:
        try:
            try:
                try:
                    await asyncio.sleep(100)
                finally:
                    await finish(never("inner"), 3)
            finally:
                await finish(never("middle"), 4)
        finally:
            await finish(never("outer"), 4)

    start = time.monotonic()
    await way(call, 0.05, 1)
    assert begun == ["inner", "middle", "outer"]
    assert time.monotonic() - start < BACK_S + 1  # 11 s otherwise


async def test_work_that_finishes_something_itself_has_no_more_time() -> None:
    async def never() -> None:
        await asyncio.sleep(100)

    async def work() -> None:
        await finish(never(), 50)

    start = time.monotonic()
    assert await finish(work(), 0.2) is None
    assert time.monotonic() - start < 5


async def test_without_a_cancellation_work_is_awaited_like_any_other() -> None:
    async def seven() -> int:
        return 7

    async def fail() -> None:
        raise LookupError

    assert await finish(seven(), 1) == 7
    with pytest.raises(LookupError):
        await finish(fail(), 1)


async def test_an_error_of_the_work_does_not_hide_the_cancellation() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise LookupError

    async def call() -> None:
        await finish(fail(), 3)

    await by_task(call, 0.01, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_thread_has_ended_when_its_call_has(way: Way) -> None:
    running = []

    def work() -> None:
        running.append(1)
        while not is_stopped():
            time.sleep(0.01)
        time.sleep(0.05)
        running.clear()

    async def call() -> None:
        await run_in_thread(work)

    await way(call, 0.05, 2)
    assert not running


@pytest.mark.parametrize("way", WAYS)
async def test_a_program_has_ended_when_its_call_has(way: Way) -> None:
    async def call() -> None:
        await run_program(["sleep", "100"], within_s=60)

    await way(call, 0.1, 2)  # that no child is left the check of all tests sees


@pytest.mark.parametrize("way", WAYS)
async def test_a_program_in_a_thread_has_ended_when_its_call_has(way: Way) -> None:
    async def call() -> None:
        await run_in_thread(lambda: run_blocking(["sleep", "100"], within_s=60))

    await way(call, 0.1, 2)


async def test_programs_say_how_they_ended() -> None:
    words = ["sh", "-c", "cat; echo out; echo err >&2; exit 3"]
    assert await run_program(words, within_s=60) == Ended(3, b"out\n", b"err\n")
    assert run_blocking(words, within_s=60, stdin=b"in ") == Ended(3, b"in out\n", b"err\n")
    with pytest.raises(TimeoutError):
        await run_program(["sleep", "100"], within_s=0.1)
    with pytest.raises(TimeoutError):
        run_blocking(["sleep", "100"], within_s=0.1)


async def test_a_thread_gives_what_its_work_gave() -> None:
    def fail() -> None:
        raise LookupError

    assert await run_in_thread(lambda: 7) == 7
    assert await run_abandonable(lambda: 8) == 8
    for run in (run_in_thread, run_abandonable):
        with pytest.raises(LookupError):
            await run(fail)


TORN = """
import asyncio, sys, time
from asyncdeploy.tasks.threads import run_abandonable, run_in_thread

async def main():
    await (run_in_thread if sys.argv[1] == "stopped" else run_abandonable)(int)
    asyncio.get_running_loop().call_later(0.1, interrupt)
    await (run_in_thread if sys.argv[1] == "stopped" else run_abandonable)(time.sleep, float(sys.argv[2]))
    print("asked", flush=True)
    await asyncio.sleep(60)

def interrupt():
    raise KeyboardInterrupt

loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
finally:
    loop.close()
"""


@pytest.mark.parametrize("kind", ["stopped", "abandoned"])
@pytest.mark.parametrize("sleep_s", ["0", "3600"], ids=["at rest", "at work"])
async def test_r15_no_thread_keeps_a_program_from_ending(kind: str, sleep_s: str) -> None:
    """As by Ctrl-C three times: the loop is gone before its tasks have ended, and nobody tells their threads."""
    words = (sys.executable, "-c", TORN, kind, sleep_s)
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")


async def test_idle_threads_are_used_again_and_end() -> None:
    def mine() -> threading.Thread:
        return threading.current_thread()

    before = await run_in_thread(mine)
    assert before.daemon
    many = await asyncio.gather(*(run_in_thread(mine) for _ in range(100)))
    assert len(set(many)) <= 40  # as many as anyio allows at once
    await eventually(lambda: not any(thread.is_alive() for thread in {before, *many}), "idle threads end", within_s=30)
    assert await run_in_thread(lambda: 7) == 7


async def test_a_thread_that_nobody_can_stop_is_left() -> None:
    go_on = threading.Event()
    try:
        start = time.monotonic()
        with anyio.move_on_after(0.05):
            await run_abandonable(lambda: go_on.wait(30))
        assert time.monotonic() - start < 20
    finally:
        go_on.set()
