"""The timeline: an SVG that needs nothing else, with all that happened in it, and nobody's words as markup."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.local.cluster import LocalCluster
from asyncdeploy.values.events import Event, Noted, OutputLine, StageFailed, StageFinished, StageStarted
from asyncdeploy.view.timeline import FAILED, WAITED, timeline, write_timeline
from tests.support.trees import write

AT = 1_700_000_000.0
SVG = "{http://www.w3.org/2000/svg}"


def phase(node: str, stage: str, begin: float, end: float, detail: str = "") -> list[Event]:
    """A stage that ended well."""
    return [
        StageStarted(node=node, stage=stage, at=AT + begin),
        StageFinished(node=node, stage=stage, seconds=end - begin, detail=detail, at=AT + end),
    ]


RUN: list[Event] = [
    *phase("a", "connect", 0, 1),
    *phase("b", "connect", 0, 2),
    *phase("a", "env: uv sync", 1, 3),
    *phase("a", "env", 1, 4, "2 steps"),
    StageStarted(node="b", stage="env", at=AT + 2),
    StageFailed(node="b", stage="env", seconds=7, error="env failed: uv sync exited 2", at=AT + 9),
    *phase("a", "start", 10, 11),
    Noted(node="a", text="careful", at=AT),
    OutputLine(node="c", stream="stdout", text="no bar", at=AT),
]


def rects(svg: str) -> dict[str, dict[str, str]]:
    """Every bar's attributes, by the first line of its hover text."""
    root = ET.fromstring(svg)
    found = {}
    for rect in root.iter(f"{SVG}rect"):
        if (title := rect.find(f"{SVG}title")) is not None:
            found[(title.text or "").partition("\n")[0]] = rect.attrib
    return found


def test_bars_waits_and_failures() -> None:
    svg = timeline(RUN, title="run 7f3a")
    bars = rects(svg)
    assert list(bars) == [
        "a: waited 6.0s",
        "a: connect ok 1.0s",
        "a: env ok 3.0s",
        "a: start ok 1.0s",
        "a: env: uv sync ok 2.0s",
        "b: connect ok 2.0s",
        "b: env failed after 7.0s",
    ]
    assert bars["a: waited 6.0s"]["fill"] == WAITED
    assert bars["b: env failed after 7.0s"]["fill"] == FAILED
    wide = {name: float(bar["width"]) for name, bar in bars.items()}
    assert wide["a: env ok 3.0s"] == pytest.approx(3 * wide["a: connect ok 1.0s"], abs=0.2)
    assert float(bars["a: start ok 1.0s"]["x"]) + wide["a: start ok 1.0s"] == pytest.approx(1188, abs=0.2)
    texts = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert "run 7f3a · 2 nodes · 11s · 1 failed" in texts
    assert "uv sync exited 2" in svg
    assert "careful" in svg
    assert "no bar" not in svg


def test_it_needs_nothing_else() -> None:
    svg = timeline(RUN)
    assert not re.search(r"<script|href|@import|url\((?!#)", svg)
    assert svg.count("http") == 1  # the name of SVG itself


def test_what_goes_on_is_drawn_to_the_end() -> None:
    bars = rects(timeline([*phase("a", "push", 0, 10), StageStarted(node="b", stage="push", at=AT + 5)]))
    assert bars["b: push had not ended"]["fill"] == "url(#open)"
    assert float(bars["b: push had not ended"]["x"]) + float(bars["b: push had not ended"]["width"]) > 1187


def test_nobody_waits_while_its_job_runs() -> None:
    bars = rects(timeline([*phase("a", "start", 0, 1), *phase("a", "collect", 60, 61)]))
    assert not [name for name in bars if "waited" in name]


def test_words_of_nodes_are_no_markup() -> None:
    bad = "<script>alert(1)</script>\x1b[2J\x00\ufffe\udcff\u202e&\"'"
    events: list[Event] = [
        *phase("a", bad, 0, 100, bad),
        StageStarted(node="a", stage="env", at=AT),
        StageFailed(node="a", stage="env", seconds=1, error=bad, at=AT + 1),
        Noted(node="a", text=bad, at=AT),
    ]
    for event in events:
        object.__setattr__(event, "node", "<b>" + bad[:40])
    svg = timeline(events, title=bad)
    ET.fromstring(svg)
    assert "<script" not in svg
    assert "<b>" not in svg
    assert svg.encode()


@pytest.mark.parametrize("span", [0.0, 0.001, 0.05, 3, 59, 61, 3599, 86_400, 864_000, 9_000_000])
def test_any_span_has_a_few_marks(span: float) -> None:
    svg = timeline(phase("a", "push", 0, span))
    assert 1 <= svg.count('class="grid"') <= 12


def test_nothing_is_a_picture_too() -> None:
    assert "0 nodes" in timeline([])


def test_a_thousand_nodes() -> None:
    events = [event for at in range(1000) for event in phase(f"node-{at}", "push", at / 100, at / 100 + 5)]
    assert len(rects(timeline(events))) == 1999


async def test_of_a_real_deploy(tmp_path: Path, project: Path) -> None:
    write(project, {"a.py": "1"})
    events: list[Event] = []
    async with LocalCluster(3) as cluster, cluster.pool(observer=events.append) as pool:
        (await deploy_all(cluster.nodes, project, SystemEnv(), pool=pool)).unwrap()
    write_timeline(tmp_path / "run.svg", events)
    names = rects((tmp_path / "run.svg").read_text("utf-8"))
    for node in cluster.nodes:
        for stage in ("connect", "probe", "push"):
            assert [name for name in names if name.startswith(f"{node.name}: {stage} ok ")]
