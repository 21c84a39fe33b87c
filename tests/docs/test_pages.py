"""What the pages must hold: every public name, every parameter in its docstring, links that lead somewhere."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncdeploy
from tests.docs.generators import generator
from tests.support.places import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_HAND = [page for page in PAGES if page.name not in ("api.md", "faults.md")]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def functions() -> Iterator[tuple[str, Any]]:
    """Every public function, with its name."""
    yield from (
        (name, value) for name in asyncdeploy.__all__ if inspect.isfunction(value := getattr(asyncdeploy, name))
    )


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls", "kwargs", "args")]


def is_told(name: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


@pytest.mark.parametrize("name", asyncdeploy.__all__)
def test_each_public_name_stands_in_a_page(name: str) -> None:
    assert any(is_told(name, page.read_text()) for page in OF_HAND)


def test_each_parameter_of_a_public_function_stands_in_its_docstring() -> None:
    missing = {
        name: found
        for name, function in functions()
        if (found := [each for each in parameters(function) if not is_told(each, inspect.getdoc(function) or "")])
    }
    assert missing == {}


def test_the_list_of_names_is_what_make_api_writes() -> None:
    """If this fails: `python docs/make_api.py`."""
    assert (ROOT / "docs" / "api.md").read_text() == generator("make_api").page()


def test_every_page_is_named_for_programs_that_read() -> None:
    """llms.txt leads to all pages but the how-tos, which have a page that names them."""
    said = set(LINK.findall((ROOT / "docs" / "llms.txt").read_text()))
    assert said >= {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md", "SKILL.md"}
    assert all((ROOT / "docs" / each).exists() for each in said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_picture_that_the_readme_opens_with_needs_nothing_from_elsewhere() -> None:
    """If this fails: `python docs/make_picture.py`, which makes it of a real run."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line]
    assert lines[1].startswith("![")
    assert lines[1].endswith("(docs/picture.svg)")
    text = (ROOT / "docs" / "picture.svg").read_text().replace("&#160;", " ")
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"], "the name of the format, no host"
    assert re.search(r"url\((?!#)|@font-face|<script|<image|href|/tmp|/root|/home", text) is None
    assert "$ asyncdeploy launch train.py" in text
    assert "4 of 4 nodes are at home" in text
