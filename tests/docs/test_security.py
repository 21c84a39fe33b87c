"""The page on security: each line of what somebody may want has tests that are there."""

import re

import pytest

from tests.docs.generators import generator

made = generator("make_faults")
EVERY = made.tests()
TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")
WITHOUT = {"What is trusted", "What nothing here guards against"}


def sections() -> dict[str, list[str]]:
    """The lines of each section that are points of a list, each whole."""
    text = (made.ROOT / "docs" / "security.md").read_text()
    return {
        part.partition("\n")[0]: re.findall(r"^- (?:.+\n?(?:  .+\n?)*)", part, re.MULTILINE)
        for part in text.split("\n## ")[1:]
    }


def test_each_threat_has_its_section() -> None:
    assert len(sections().keys() - WITHOUT) == 6
    assert sections().keys() >= WITHOUT
    assert all(len(lines) >= 3 for lines in sections().values())


@pytest.mark.parametrize("name", sorted(sections().keys() - WITHOUT))
def test_each_line_has_a_test_that_is_there(name: str) -> None:
    for line in sections()[name]:
        assert TEST.findall(line), line
    named = TEST.findall("".join(sections()[name]))
    assert [path for path in named if made.missing(path, EVERY)] == []
