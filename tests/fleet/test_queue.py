"""Many commands over few nodes: each once, in its slot, on its GPU; a node that is lost loses no command."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.fleet.queue import _entries, _Queue
from asyncdeploy.fleet.slots import slot_env
from asyncdeploy.launch.preflight.visible_gpus import seen_words
from asyncdeploy.nodes.report import Outcome
from asyncdeploy.values.errors import Skipped
from asyncdeploy.values.events import Event
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually

GPUS = tuple(ad.Gpu(number, "H100", uuid=f"GPU-{number}") for number in range(4))


async def deployed(pool: ad.Pool, nodes: Sequence[SshdNode], project: Path) -> tuple[ad.Deployment, ...]:
    (project / "a").write_text("a")
    report = await ad.deploy_all([sshd.node for sshd in nodes], project, ad.SystemEnv(), pool=pool)
    return report.unwrap()


def with_gpus(deployment: ad.Deployment, **fields: object) -> ad.Deployment:
    return attrs.evolve(deployment, facts=attrs.evolve(deployment.facts, gpus=GPUS), **fields)


async def test_twelve_runs_over_four_nodes_two_at_a_time(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    seen: list[Event] = []
    async with pool_for(sshd_nodes[0], observer=seen.append) as pool:
        deployments = await deployed(pool, sshd_nodes, project)
        del seen[:]
        # Two commands in one slot at a time would meet in its folder.
        line = "pwd; echo $ASYNCDEPLOY_SLOT; echo ${CUDA_VISIBLE_DEVICES-none}; cd; mkdir $ASYNCDEPLOY_SLOT || exit"
        commands = {
            f"lr={number}": f"echo {number}; {line}; sleep 0.3; rmdir $ASYNCDEPLOY_SLOT" for number in range(12)
        }
        done = [each async for each in ad.run_queue(deployments, commands, per_node=2, pool=pool)]
    assert sorted(each.number for each in done) == list(range(12))
    assert all(each.ok for each in done)
    for each in done:
        assert each.value is not None
        number, folder, slot, gpu = each.value.text.split()
        assert (each.label, number, gpu) == (f"lr={each.number}", str(each.number), "none")
        assert slot == str(each.slot)
        assert folder.endswith(f"{each.node.name}/home/project"), "it runs in the project"
    assert {(each.node.name, each.slot) for each in done} == {(f"node-{n}", slot) for n in range(4) for slot in (0, 1)}
    lines = [event for event in seen if isinstance(event, ad.OutputLine) and event.text.isdigit()]
    assert {event.label for event in lines} == set(commands)


async def test_one_that_fails_stops_no_other_and_events_tell_of_each(
    sshd_nodes: Sequence[SshdNode], project: Path
) -> None:
    seen: list[Event] = []
    commands = ["exit 3", "echo fine", "kill -9 $$", ad.Command("sleep 97531", timeout_s=0.3), "echo fine"]
    async with pool_for(sshd_nodes[0], observer=seen.append) as pool:
        deployments = await deployed(pool, sshd_nodes[:1], project)
        done = {each.number: each async for each in ad.run_queue(deployments, commands, pool=pool)}
    assert [done[number].state for number in range(5)] == ["failed", "ok", "failed", "failed", "ok"]
    assert done[0].value is not None
    assert done[0].value.status == 3
    assert isinstance(done[3].error, ad.CommandTimeout)
    assert [each.label for each in done.values()] == ["0", "1", "2", "3", "4"], "one slot, in their order"
    runs = [event for event in seen if getattr(event, "stage", "") == "run"]
    assert [(type(event).__name__, event.label) for event in runs] == [
        (kind, str(number))
        for number in range(5)
        for kind in ("StageStarted", "StageFinished" if done[number].ok else "StageFailed")
    ]
    assert next(event.error for event in runs if isinstance(event, ad.StageFailed)) == "command exited 3: exit 3"


async def test_a_node_that_is_lost_gives_its_command_to_another(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    seen: list[Event] = []
    async with pool_for(sshd_nodes[0], observer=seen.append) as pool:
        deployments = await deployed(pool, sshd_nodes[:2], project)
        (sshd_nodes[1].home / "stuck").touch()
        line = "touch ~/started; test ! -e ~/stuck || sleep 97531; echo $HOME"
        done = []
        async for each in ad.run_queue(deployments, [line] * 6, pool=pool):
            done.append(each)
            if len(done) == 5:
                assert (sshd_nodes[1].home / "started").exists()
                sshd_nodes[1].stop()
                sshd_nodes[1].end_sessions()
        assert [each.state for each in done] == ["ok"] * 6
        assert {each.node.name for each in done} == {"node-0"}
        assert [each.lost_on for each in done] == [()] * 5 + [("node-1",)]
        assert any("goes to another node" in getattr(event, "text", "") for event in seen)
    await eventually(lambda: not sshd_nodes[1].processes(), "its leash has ended it", within_s=30)
    sshd_nodes[1].start()


async def test_when_no_node_is_left_nothing_is_called_a_success(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        deployments = await deployed(pool, sshd_nodes[:2], project)
        commands = ["touch ~/started; sleep 97531"] * 4

        async def lose() -> None:
            await eventually(lambda: all((sshd.home / "started").exists() for sshd in sshd_nodes[:2]))
            for sshd in sshd_nodes[:2]:
                sshd.stop()
                sshd.end_sessions()

        losing = asyncio.create_task(lose())
        done = [each async for each in ad.run_queue(deployments, commands, pool=pool)]
        await losing
    assert sorted(each.state for each in done) == ["skipped", "skipped", "unknown", "unknown"]
    for each in done:
        assert isinstance(each.error, ad.ConnectionLost if each.state == "unknown" else Skipped)
    for sshd in sshd_nodes[:2]:
        await eventually(lambda sshd=sshd: not sshd.processes(), "its leash has ended it", within_s=30)
        sshd.start()


async def test_a_command_that_is_lost_when_every_node_was_given_up_has_its_outcome_all_the_same(pool: ad.Pool) -> None:
    """Two slots of a node: the one could not connect any more, and the other's connection breaks only then."""
    node = ad.Node("gone")
    one = ad.Deployment(node, ad.Site("/p"), ad.SystemEnv(), ad.NodeFacts("/root", "root", 0))
    entries = _entries(["true", "true"])
    queue = _Queue(pool, {node: one}, entries, 2)
    queue._waiting.popleft()  # the first one runs
    await queue._give_up(node, ad.ConnectError("gone", "refused"))
    skipped = queue._news.get_nowait()
    assert (skipped.number, skipped.state) == (1, "skipped")
    lost = Outcome[ad.Completed](node, "unknown", None, ad.ConnectionLost("gone", "broke"))
    entries[0].lost.append(entries[0].ended(lost, 0))
    await queue._put_back(entries[0], lost, 0)
    assert (queue._news.get_nowait().state, queue._left) == ("unknown", 0)


async def test_a_node_that_cannot_be_reached_costs_nothing_else(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    async with pool_for(sshd_nodes[0]) as pool:
        deployments = await deployed(pool, sshd_nodes[:2], project)
        sshd_nodes[1].stop()
        await pool.drop(sshd_nodes[1].node)
        done = [each async for each in ad.run_queue(deployments, ["true"] * 3, pool=pool)]
        assert [(each.state, each.node.name, each.lost_on) for each in done] == [("ok", "node-0", ())] * 3
    sshd_nodes[1].start()


async def test_leaving_and_cancelling_end_what_runs(
    sshd_nodes: Sequence[SshdNode], project: Path, pool: ad.Pool
) -> None:
    deployments = await deployed(pool, sshd_nodes[:2], project)
    commands = ["true", *["sleep 97531"] * 6]
    async with contextlib.aclosing(ad.run_queue(deployments, commands, per_node=2, pool=pool)) as outcomes:
        async for _ in outcomes:
            break
    for sshd in sshd_nodes[:2]:
        assert not [line for line in sshd.processes().values() if "97531" in line]

    async def take_all() -> None:
        async for _ in ad.run_queue(deployments, commands, per_node=2, pool=pool):
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(take_all(), 1)
    for sshd in sshd_nodes[:2]:
        assert not [line for line in sshd.processes().values() if "97531" in line]


async def test_a_slot_sees_one_gpu_of_those_that_its_login_may_use(
    start_sshd: Callable[..., SshdNode], project: Path
) -> None:
    free = start_sshd("free")
    bound = start_sshd("bound", config={"SetEnv": "CUDA_VISIBLE_DEVICES=2,3"})
    line = "echo $CUDA_VISIBLE_DEVICES"
    async with pool_for(free) as pool:
        on_free, on_bound = [with_gpus(each) for each in await deployed(pool, [free, bound], project)]

        async def seen(deployment: ad.Deployment, per_node: int | None, count: int) -> set[tuple[int, str]]:
            queue = ad.run_queue([deployment], [f"{line}; sleep 0.2"] * count, per_node=per_node, pool=pool)
            return {(each.slot, each.value.text) async for each in queue if each.value is not None}

        assert await seen(on_free, 2, 4) == {(0, "0"), (1, "1")}
        assert await seen(on_free, None, 8) == {(0, "0"), (1, "1"), (2, "2"), (3, "3")}, "a slot a GPU"
        assert await seen(on_bound, 3, 6) == {(0, "2"), (1, "3"), (2, "2")}, "more slots share them"
        own = ad.Command(line, env={"CUDA_VISIBLE_DEVICES": "7"})
        (each,) = [each async for each in ad.run_queue([on_free], [own], pool=pool)]
        assert each.value is not None
        assert each.value.text == "7"


def test_an_outcome_shows_itself_in_one_line() -> None:
    done = ad.QueueOutcome(ad.Node("gpu-a"), "ok", None, None, 3, "lr=0.1", 1)
    assert repr(done) == "QueueOutcome('lr=0.1', 'ok', 'gpu-a', slot=1)"
    assert len(repr(attrs.evolve(done, label="\x1b" * 400))) < 120


def test_which_words_a_slot_takes() -> None:
    assert seen_words(GPUS, "all") == ("0", "1", "2", "3")
    assert seen_words(GPUS, "") == ()
    assert seen_words(GPUS, "GPU-2, 0,9,1") == ("GPU-2", "0")
    assert slot_env(1, ()) == {"ASYNCDEPLOY_SLOT": "1"}


async def test_what_cannot_be_a_queue_is_refused(tmp_path: Path) -> None:
    node = ad.Node("a")
    one = ad.Deployment(node, ad.Site("/p"), ad.SystemEnv(), ad.NodeFacts("/root", "root", 0))
    same = ad.Command("true", stdout_to=tmp_path / "out")
    for arguments, options, text in (
        (([], ["true"]), {}, "at least one was expected"),
        (([one], ["true"]), {"per_node": 0}, "per_node: at least 1"),
        (([one], {"a": same, "b": same}), {}, "would be written by a and by b"),
    ):
        with pytest.raises(ValueError, match=text):
            async for _ in ad.run_queue(*arguments, **options):  # type: ignore[arg-type]
                pass
    assert [each async for each in ad.run_queue([one], [])] == []
