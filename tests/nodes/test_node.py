"""A node as data: what its fields refuse, its name, its jump hosts, its travels."""

import json
import pickle
import shlex
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.nodes.parse import MAX_HOPS, Node

BAD = [
    *("", "-oProxyCommand=x", "a b", " a", "a\t", "a\n", "a\nb", "a\x00", "a\x1b[31m", "a\x7f", "a\x85"),
    *(f"a{char}b" for char in "\"'`$;|&<>(){}*?!~#/\\=,^"),
    *("gpü", "\uff41", "a\u202eb", "a\u00a0b"),
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("field", ["host", "user", "name", "address", "jump"])
def test_h5_characters_that_a_shell_or_ssh_could_take_for_more_are_refused(field: str, bad: str) -> None:
    if field == "jump" and bad in ("a,b", " a", "a\t", "a\n"):
        return  # a list of hops, and gaps around one, are fine there
    with pytest.raises(ValueError, match=f"Node {field}") as caught:
        Node(**{"host": "h", field: bad})
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    "field,bad",
    [
        *[("port", bad) for bad in (0, -1, 65536, "22", 22.0, True)],
        *[("slots", bad) for bad in (0, -1, "8", False)],
        *[("name", bad) for bad in (".", "..", "a:b", "a" * 201, 5)],
        *[("host", bad) for bad in (None, 5, b"h", "..", "a" * 254)],
        *[("user", bad) for bad in (5, "a" * 129)],
        *[("key_path", bad) for bad in ("", "a\nb", "a\x00", 5, b"k", "~nobody-has-this-name/k")],
        *[("jump", bad) for bad in (5, "", ["a"])],
        *[("slurm_job", bad) for bad in (0, -1, "42", True, 2**32 + 1)],
    ],
)
def test_node_refuses_a_bad_value_by_its_fields_name(field: str, bad: object) -> None:
    with pytest.raises(ValueError, match=f"Node {field}") as caught:
        Node(**{"host": "h", field: bad})  # type: ignore[arg-type]
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    "node,name",
    [
        (Node("h"), "h"),
        (Node("h", port=22), "h"),
        (Node("h", port=2222), "h-2222"),
        (Node("h", port=2222, name="gpu-a"), "gpu-a"),
        (Node("::1", port=2222), "__1-2222"),
        (Node("fe80::1%eth0"), "fe80__1-eth0"),
    ],
)
def test_the_name_is_derived_from_host_and_port(node: Node, name: str) -> None:
    assert node.name == name


def test_a_long_host_needs_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"Node name: .*200"):
        Node("a" * 201)
    assert Node("a" * 201, name="a").name == "a"


def test_several_hops_are_nested_so_that_the_innermost_is_the_first() -> None:
    node = Node.parse("ssh -J me@a:2222,ssh://b,[::1]:22 root@h")
    assert node.jump == Node("::1", port=22, jump=Node("b", jump=Node("a", user="me", port=2222)))
    assert Node("h", jump="a,b").jump == Node("b", jump="a")
    assert Node("h", jump=Node("b", jump=Node("a"))) == Node("h", jump="a, b")
    assert Node.parse("ssh -o ProxyJump=a,b h").jump == Node("b", jump="a")


def test_hops_are_bounded_and_never_the_node_itself() -> None:
    hops = ",".join(f"j{number}" for number in range(MAX_HOPS))
    assert Node("h", jump=hops).jump is not None
    with pytest.raises(ValueError, match=f"at most {MAX_HOPS} hops"):
        Node("h", jump=f"{hops},one-more")
    with pytest.raises(ValueError, match="another machine"):
        Node("h", user="root", jump="a,root@H,b")


def test_the_home_of_a_key_is_the_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Node("h", key_path="~/.ssh/k").key_path == tmp_path / ".ssh/k"
    assert Node("h", key_path=Path("~/.ssh/k")).key_path == tmp_path / ".ssh/k"
    assert Node("h", key_path="k~").key_path == Path("k~")


labels = st.from_regex(r"[a-z_]([a-z0-9._-]{0,20}[a-z_])?", fullmatch=True)
hosts = labels | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
users = st.none() | st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,20}(@[a-z.]{1,9})?", fullmatch=True)
ports = st.none() | st.integers(1, 65535)
keys = st.none() | st.from_regex(r"[a-z /.']{1,20}", fullmatch=True).map(lambda text: f"/{text}")
slots = st.none() | st.integers(1, 99)
nodes_alone = st.builds(
    Node, hosts, user=users, port=ports, name=st.none() | labels, address=st.none() | hosts, slots=slots, key_path=keys
)
all_nodes = st.builds(
    lambda node, gate: attrs.evolve(node, jump=gate), nodes_alone, st.none() | st.just(Node("the-gate", jump="first"))
)


@settings(deadline=None)
@given(all_nodes)
def test_a_node_travels_whole(node: Node) -> None:
    plain = node.to_dict()
    assert None not in plain.values()
    for copy in (Node.from_dict(json.loads(json.dumps(plain))), pickle.loads(pickle.dumps(node)), attrs.evolve(node)):
        assert copy == node
        assert hash(copy) == hash(node)
    assert eval(repr(node), {"Node": Node}) == node


@settings(deadline=None)
@given(nodes_alone)
def test_what_ssh_would_be_told_reads_back_as_the_node(node: Node) -> None:
    host = f"[{node.host}]" if ":" in node.host else node.host
    login = f"{node.user}@{host}" if node.user else host
    wanted = Node(node.host, user=node.user, port=node.port)
    assert Node.parse(f"{login}:{node.port}" if node.port else login) == wanted
    bare = login.replace("[", "").replace("]", "")
    options = (["-p", str(node.port)] if node.port else []) + (["-i", str(node.key_path)] if node.key_path else [])
    with_key = attrs.evolve(wanted, key_path=node.key_path)
    assert Node.parse(shlex.join(["ssh", *options, bare])) == with_key
    assert Node.parse(shlex.join(["ssh", bare, *options])) == with_key


def test_a_node_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Node("h").host = "other"  # type: ignore[misc]


def test_from_dict_refuses_what_to_dict_never_made() -> None:
    deep: dict[str, object] = {"host": "h"}
    for _ in range(100_000):
        deep = {"host": "h", "jump": deep}
    for data in (
        [],
        "h",
        {},
        {"host": 5},
        {"host": "h", "color": "red"},
        {"host": "h", "jump": "a"},
        {"host": "-h"},
        deep,
    ):
        with pytest.raises(ValueError, match=r"Node|host|expected"):
            Node.from_dict(data)
    while "jump" in deep:  # so that freeing it does not recurse 100,000 deep
        deep = deep.pop("jump")  # type: ignore[assignment]
