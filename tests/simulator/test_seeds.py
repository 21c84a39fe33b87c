"""Random stories over the real client; ASYNCDEPLOY_SEEDS says how many seeds, from ASYNCDEPLOY_SEED on."""

import os

import pytest

from tests.simulator.shrink import failures

SEEDS = int(os.environ.get("ASYNCDEPLOY_SEEDS") or 1000)
FIRST = int(os.environ.get("ASYNCDEPLOY_SEED") or 0)
SHARES = 8


@pytest.mark.timeout(120 + SEEDS)
@pytest.mark.parametrize("share", range(SHARES))
def test_no_story_breaks_what_must_hold(share: int) -> None:
    size = -(-SEEDS // SHARES)
    assert not (said := failures(FIRST + share * size, min(size, max(0, SEEDS - share * size)))), said
