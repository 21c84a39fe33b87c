"""Names folded as people read them, and back."""

import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.nodes.parse import Node, fold_names, parse_nodes


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


labels = st.from_regex(r"[a-z_]([a-z0-9._-]{0,20}[a-z_])?", fullmatch=True)


@pytest.mark.parametrize(
    "given_names,folded",
    [
        ((), ""),
        (("x",), "x"),
        (("gpu01", "gpu02", "gpu03", "x"), "gpu[01-03],x"),
        (("gpu03", "gpu01", "gpu02"), "gpu[03,01-02]"),
        (("gpu1", "x", "gpu2"), "gpu1,x,gpu2"),
        (("gpu9", "gpu10", "gpu11"), "gpu[9-11]"),
        (("gpu09", "gpu10", "gpu100"), "gpu[09-10,100]"),
        (("gpu09", "gpu010", "gpu0011"), "gpu[09,010,0011]"),
        (("gpu-a", "gpu-b", "gpu-c", "gpu-g"), "gpu-[a-c,g]"),
        (("box", "boy"), "box,boy"),
        (("r1-n0", "r1-n1", "r2-n0"), "r1-n[0-1],r2-n0"),
        (("h-2201", "h-2202"), "h-[2201-2202]"),
        (("10.0.0.9", "10.0.0.10"), "10.0.0.[9-10]"),
        (("gpu01.lan", "gpu02.lan"), "gpu[01-02].lan"),
        (("1" * 30, "2" * 30), f"{'1' * 30},{'2' * 30}"),
    ],
)
def test_fold_names_as_people_read_them(given_names: tuple[str, ...], folded: str) -> None:
    assert fold_names(given_names) == folded


def is_host(name: str) -> bool:
    try:
        return Node(name).name == name
    except ValueError:  # 10.0.0.007 looks like an address and is none
        return False


counted = st.builds(
    lambda stem, number, width, tail: f"{stem}{number:0{width}d}{tail}",
    st.sampled_from(["gpu", "n-", "r1-n", "10.0.0.", ""]),
    st.integers(0, 120),
    st.integers(0, 4),
    st.sampled_from(["", ".lan", "a", "-b", "-c"]),
).filter(is_host)


@settings(deadline=None)
@given(st.lists(counted, unique=True, min_size=1, max_size=30) | st.lists(labels, unique=True, min_size=1))
def test_folded_names_expand_to_themselves_in_order(given_names: list[str]) -> None:
    assert names(parse_nodes(fold_names(given_names))) == given_names


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 300), st.integers(1, 6))
def test_a_row_of_counted_names_folds_into_one_range(start: int, count: int, width: int) -> None:
    row = [f"gpu{number:0{width}d}" for number in range(start, start + count)]
    folded = fold_names(row)
    assert names(parse_nodes(folded)) == row
    assert folded.count("-") <= 2  # one range, or two where the padding runs out
