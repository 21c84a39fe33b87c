"""The page of faults: each has a test or a reason why it has none, each test that is named is there."""

import pytest

from tests.docs.generators import generator

made = generator("make_faults")
EVERY = made.tests()
LISTS = made.lists()
FOUND = made.found()


def test_the_page_is_what_make_faults_writes() -> None:
    """If this fails: `python docs/make_faults.py`."""
    assert (made.ROOT / "docs" / "faults.md").read_text() == made.page()


def test_every_fault_has_a_test_or_a_reason() -> None:
    has = {(number, fault) for number, fault, _, _ in made.named(EVERY)}
    without = [
        name
        for number, data in enumerate(LISTS)
        for name, fault in made.faults(data).items()
        if (number, name) not in has and not fault.get("also") and not fault.get("untested")
    ]
    assert without == []


def test_a_fault_that_a_test_is_named_after_is_in_the_list() -> None:
    assert [f"{file}::{name}" for number, _, file, name in made.named(EVERY) if number < 0] == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_row_says_what_the_world_does_and_what_happens_then(number: int) -> None:
    for name, fault in made.faults(LISTS[number]).items():
        assert set(fault) <= {"when", "then", "also", "untested"}, name
        assert not fault["when"].endswith("."), name
        assert fault["then"].endswith("."), name
        assert [path for path in fault.get("also", ()) if made.missing(path, EVERY)] == [], name
        assert name[0] in LISTS[number]["sections"], name


def test_what_the_machines_found_has_a_test() -> None:
    assert {fault["machine"] for fault in FOUND["fault"]} == set(FOUND["machines"])
    for fault in FOUND["fault"]:
        assert fault["tests"], fault["came"]
        assert [path for path in fault["tests"] if made.missing(path, EVERY)] == [], fault["came"]
