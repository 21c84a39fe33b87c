"""What the ranks of a launch print: nothing is lost or repeated, whatever happens to the line; equal lines are one."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from asyncdeploy.connect.pool import Pool
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.launch import fan_out, follow_launch
from asyncdeploy.launch.follow.log_fold import LineFolder
from asyncdeploy.launch.launch import LaunchLine, LineRanks
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.run.streams import MAX_LINE, LineCutter
from tests.support.beds.sshd_node import SshdNode
from tests.support.launches import plan

COUNT = 6000
# Slowly enough that lines are still to come when the line breaks; with letters that are cut anywhere.
COUNTS = (
    f"i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); echo ä$i; [ $((i % 1000)) = 0 ] && sleep 0.1; done; printf rest"
)


async def test_b5_nothing_is_lost_or_repeated_when_lines_break(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    launch = await fan_out(nodes, project, Ranks(COUNTS), SystemEnv(), pool=pool)
    got: list[list[str]] = [[], []]
    async with follow_launch(launch, pool=pool) as lines:
        async for line in lines:
            got[line.node_rank].append(line.text)
            if len(got[0]) + len(got[1]) in (50, 3000, 9000):
                for sshd in sshd_nodes[:2]:
                    sshd.end_sessions(signal.SIGKILL)
    assert lines.report is not None
    assert lines.report.ok
    assert got == [[f"ä{number}" for number in range(1, COUNT + 1)] + ["rest"]] * 2


async def test_another_follower_goes_on_behind_the_last_line(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    launch = await fan_out(nodes, project, Ranks(COUNTS), SystemEnv(), pool=pool)
    got: list[list[str]] = [[], []]
    offsets: tuple[int, ...] = ()
    for stop_at in (10, 1234, 8000, 3 * COUNT):
        async with follow_launch(launch, offsets=offsets, pool=pool) as lines:
            async for line in lines:
                got[line.node_rank].append(line.text)
                if len(got[0]) + len(got[1]) == stop_at:
                    break
            offsets = lines.offsets
    assert got == [[f"ä{number}" for number in range(1, COUNT + 1)] + ["rest"]] * 2
    with pytest.raises(ValueError, match="offsets"):
        async with follow_launch(launch, offsets=(1,), pool=pool):
            pass


async def test_a_line_says_which_global_rank_printed_it(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool
) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:2]]
    ranks = Ranks("echo I am $RANK; echo '[local0]: no, I am another'", nproc_per_node=2)
    launch = await fan_out(nodes, project, ranks, SystemEnv(), pool=pool)
    async with follow_launch(launch, pool=pool) as lines:
        got = [(line.rank, line.node_rank, line.text.partition(":")[2]) async for line in lines]
    assert sorted(got) == [
        (rank, rank // 2, text) for rank in range(4) for text in sorted((f"I am {rank}", "[local0]: no, I am another"))
    ]
    alone = await fan_out(nodes, project, Ranks("echo hi", name="alone"), SystemEnv(), pool=pool)
    async with follow_launch(alone, pool=pool) as lines:
        assert sorted([(line.rank, line.text) async for line in lines]) == [(0, "hi"), (1, "hi")]
    async with follow_launch(alone, fold_s=300, pool=pool) as lines:
        assert [(line.rank, line.node_ranks) async for line in lines] == [(None, (0, 1))]


def test_whose_a_line_is() -> None:
    uneven = plan(2, 1, 8)
    cases = {(0, "[local1]:x"): 1, (1, "x"): 2, (1, "[rank7]: x"): 2, (2, "[default3]:[rank6]: x"): 6}
    cases |= {(2, "x"): None, (2, "[local9]:x"): None, (2, " [local1]:x"): None, (0, "[local²]:x"): None}
    assert {(node, text): LineRanks(uneven, node).rank_of(text) for node, text in cases} == cases


async def test_equal_lines_of_many_nodes_are_one(sshd_nodes: Sequence[SshdNode], project: Path, pool: Pool) -> None:
    nodes = [sshd.node for sshd in sshd_nodes[:3]]
    line = "for i in 1 2 3; do echo step $i; [ $RANK = 1 ] && echo only $i; done; true"
    launch = await fan_out(nodes, project, Ranks(line), SystemEnv(), pool=pool)
    async with follow_launch(launch, fold_s=300, pool=pool) as lines:
        got = [(line.text, line.node_ranks) async for line in lines]
    all_of = (0, 1, 2)
    assert [text for text, ranks in got if ranks == all_of] == ["step 1", "step 2", "step 3"], got
    assert [text for text, ranks in got if ranks == (1,)] == ["only 1", "only 2", "only 3"]
    assert len(set(lines.offsets)) == 2, "rank 1 has printed more"


def printed(rank: int, text: str) -> LaunchLine:
    return LaunchLine(rank, f"gpu{rank}", text)


def taken(folder: LineFolder, now: float, *, final: bool = False) -> list[tuple[str, tuple[int, ...]]]:
    found = []
    while ready := folder.take(now, final=final):
        found.append((ready[0].text, ready[0].node_ranks))
    return found


def test_a_line_waits_until_all_have_printed_it_or_its_time_is_over() -> None:
    folder = LineFolder(range(2), 1.0)
    assert folder.due() == float("inf")
    folder.add(printed(0, "a"), 2, 10.0)
    assert (taken(folder, 10.5), folder.due()) == ([], 11.0)
    folder.add(printed(1, "a"), 2, 10.6)
    assert taken(folder, 10.6) == [("a", (0, 1))]
    folder.add(printed(0, "b"), 4, 12.0)
    assert taken(folder, 13.0) == [("b", (0,))]
    folder.add(printed(1, "b"), 4, 13.1)
    folder.ended(0)
    assert taken(folder, 13.1) == [("b", (1,))]


@given(st.permutations([0] * 3 + [1] * 6 + [2] * 3))
def test_what_one_node_says_between_does_not_part_what_all_say(order: list[int]) -> None:
    """Whatever the order in which they are heard."""
    says = {rank: [f"step {number}" for number in range(3)] for rank in (0, 2)}
    says[1] = [text for number in range(3) for text in (f"step {number}", f"only {number}")]
    folder, got = LineFolder(range(3), 1.0), []
    for rank in order:
        folder.add(printed(rank, says[rank].pop(0)), 1, 0.0)
        got += taken(folder, 0.0)
    got += taken(folder, 0.0, final=True)
    assert [text for text, ranks in got if ranks == (0, 1, 2)] == ["step 0", "step 1", "step 2"]
    own = [text for text, ranks in got if 1 in ranks]
    assert own == ["step 0", "only 0", "step 1", "only 1", "step 2", "only 2"]


def test_each_node_keeps_its_order() -> None:
    folder = LineFolder(range(2), 1.0)
    for text in ("x", "y", "x"):
        folder.add(printed(0, text), 1, 0.0)
    for text in ("y", "x", "x"):
        folder.add(printed(1, text), 1, 0.1)
    assert taken(folder, 0.2, final=True) == [("x", (0,)), ("y", (0, 1)), ("x", (0, 1)), ("x", (1,))]


def test_what_one_node_alone_says_does_not_part_the_others() -> None:
    """Node 0 is ahead; what node 1 says between the steps stands between them, and delays none."""
    folder = LineFolder(range(2), 1.0)
    for text in ("step 1", "step 2"):
        folder.add(printed(0, text), 1, 0.0)
    for text in ("hello", "step 1", "only", "step 2"):
        folder.add(printed(1, text), 1, 0.5)
    assert folder.due() == 1.0
    assert taken(folder, 1.0) == [("hello", (1,)), ("step 1", (0, 1)), ("only", (1,)), ("step 2", (0, 1))]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_lines_are_the_same_however_their_bytes_come(size: int) -> None:
    data = (
        "eins\nzwei\r\ndrei\rvier\n\nüñ€😀\r".encode() + b"\xff\xfe\n" + "€".encode() * (MAX_LINE // 3 + 9) + b"\nend"
    )
    cutter, cut = LineCutter(), []
    for start in range(0, len(data), size):
        cut += cutter.cut(data[start : start + size])
    cut += cutter.cut(b"", final=True)
    assert [text for text, _ in cut[:7]] == ["eins", "zwei", "drei", "vier", "", "üñ€😀", "\ufffd\ufffd"]
    assert "".join(text for text, _ in cut[7:-1]) == "€" * (MAX_LINE // 3 + 9)
    assert cut[-1] == ("end", 3)
    assert sum(taken for _, taken in cut) == len(data)
