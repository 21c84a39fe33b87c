"""Many nodes at once: outcomes as they come, a node's own time, what is kept of a call that was cancelled."""

import asyncio
import contextlib
import itertools
import pickle
import time

import anyio
import pytest

from asyncdeploy.nodes.parallel import PORTION, iter_nodes, map_nodes, partial_report
from asyncdeploy.nodes.parse import Node, parse_nodes
from asyncdeploy.nodes.report import Outcome, Report
from asyncdeploy.tasks.finish import BACK_S, finish
from asyncdeploy.tasks.progress import note_progress
from asyncdeploy.values.errors import CommandFailed, ConnectionLost, DeadlineExceeded, WorkFailed
from tests.support.waiting import PATIENCE_S

NODES = parse_nodes("n[0-3]")


def states(report: object) -> list[str]:
    return [outcome.state for outcome in report]


async def test_every_node_stands_in_the_report_once_whatever_became_of_it() -> None:
    async def work(node: Node) -> int:
        match node.name:
            case "n0":
                return 7
            case "n1":
                raise CommandFailed("n1", "exited 3")
            case "n2":
                raise ConnectionLost("n2", "the line broke")
        raise LookupError("mine")

    report = await map_nodes(NODES, work)
    assert [outcome.node for outcome in report] == list(NODES)
    assert states(report) == ["ok", "failed", "unknown", "failed"]
    assert report["n0"].value == 7
    assert isinstance(report["n3"].error, WorkFailed)
    assert isinstance(report["n3"].error.__cause__, LookupError)


async def test_the_work_of_thousands_begins_a_few_at_a_time() -> None:
    """However many may go on at once: others have their turn in between."""
    begun, seen = 0, [0]

    async def work(node: Node) -> None:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)

    async def look() -> None:
        while begun < 2000:
            await asyncio.sleep(0)
            seen.append(begun)

    looking = asyncio.create_task(look())
    report = await map_nodes(parse_nodes("n[0-1999]"), work, at_once=2000)
    await looking
    assert report.ok
    assert max(after - before for before, after in itertools.pairwise(seen)) <= PORTION


def test_a_report_looks_a_node_up_by_itself_and_by_its_name() -> None:
    report = Report(tuple(Outcome(node, "ok", number) for number, node in enumerate(NODES)))
    assert [report[node].value for node in NODES] == [report[node.name].value for node in NODES] == [0, 1, 2, 3]
    with pytest.raises(KeyError, match="'n9'"):
        report["n9"]
    with pytest.raises(KeyError, match="'n9'"):
        report[Node("n9")]
    assert pickle.loads(pickle.dumps(report)) == report
    assert hash(report) == hash(Report(report.outcomes))


async def test_outcomes_come_as_the_nodes_end() -> None:
    gates = {node: asyncio.Event() for node in NODES}

    async def work(node: Node) -> str:
        await gates[node].wait()
        return str(node.name)

    came = []
    order = [NODES[2], NODES[0], NODES[3], NODES[1]]
    gates[order[0]].set()
    async for outcome in iter_nodes(NODES, work):
        came.append(outcome.node)
        if len(came) < len(order):
            gates[order[len(came)]].set()
    assert came == order


async def test_leaving_the_loop_ends_the_others() -> None:
    ended = []

    async def work(node: Node) -> None:
        if node.name != "n0":
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(node.name)

    async with contextlib.aclosing(iter_nodes(NODES, work)) as outcomes:
        async for outcome in outcomes:
            assert outcome.ok
            break
    assert sorted(ended) == ["n1", "n2", "n3"]


async def test_a_bound_holds_for_those_under_way() -> None:
    running, most = set(), 0

    async def work(node: Node) -> None:
        nonlocal most
        running.add(node)
        most = max(most, len(running))
        await anyio.sleep(0.01)
        running.discard(node)

    assert (await map_nodes("n[0-9]", work, at_once=3)).ok
    assert most == 3


async def test_r5_a_node_has_its_own_time() -> None:
    """It counts from when the node's work begins, and says what was last seen."""

    async def work(node: Node) -> str:
        if node.name == "n1":
            note_progress("push has begun")
            await asyncio.sleep(100)
        await asyncio.sleep(0.1)
        return "fine"

    report = await map_nodes(NODES, work, at_once=1, at_most_s=0.3)
    assert states(report) == ["ok", "unknown", "ok", "ok"]
    error = report["n1"].error
    assert isinstance(error, DeadlineExceeded)
    assert error.message.startswith("not done within 0.3 s (at_most_s); last seen: push has begun, 0.")


async def test_r5_work_that_does_not_heed_its_cancellation_is_left_and_the_next_node_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asyncdeploy.nodes.parallel.BACK_S", 0.2)
    over = asyncio.Event()

    async def work(node: Node) -> str:
        while node.name == "n0" and not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return node.name

    try:
        async with asyncio.timeout(PATIENCE_S / 4):
            report = await map_nodes(NODES, work, at_once=1, at_most_s=0.3)
    finally:
        over.set()
    assert states(report) == ["unknown", "ok", "ok", "ok"]
    assert isinstance(report["n0"].error, DeadlineExceeded)


async def test_a_timeout_of_the_work_itself_is_its_own() -> None:
    async def work(node: Node) -> None:
        raise TimeoutError("mine")

    report = await map_nodes("n0", work, at_most_s=60)
    assert isinstance(report["n0"].error, WorkFailed)


async def test_a_failure_stops_the_others_where_that_is_wanted() -> None:
    begun = asyncio.Event()

    async def work(node: Node) -> None:
        if node.name == "n0":
            await begun.wait()
            raise CommandFailed("n0", "exited 1")
        begun.set()
        await asyncio.sleep(100)

    report = await map_nodes(NODES, work, at_once=2, stop_on_failure=True)
    assert states(report) == ["failed", "cancelled", "skipped", "skipped"]


async def test_work_that_cancels_itself_is_no_hang() -> None:
    async def work(node: Node) -> None:
        raise asyncio.CancelledError

    with anyio.fail_after(5):
        assert states(await map_nodes("n0", work)) == ["cancelled"]


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancelled_call_keeps_what_it_has(native: bool) -> None:
    async def work(node: Node) -> str:
        if node.name in ("n1", "n3"):
            await asyncio.sleep(100)
        return "fine"

    async def call() -> None:
        await map_nodes(NODES, work, at_once=3)

    if native:
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(call(), 0.2)
        error: BaseException = caught.value
    else:
        with anyio.move_on_after(0.2):
            try:
                await call()
            except asyncio.CancelledError as cancelled:
                error = cancelled
                raise
    report = partial_report(error)
    assert report is not None
    assert states(report) == ["ok", "cancelled", "ok", "cancelled"]
    assert partial_report(LookupError()) is None


async def test_cancelled_it_is_back_in_time_whatever_the_nodes_still_do() -> None:
    async def never() -> None:
        await asyncio.sleep(100)

    async def work(node: Node) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await finish(never(), 4)

    async def call() -> None:
        try:
            await map_nodes(NODES, work)
        finally:
            await finish(never(), 4)

    start = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await call()
    assert time.monotonic() - start < BACK_S + 1  # 8 s if the layers did not share


@pytest.mark.parametrize("words", [{"at_once": 0}, {"at_most_s": 0}, {"at_most_s": float("nan")}])
async def test_bounds_that_are_none_are_refused(words: dict[str, float]) -> None:
    async def work(node: Node) -> None: ...

    with pytest.raises(ValueError, match=next(iter(words))):
        await map_nodes(NODES, work, **words)
