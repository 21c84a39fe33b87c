"""A seed is a story, and the same one each time; one that breaks something is made short."""

import os
import subprocess
import sys

import attrs

from tests.simulator.play import Played, play
from tests.simulator.shrink import shrink
from tests.simulator.story import Fault, Step, Story, make_story

SEEDS = (1, 8, 26, 58, 93, 89, 137, 209, 305)


def test_a_seed_is_the_same_in_another_process() -> None:
    ours = [play(make_story(seed)).trace for seed in SEEDS]
    code = (
        "from tests.simulator.play import play; from tests.simulator.story import make_story\n"
        f"for seed in {SEEDS}: print(play(make_story(seed)).trace)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    theirs = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert theirs.stdout.split() == ours
    assert len(set(ours)) == len(SEEDS)


def test_a_story_that_breaks_something_is_made_short() -> None:
    story = Story(
        7,
        2,
        0.01,
        ((Step("run", 1, "exit 0", ends="cancel"), Step("probe")), (Step("start", 0, "exit 0", job="a"), Step("list"))),
        (Fault("full", 1.0), Fault("cut", 2.0, 1), Fault("lie", 3.0)),
    )

    def performed(story: Story) -> Played:
        steps = [step for lane in story.lanes for step in lane]
        broken = any(step.does == "start" for step in steps) and any(fault.does == "cut" for fault in story.faults)
        return Played(story, ("it broke",) if broken else (), "", ())

    short = shrink(performed(story), performed).story
    assert short.lanes == ((Step("start", 0, "exit 0", job="a"),),)
    assert short.faults == (Fault("cut", 2.0, 1),)
    assert (short.nodes, short.seed) == (1, 7)
    assert "start line='exit 0' job='a'" in short.text()


def test_seeds_tell_different_stories() -> None:
    stories = [attrs.evolve(make_story(seed), seed=0) for seed in range(50)]
    assert len({story.text() for story in stories}) == 50
    assert {fault.does for seed in range(600) for fault in make_story(seed).faults} >= {
        "die",
        "silent",
        "lie",
        "restart",
    }
