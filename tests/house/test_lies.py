"""A node that lies costs itself: whatever it answers, what comes out is a value or an error that names it (H6)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.remotes.lies import ANSWERS, RAW_VERBS, VERBS, Liar, Verb, lies_of, tell
from tests.support.remotes.sh_lies import SH_VERBS, ShVerb, tell_by_sh


@pytest.mark.parametrize("verb", [*VERBS, *RAW_VERBS], ids=lambda verb: verb.name)
async def test_no_lie_gets_through_as_another_error(tmp_path: Path, verb: Verb) -> None:
    async with Liar(tmp_path / "liar", {verb.program: ANSWERS}) as remote:
        honest, *lies = lies_of(verb)
        await tell(remote, verb, [honest])
        _, refused = await tell(remote, verb, lies)
    # A window that cannot be had ends no start, and what failed ranks leave may be anything.
    assert refused or verb.name == "window"


@pytest.mark.long
def test_none_gets_through_where_asserts_are_off(tmp_path: Path) -> None:
    words = [sys.executable, "-O", "-m", "tests.support.remotes.lies", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(VERBS) + len(RAW_VERBS)


@pytest.mark.parametrize("verb", SH_VERBS, ids=lambda verb: f"{verb.name}-{verb.function}")
async def test_no_lie_of_sh_gets_through_as_another_error(tmp_path: Path, verb: ShVerb) -> None:
    (tmp_path / "liar").mkdir()
    _, refused = await tell_by_sh(tmp_path / "liar", verb)
    assert refused
