"""Patterns of files, beside git's own."""

import subprocess

import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.values.patterns import Patterns
from tests.support.tools import need

PATTERN = st.text("ab*?/!#\\[]-. ", min_size=1, max_size=7)
NAMES = ["a", "b", "ab", "a/b", "a/a/b", "b/a", "a.b", "b/ab/a", "!a", "#a", "a b", "-"]


@given(st.lists(PATTERN, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_patterns_mean_what_git_means(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    need("git")
    root = tmp_path_factory.getbasetemp() / "patterns"
    if not root.exists():
        root.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / ".gitignore").write_text("\n".join(lines) + "\n")
    names = "\0".join(NAMES).encode()
    line = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    found = subprocess.run(line, cwd=root, input=names, capture_output=True, check=False)
    ignored = set(found.stdout.decode().split("\0")) - {""}
    patterns = Patterns(lines)
    assert {name for name in NAMES if patterns.match(name)} == ignored
