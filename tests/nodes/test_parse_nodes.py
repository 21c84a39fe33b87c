"""Many nodes at once: their order, ranges, defaults, twins."""

import itertools
import re
from pathlib import Path

import pytest

from asyncdeploy.nodes.parse import MAX_NODES, Node, parse_nodes


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


@pytest.mark.parametrize(
    "text,expected",
    [
        ("h", ["h"]),
        ("a b,c\n d\t,,e,", ["a", "b", "c", "d", "e"]),
        ("gpu[01-03]", ["gpu01", "gpu02", "gpu03"]),
        ("gpu[9-11]", ["gpu9", "gpu10", "gpu11"]),
        ("gpu[008-010,7]", ["gpu008", "gpu009", "gpu010", "gpu7"]),
        ("gpu[01-03,07],x", ["gpu01", "gpu02", "gpu03", "gpu07", "x"]),
        ("gpu[ 3, 1-2 ]", ["gpu3", "gpu1", "gpu2"]),
        ("r[1-2]-n[0-1].lan", ["r1-n0.lan", "r1-n1.lan", "r2-n0.lan", "r2-n1.lan"]),
        ("gpu-[a-c,g]", ["gpu-a", "gpu-b", "gpu-c", "gpu-g"]),
        ("10.0.0.[9-10]", ["10.0.0.9", "10.0.0.10"]),
        ("root@h:[2200-2202]", ["h-2200", "h-2201", "h-2202"]),
        ("root@[::1]:22", ["__1"]),
        ("root@[10.0.0.1]:22,[10.0.0.2]:23", ["10.0.0.1", "10.0.0.2-23"]),
        ("root@[::1]:22,[::2]:[22-23] ::3", ["__1", "__2", "__2-23", "__3"]),
        ("fd00::[8-9]", ["fd00__8", "fd00__9"]),
        ("ssh root@h -p 2222\nssh root@g -J a,b\nx[1-2]", ["h-2222", "g", "x1", "x2"]),
    ],
)
def test_parse_nodes_keeps_the_order_which_is_the_rank(text: str, expected: list[str]) -> None:
    assert names(parse_nodes(text)) == expected


def test_a_range_keeps_user_and_port() -> None:
    assert parse_nodes("root@gpu[01-02]:2222") == (
        Node("gpu01", user="root", port=2222),
        Node("gpu02", user="root", port=2222),
    )


def test_parse_nodes_takes_texts_and_nodes_mixed() -> None:
    known = Node("z", slots=8)
    assert names(parse_nodes(iter(["b[1-2],a", known, "ssh root@c -p 2222"]))) == ["b1", "b2", "a", "z", "c-2222"]
    assert parse_nodes(known) == (known,)
    assert parse_nodes([known])[0] is known


def test_defaults_fill_only_what_a_node_lacks() -> None:
    own = Node("b", user="bob", port=22, key_path="k", jump="own", name="bee")
    first, second, third = parse_nodes(
        ["a", own, Node("c", name="sea")], user="root", port=2222, key_path="~/k", jump="x,y"
    )
    assert first == Node("a", user="root", port=2222, key_path="~/k", jump="x,y")
    assert first.name == "a-2222"
    assert second == own
    assert (third.name, third.port) == ("sea", 2222)


@pytest.mark.parametrize("default", [{"user": "-x"}, {"port": 0}, {"key_path": ""}, {"jump": "a b"}, {"jump": "h"}])
def test_a_bad_default_is_refused(default: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"Node {next(iter(default))}"):
        parse_nodes("h", **default)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "nodes,expected",
    [
        ("a b a", "two nodes are called 'a' (node 0 and node 2)"),
        ("gpu[1-3,2]", "called 'gpu2'"),
        ("root@h bob@h", "called 'h'"),
        ([Node("h", name="a"), Node("h", name="b")], "'a' (node 0) and 'b' (node 1) are the same user, host and port"),
        ([Node("H.lan.", name="a"), Node("h.LAN", name="b")], "are the same user, host and port"),
        ([Node("::1", name="a"), Node("0::0:1", name="b")], "are the same user, host and port"),
    ],
)
def test_twins_are_refused_by_name(nodes: str | list[Node], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_nodes(nodes)


def test_one_private_address_behind_two_gates_is_two_machines() -> None:
    assert len(parse_nodes([Node("10.0.0.5", name="a", jump="g1"), Node("10.0.0.5", name="b", jump="g2")])) == 2


@pytest.mark.parametrize(
    "text,expected",
    [
        ("gpu[1-", "partner"),
        ("gpu1-3]", "partner"),
        ("gpu[[1-3]]", "partner"),
        ("[fd00::[1-3]]:22", "partner"),
        ("gpu[]", "numbers, letters"),
        ("gpu[1,,2]", "numbers, letters"),
        ("gpu[1-]", "numbers, letters"),
        ("gpu[-3]", "numbers, letters"),
        ("gpu[1-2-3]", "numbers, letters"),
        ("gpu[1-c]", "numbers, letters"),
        ("gpu[ab-ad]", "numbers, letters"),
        ("gpu[3-1]", "backwards"),
        ("gpu[c-a]", "backwards"),
        ("gpu[08-010]", "unequal width"),
        ("gpu[A-c]", "capital"),
        ("gpu[1-9999999999999999999]", "numbers, letters"),
        ("gpu[1-999999999999999999]", "more names"),
        (f"gpu[1-{MAX_NODES + 1}]", "more names"),
        ("[1-9]" * 4_000, "more names"),
        ("", "at least one node"),
        (" ,\n", "at least one node"),
        ("a -p 22", "'-p'"),
    ],
)
def test_parse_nodes_refuses_what_is_no_list(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        parse_nodes(text)
    assert text in expected or repr(text)[:10] in str(caught.value) or "'-p'" in str(caught.value)


@pytest.mark.parametrize("nodes", [[], 5, None, [5], [None], [b"h"], b"h", Path("hosts"), [["a"]], {"a", "b"}])
def test_parse_nodes_refuses_other_things(nodes: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_nodes(nodes)  # type: ignore[arg-type]


def test_the_number_of_nodes_is_bounded() -> None:
    assert len(parse_nodes(f"gpu[1-{MAX_NODES}]")) == MAX_NODES
    with pytest.raises(ValueError, match="more names than the 0"):
        parse_nodes([f"gpu[1-{MAX_NODES}]", "one-more"])
    with pytest.raises(ValueError, match=f"at most {MAX_NODES}"):
        parse_nodes(Node(f"h{number}") for number in itertools.count())
