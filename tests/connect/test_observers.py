"""Who looks cannot harm the work (R2, K18)."""

import asyncio
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.fleet.run import run_all
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.events import Event, Noted, Observer, StageFinished
from asyncdeploy.values.observing import Guard
from asyncdeploy.view.plain import print_events
from tests.support.beds.pools import pool_for, run_line
from tests.support.beds.sshd_node import SshdNode


def broken_pipe() -> Iterator[Observer]:
    """print_events to a pipe whose reader has gone, as behind `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        yield print_events(file)
        with pytest.raises(BrokenPipeError):
            file.close()


def dead_terminal() -> Iterator[Observer]:
    """print_events to a terminal that was closed."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as file:
        os.close(master)
        yield print_events(file)
        with pytest.raises(OSError, match="Input/output"):
            file.close()


def closed_file() -> Iterator[Observer]:
    file = io.StringIO()
    file.close()
    yield print_events(file)


def raising() -> Iterator[Observer]:
    def show(event: Event) -> None:
        raise KeyError(type(event).__name__)

    yield show


def looked_at_cancelled() -> Iterator[Observer]:
    """A dashboard that asks for what became of a future of its own: nobody has cancelled us."""

    def show(event: Event) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        future.result()

    yield show


BROKEN = {
    "closed pipe": broken_pipe,
    "dead terminal": dead_terminal,
    "closed file": closed_file,
    "raises": raising,
    "its own future was cancelled": looked_at_cancelled,
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_r2_an_observer_that_raises_is_dropped_after_one_warning(
    kind: str, sshd_nodes: tuple[SshdNode, ...]
) -> None:
    makes: Callable[[], Iterator[Observer]] = BROKEN[kind]
    for observer in makes():
        async with pool_for(sshd_nodes[0], observer=observer) as pool:
            with pytest.warns(RuntimeWarning, match="is shown no more events, the work goes on") as seen:
                report = await run_all(sshd_nodes[0].node, "echo one; echo two; exit 0", pool=pool)
            assert not pool.at(sshd_nodes[0].node).observed
        assert [completed.text for completed in report.unwrap()] == ["one\ntwo"]
        assert len(seen) == 1


async def test_k18_an_observer_that_raises_when_a_connection_is_made_leaks_none(
    sshd_nodes: tuple[SshdNode, ...],
) -> None:
    def show(event: Event) -> None:
        if isinstance(event, StageFinished) and event.stage == "connect":
            raise RuntimeError("no room on the screen")

    async with pool_for(sshd_nodes[0], observer=show) as pool:
        with pytest.warns(RuntimeWarning, match=r"raised RuntimeError: no room on the screen \(.*test_observers\.py:"):
            out, _ = await run_line(pool, sshd_nodes[0].node, "echo in")
        assert out == b"in\n"
        assert len(pool.at(sshd_nodes[0].node)._slots.connections) == 1


async def test_r2_where_warnings_are_errors_the_work_goes_on_too(
    sshd_nodes: tuple[SshdNode, ...], caplog: pytest.LogCaptureFixture
) -> None:
    for observer in raising():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with pool_for(sshd_nodes[0], observer=observer) as pool:
                assert (await run_all(sshd_nodes[0].node, "echo in", pool=pool)).ok
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the observer raised KeyError: 'StageStarted'")


def test_r2_letters_that_a_stream_cannot_write_are_spelled_out() -> None:
    raw = io.BytesIO()
    show = print_events(io.TextIOWrapper(raw, encoding="latin-1", write_through=True))
    show(Noted(node="n", text="für 2 €: \N{BRIDGE AT NIGHT}"))
    assert raw.getvalue().decode("latin-1").endswith("n note: für 2 \\u20ac: \\U0001f309\n")


def test_r2_without_a_stderr_events_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    print_events()(Noted(node="n", text="nobody sees it"))


def test_an_async_observer_is_told_of() -> None:
    async def show(event: Event) -> None:
        raise AssertionError("nobody awaits it")

    guard = Guard(lambda event: show(event))
    with pytest.warns(RuntimeWarning, match="the observer is async, and nobody awaits it"):
        guard.emit(Noted(node="n", text="x"))
    assert not guard.looks


async def test_k18_host_keys_that_cannot_be_recorded_reach_the_observer_through_the_same_guard(key_path: str) -> None:
    pool = Pool(host_keys=HostKeys.pinned({}), observer=next(raising()))
    with pytest.warns(RuntimeWarning):
        pool._note("n", "a word of the connector's")
    pool._note("n", "another one, which nobody sees")
    assert pool.at(Node("n")).observed is False
    await pool.close()
