"""What ranks print because another node failed is held back once that is known, and nothing else is."""

import pytest

import asyncdeploy as ad
from asyncdeploy.cli.work.echoes import Echoes
from asyncdeploy.launch.gang.watch import OTHERS_STOPPED

PEER = """\
[default0]:[rank1]: Traceback (most recent call last):
[default0]:[rank1]:   File "/w/train.py", line 9, in <module>
[default0]:[rank1]:     dist.all_reduce(value)
[default0]:[rank1]: RuntimeError: Connection reset by peer
E1128 17:10:32.354000 1102 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/w/run.py", line 1, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
============================================================"""
OWN = """\
[default0]:saved a checkpoint at step 1200
[default0]:  with 12 tensors
goodbye"""
FAILED = ad.Noted(node="gpu-c", text=f"node rank 2 failed: {OTHERS_STOPPED}")


def lines(text: str, node: str) -> list[ad.LaunchLine]:
    return [ad.LaunchLine(0, node, line) for line in text.splitlines()]


def shown(echoes: Echoes, *coming: ad.LaunchLine) -> list[str]:
    return [line.text for line in coming if not echoes.take(line, [line.node])]


def test_tracebacks_and_summaries_of_the_others_are_kept_back_and_counted() -> None:
    echoes = Echoes()
    echoes.see(FAILED)
    assert shown(echoes, *lines(f"{PEER}\n{OWN}", "gpu-b")) == OWN.splitlines()
    assert shown(echoes, *lines(PEER, "gpu-a")) == []
    said = echoes.told("train-abc")
    assert said == "gpu-[a-b]: 26 more lines of ranks that were stopped or lost their peers: asyncdeploy logs train-abc"


def test_all_is_shown_while_nobody_is_known_to_have_failed_and_of_the_node_that_has() -> None:
    echoes = Echoes()
    assert len(shown(echoes, *lines(PEER, "gpu-b"))) == 13
    echoes.see(FAILED)
    assert len(shown(echoes, *lines(PEER, "gpu-c"))) == 13
    assert echoes.told("train-abc") == ""


@pytest.mark.parametrize("known_at", range(1, 4))
def test_what_was_begun_before_is_an_echo_from_then_on(known_at: int) -> None:
    echoes, coming = Echoes(), lines(PEER, "gpu-b")
    assert len(shown(echoes, *coming[:known_at])) == known_at
    echoes.see(FAILED)
    assert shown(echoes, *coming[known_at:]) == []


def test_a_line_that_many_printed_alike_belongs_to_each_of_them() -> None:
    echoes = Echoes()
    echoes.see(FAILED)
    head, *rest = lines(PEER, "gpu-a")
    assert echoes.take(head, ["gpu-a", "gpu-b"])
    assert shown(echoes, *rest, *(ad.LaunchLine(1, "gpu-b", line.text) for line in rest)) == []


def test_a_node_that_was_the_cause_after_all_has_its_lines_given_back() -> None:
    echoes = Echoes()
    echoes.see(FAILED)
    shown(echoes, *lines(PEER, "gpu-a"), *lines(PEER, "gpu-b"))
    assert [line.text for line in echoes.of("gpu-a")] == PEER.splitlines()
    assert echoes.told("train-abc").startswith("gpu-b: 13 more lines")
