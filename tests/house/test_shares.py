"""The order of the tests: xdist's own cut gives every process long ones first, and leaves neighbours together."""

from typing import Any

import attrs
import pytest
from xdist.scheduler import WorkStealingScheduling

from tests.house.shares import long_first


@attrs.define(eq=False)
class Process:
    """What xdist hands tests to."""

    shutting_down: bool = False
    got: list[int] = attrs.field(factory=list)
    id: str = "gw"

    @property
    def gateway(self) -> "Process":
        return self

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.got += numbers

    def shutdown(self) -> None:
        self.shutting_down = True

    def send_steal(self, numbers: list[int]) -> None:
        raise AssertionError("nobody is idle yet")


@attrs.frozen
class Asked:
    """How many processes pytest was asked for."""

    processes: int

    def getvalue(self, _: str) -> list[str]:
        return [f"{self.processes}*popen"]


def cut(row: list[str], number: int) -> list[str]:
    """What each of the processes gets of a row."""
    asked: Any = Asked(number)
    scheduler, processes = WorkStealingScheduling(asked), [Process() for _ in range(number)]
    for each in processes:
        process: Any = each
        scheduler.add_node(process)
        scheduler.add_node_collection(process, row)
    scheduler.schedule()
    return ["".join(row[index] for index in each.got) for each in processes]


@pytest.mark.parametrize(
    "long, short, processes, expected",
    [
        ("ABCDE", "abcdefghi", 3, ["Aabc", "BCdef", "DEghi"]),
        ("AB", "abcdefg", 4, ["ab", "cd", "Ae", "Bfg"]),
        ("ABC", "", 2, ["A", "BC"]),
        ("", "abc", 1, ["abc"]),
    ],
)
def test_each_process_begins_with_its_share(long: str, short: str, processes: int, expected: list[str]) -> None:
    assert cut(long_first(long, short, processes), processes) == expected
