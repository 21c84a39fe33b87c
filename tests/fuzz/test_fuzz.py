"""Every target with what is kept of it, and with a few inputs that hypothesis makes of its words."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.fuzz.target import CORPUS, MOST_BYTES, MOST_INPUT, Hung, Swollen, Target
from tests.fuzz.targets import TARGETS
from tests.support.tools import find, need

EXAMPLES, SLOW_EXAMPLES = 60, 5
"""A second for each target; what is looked for at length is looked for by `python -m tests.fuzz`."""

LARGE = {
    "job_states_by_sh": b"Nx\n" + b"a\n" * 300_000 + b".\n",
}
"""Inputs for which a parser of ours once took seconds: its time grew with their square."""

ORACLES = ("git", "scontrol", "ssh", "ssh-keygen", "bash", "dash", "busybox", "zsh", "mksh")
"""Whom targets ask what is right; without one of them a target says nothing."""

named = pytest.mark.parametrize("name", sorted(TARGETS))


def inputs(found: Target) -> st.SearchStrategy[bytes]:
    """Bytes, rows of a target's words, and what is kept with something put in its middle."""
    word = st.sampled_from(found.words) if found.words else st.binary(max_size=4)
    row = st.lists(word | st.binary(max_size=3), max_size=30).map(b"".join)
    kept = [path.read_bytes() for path in found.corpus()]
    if not kept:
        return row | st.binary(max_size=200)
    at = st.integers(0, MOST_INPUT)
    changed = st.builds(lambda old, new, start, end: old[:start] + new + old[end:], st.sampled_from(kept), row, at, at)
    return row | st.binary(max_size=200) | changed


@named
def test_what_is_kept(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = TARGETS[name]
    assert found.corpus(), "each target keeps what it began with"
    for path in found.corpus():
        found.case(path.read_bytes())  # once before, for what is loaded and compiled at the first use
        found.case(path.read_bytes(), weighed=True)


@named
def test_what_hypothesis_makes(name: str) -> None:
    found = TARGETS[name]

    @settings(
        max_examples=SLOW_EXAMPLES if found.slow else EXAMPLES,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),  # a red run repeats
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(found))
    def case(data: bytes) -> None:
        found.case(data)

    case()


@pytest.mark.parametrize("name", sorted(LARGE))
def test_what_is_large(name: str) -> None:
    TARGETS[name].case(LARGE[name])


def test_whoever_knows_what_is_right_is_here() -> None:
    need(*ORACLES)
    assert all(find(each) for each in ORACLES)


def test_the_corpus_is_small_and_all_of_it_is_meant() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for found in TARGETS.values():
        kept = [path.read_bytes() for path in found.corpus()]
        assert len(set(kept)) == len(kept)
        assert max(map(len, kept)) <= MOST_INPUT
        assert sum(map(len, kept)) <= 4 * MOST_INPUT
        assert not any(b"/work/" in data or b"/home/" in data for data in kept)


def test_what_hangs_and_what_swells_is_seen() -> None:
    with pytest.raises(Hung):
        Target("hangs", lambda data: exec("while True: pass")).case(b"")
    with pytest.raises(Swollen):
        Target("swells", lambda data: random.randbytes(MOST_BYTES + 1) and None).case(b"", weighed=True)
