"""The live view in a notebook: one output of a cell that changes, in a real kernel; and its HTML is nobody's markup."""

import os
from typing import Any

import pytest

from asyncdeploy.values.events import Event, OutputLine, StageFailed, StageFinished
from asyncdeploy.view.board import Lines, board_of
from asyncdeploy.view.notebook import board_html, in_notebook
from asyncdeploy.view.story import Story
from tests.support.places import ROOT
from tests.support.tools import need_package

CELL = """
import asyncio, sys, asyncdeploy as ad
with ad.live_view() as view:
    for name in ("gpu-a", "gpu-b"):
        view(ad.StageStarted(node=name, stage="push"))
    await asyncio.sleep(0.3)
    view(ad.StageFinished(node="gpu-a", stage="push", seconds=1.0))
    view(ad.StageFailed(node="gpu-b", stage="push", seconds=1.0, error="disk full"))
print("widgets" if "ipywidgets" in sys.modules else "no widgets")
"""


async def run_cell(text: str) -> list[dict[str, Any]]:
    """What a kernel answers to a cell, until it is idle again."""
    need_package("ipykernel")
    from jupyter_client.manager import start_new_async_kernel

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    manager, client = await start_new_async_kernel(env={**os.environ, "PYTHONPATH": path})
    try:
        asked = client.execute(text)
        answers = []
        while True:
            answer = await client.get_iopub_msg(timeout=60)
            if answer["parent_header"].get("msg_id") == asked:
                answers.append(answer)
                if answer["content"].get("execution_state") == "idle":
                    return answers
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore")  # of the kernel's own packages
async def test_a_table_changes_in_its_cell_without_widgets() -> None:
    answers = await run_cell(CELL)
    shown = [answer["content"] for answer in answers if "display_data" in answer["msg_type"]]
    kinds = [answer["msg_type"] for answer in answers if "display_data" in answer["msg_type"]]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) == {"update_display_data"}
    assert len({each["transient"]["display_id"] for each in shown}) == 1
    assert ">2 nodes, 2 push<" in shown[0]["data"]["text/html"]
    assert ">2 nodes, 1 pushed, 1 failed<" in shown[-1]["data"]["text/html"]
    assert "gpu-b push failed: disk full" in shown[-1]["data"]["text/html"]
    printed = [answer["content"]["text"] for answer in answers if answer["msg_type"] == "stream"]
    assert printed == ["no widgets\n"]


def test_this_is_no_notebook() -> None:
    assert not in_notebook()


def test_words_of_nodes_are_no_markup() -> None:
    bad = '<img src=x onerror="alert(1)">'
    story, lines = Story(), Lines()
    events: list[Event] = [
        StageFinished(node=bad, stage=bad, seconds=1),
        StageFailed(node=bad, stage="env", seconds=1, error=bad),
        OutputLine(node=bad, stream="stdout", text=bad),
    ]
    for event in events:
        story.take(event)
        lines.add(bad, bad)
    text = board_html(board_of(story, lines, 0.0, 10), "00:00:00")
    assert "<img" not in text
    assert "&lt;img" in text
