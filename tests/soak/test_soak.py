"""The soak in short: a few seconds always, and for so many minutes as ASYNCDEPLOY_SOAK says; an hour is a command.

python -m tests.soak --minutes 60      # prints what was done, what is held, and each promise that was broken
"""

import os

import pytest

from tests.soak.soak import Plan, soak
from tests.support.tools import need_root

MINUTES = float(os.environ.get("ASYNCDEPLOY_SOAK") or 0)
SEED = int(os.environ.get("ASYNCDEPLOY_SEED") or 17)
SHORT = Plan(SEED, 0.02, warm_minutes=0.02, nodes=3, players=2, fault_every_s=0.4, commands=60, gigabytes=0.01)


@pytest.mark.timeout(300 + 180 * MINUTES)
@pytest.mark.long
async def test_work_and_faults_leave_nothing_behind() -> None:
    need_root()
    half = MINUTES / 2
    longer = Plan(SEED, half, look_minutes=half / 2, warm_minutes=half, commands=1000, gigabytes=0.5)
    broken = await soak(longer if MINUTES else SHORT)
    assert not broken, "\n".join(broken)
