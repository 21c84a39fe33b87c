"""Lines of many logs in one order: by their time while older ones are being read, else as they come."""

from pathlib import Path

import anyio
import pytest

import asyncdeploy as ad
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.launch.follow.log_merge import HOLD_S, ROOM, Merger
from asyncdeploy.launch.launch import LaunchLine
from asyncdeploy.node_side.run import log_times
from tests.support.beds.sshd_node import SshdNode

# One after the other, each waiting for its turn: what was printed when is known, whoever is heard first.
TURNS = """\
for turn in 1 2 3; do
  until [ "$(cat {file})" = "$turn $RANK" ]; do sleep 0.05; done
  echo "$turn $RANK"
  sleep 0.6
  [ $RANK = 0 ] && echo "$turn 1" > {file} || echo "$((turn + 1)) 0" > {file}
done
"""


def line(rank: int, text: str, at: float) -> LaunchLine:
    return LaunchLine(rank, f"gpu{rank}", text, "log", at)


def taken(merger: Merger, now: float) -> list[str]:
    found = []
    while (item := merger.take(now)) is not None:
        found.append(item[0].text if item[0] is not None else f"end of {item[1]}")
    return found


async def test_old_lines_come_in_the_order_of_time() -> None:
    now = anyio.current_time()
    merger = Merger(range(2), now)
    await merger.put(0, line(0, "b", 2), 2)
    await merger.put(0, line(0, "d", 4), 4)
    assert taken(merger, now) == [], "an older one may be on its way"
    await merger.put(1, line(1, "a", 1), 2)
    await merger.put(1, line(1, "c", 3), 4)
    merger.caught_up(0)
    assert taken(merger, now) == ["a", "b", "c"]
    merger.caught_up(1)
    assert taken(merger, now) == ["d"]
    await merger.put(1, line(1, "f", 6), 6)
    assert taken(merger, now) == ["f"], "who is read to the end holds nobody back"
    merger.ended(0)
    merger.ended(1)
    assert not merger.over
    assert taken(merger, now) == ["end of 0", "end of 1"]
    assert merger.over


async def test_who_does_not_answer_is_not_waited_for_without_end() -> None:
    now = anyio.current_time()
    merger = Merger(range(2), now)
    assert merger.due() == float("inf")
    await merger.put(0, line(0, "a", 1), 2)
    assert merger.due() == now + HOLD_S
    assert taken(merger, now + HOLD_S - 0.1) == []
    assert taken(merger, now + HOLD_S + 0.1) == ["a"]


async def test_a_slow_reader_makes_the_logs_wait() -> None:
    merger = Merger(range(1), anyio.current_time())
    for number in range(ROOM):
        await merger.put(0, line(0, str(number), number), number)
    async with anyio.create_task_group() as group:
        group.start_soon(merger.put, 0, line(0, "last", ROOM), ROOM)
        await anyio.lowlevel.checkpoint()
        merger.caught_up(0)
        got = [merger.take(anyio.current_time()) for _ in range(ROOM)]
        assert merger.take(anyio.current_time()) is None, "the last one had no room"
    assert [item[1:] for item in got if item is not None] == [(0, number) for number in range(ROOM)]
    assert taken(merger, anyio.current_time()) == ["last"]


def test_marks_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    marks = log_times.Marks(str(tmp_path))
    marks.tick(0.0)
    assert log_times.marks_between(str(tmp_path), 0, 10) == []
    for number in range(8):
        with log.open("ab") as file:
            file.write(b"x" * 10)
        marks.tick(float(number))
        marks.tick(number + 0.1)
    sizes = [size for size, _ in log_times.marks_between(str(tmp_path), 0, 80)]
    assert sizes == [10, 20, 30, 40, 50, 60, 70, 80]
    assert [size for size, _ in log_times.marks_between(str(tmp_path), 20, 45)] == [30, 40, 50]
    assert log_times.marks_between(str(tmp_path), 80, 90) == []
    monkeypatch.setattr(log_times, "MOST", 9)
    with log.open("ab") as file:
        file.write(b"x")
    marks.tick(100.0)
    assert [size for size, _ in log_times.marks_between(str(tmp_path), 0, 90)] == [20, 40, 60, 80]
    assert marks.every_s == 2 * log_times.EVERY_S


async def test_lines_of_a_launch_that_has_ended_come_as_they_were_printed(
    sshd_nodes: list[SshdNode], tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    turn = tmp_path / "turn"
    turn.write_text("1 0")
    nodes = [each.node for each in sshd_nodes[:2]]
    async with ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool:
        program = ad.Ranks(TURNS.format(file=turn), nproc_per_node=1)
        launch = await ad.fan_out(nodes, tmp_path / "project", program, SystemEnv(), pool=pool)
        (await ad.wait_launch(launch, pool=pool)).unwrap()
    async with (
        ad.Pool(host_keys=ad.HostKeys.strict(sshd_nodes[0].known_hosts)) as pool,
        ad.follow_launch(launch, pool=pool) as lines,
    ):
        got = [each async for each in lines]
    assert [each.text for each in got] == [f"{turn} {rank}" for turn in (1, 2, 3) for rank in (0, 1)]
    assert [each.at for each in got] == sorted(each.at for each in got)
    assert got[-1].at - got[0].at >= 2.5
