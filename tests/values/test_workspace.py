"""P11: where a workspace lies, and where it may go."""

from pathlib import Path

import pytest

from asyncdeploy.collect.limits import CollectLimits
from asyncdeploy.values.workspace import Collected, Workspace


@pytest.mark.parametrize("path", ["//", "///", "~", "~/", "~//", "~/.", "/.", "//.", "/./", "//./"])
def test_p11_a_place_that_is_nobodys_own_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="a folder of its own was expected"):
        Workspace("x", remote_path=path)


@pytest.mark.parametrize("path", ["~/.asyncdeploy", "~/.asyncdeploy/jobs", "/data/proj/.asyncdeploy"])
def test_p11_our_own_folder_is_no_place(path: str) -> None:
    with pytest.raises(ValueError, match="a folder of its own was expected"):
        Workspace("x", remote_path=path)


@pytest.mark.parametrize("path", ["..", "../..", "~/..", "~/../..", "/data/../b", "/..", "data", "", "."])
def test_p11_a_place_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="Workspace remote_path"):
        Workspace("x", remote_path=path)


def test_p11_a_folder_goes_by_its_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "proj" / "src" / "deep"
    below.mkdir(parents=True)
    (tmp_path / "link").symlink_to("proj/src")
    monkeypatch.chdir(below)
    assert Workspace(".").site_path == "~/deep"
    assert Workspace("..").site_path == "~/src"
    assert Workspace("../..").path == tmp_path / "proj"
    assert Workspace("../../../link/..").site_path == "~/proj", "as the system reads it"
    assert Workspace(tmp_path / "link").site_path == "~/link"


@pytest.mark.parametrize("path", ["/", "/..", "a\nb", "x/.asyncdeploy", ""])
def test_p11_a_folder_without_a_name_of_its_own_needs_a_place(path: str) -> None:
    with pytest.raises(ValueError, match="Workspace path"):
        Workspace(path)


@pytest.mark.parametrize(
    "path, site", [("//data//x/", "/data/x"), ("/data/./x", "/data/x"), ("~//x/", "~/x"), ("~/a/./b", "~/a/b")]
)
def test_p11_one_place_has_one_name(path: str, site: str) -> None:
    assert Workspace("x", remote_path=path).site_path == site


def test_p19_a_word_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="on_emptied"):
        Workspace("x", on_emptied="overwrite")


@pytest.mark.parametrize("pattern", ["./data", "../data", "data/./x", "!./data", "/home/me/project/data"])
@pytest.mark.parametrize("field", ["include", "exclude"])
def test_p1_a_pattern_that_matches_nothing_is_refused(field: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: a name counted from the folder itself was expected"):
        Workspace("/home/me/project", **{field: pattern})
    if "project" not in pattern:
        with pytest.raises(ValueError, match=f"CollectLimits {field}"):
            CollectLimits(**{field: pattern})


@pytest.mark.parametrize("pattern", ["data", "/data", "data/", "**/x", ".env", "..x", "*.pt", "!keep", "a.", ".*"])
def test_p1_a_pattern_that_may_match_is_taken(pattern: str) -> None:
    assert Workspace("/home/me/project", exclude=pattern).exclude == (pattern,)


def test_what_came_home_is_one_short_line_in_a_report() -> None:
    came = Collected("gpu1", "/root/project/results", Path("results/0-gpu1"), files=3, received=1)
    assert came.gist() == "3 files in results/0-gpu1, 1 new"
