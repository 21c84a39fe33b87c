"""Who: how nodes are written, what is refused, and that nothing is lost on the way (ring 1)."""

import itertools
import json
import pickle
import re
import shlex
import subprocess
import warnings
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdeploy.nodes.parse import MAX_HOPS, MAX_NODES, Node, NodeNote, fold_names, parse_nodes, read_hostfile
from tests.support.tools import need

HOME = Path("~").expanduser()


# What people write ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,node",
    [
        ("gpu-a", Node("gpu-a")),
        ("  gpu-a\r\n", Node("gpu-a")),
        ("h:2222", Node("h", port=2222)),
        ("root@h", Node("h", user="root")),
        ("root@h:22", Node("h", user="root", port=22)),
        ("root@10.0.0.7:41234", Node("10.0.0.7", user="root", port=41234)),
        (
            "ec2-user@ec2-3-8-1-2.eu-west-2.compute.amazonaws.com",
            Node("ec2-3-8-1-2.eu-west-2.compute.amazonaws.com", user="ec2-user"),
        ),
        ("ana@contoso.com@10.11.12.13", Node("10.11.12.13", user="ana@contoso.com")),
        ("::1", Node("::1")),
        ("root@::1", Node("::1", user="root")),
        ("fe80::1%eth0", Node("fe80::1%eth0")),
        ("[::1]", Node("::1")),
        ("root@[::1]:22", Node("::1", user="root", port=22)),
        ("root@[fe80::1%eth0]:2222", Node("fe80::1%eth0", user="root", port=2222)),
        ("ssh://h", Node("h")),
        ("ssh://u@h:22", Node("h", user="u", port=22)),
        ("SSH://u@h:22/", Node("h", user="u", port=22)),
        ("ssh://[::1]:22", Node("::1", port=22)),
        ("ssh://u@[fe80::1%25eth0]:22", Node("fe80::1%eth0", user="u", port=22)),
        ("ssh://ana%40contoso.com@h", Node("h", user="ana@contoso.com")),
        ("ssh://root@ssh5.vast.ai:12345", Node("ssh5.vast.ai", user="root", port=12345)),
    ],
)
def test_parse_reads_every_form_of_an_address(text: str, node: Node) -> None:
    assert Node.parse(text) == node


PASTED = {
    "RunPod": (
        "ssh root@38.80.152.73 -p 41234 -i ~/.ssh/id_ed25519",
        "root",
        "38.80.152.73",
        41234,
        "~/.ssh/id_ed25519",
    ),
    "Vast": ("ssh -p 41234 root@ssh5.vast.ai -L 8080:localhost:8080", "root", "ssh5.vast.ai", 41234, None),
    "Vast, direct": ("ssh -p 20123 root@142.114.29.158 -L 8080:localhost:8080", "root", "142.114.29.158", 20123, None),
    "Lambda": ("ssh ubuntu@192.222.52.1", "ubuntu", "192.222.52.1", None, None),
    "Lambda, key": (
        "ssh -i '~/.ssh/lambda key.pem' ubuntu@192.222.52.1",
        "ubuntu",
        "192.222.52.1",
        None,
        "~/.ssh/lambda key.pem",
    ),
    "AWS": (
        'ssh -i "key.pem" ec2-user@ec2-3-8-1-2.compute-1.amazonaws.com',
        "ec2-user",
        "ec2-3-8-1-2.compute-1.amazonaws.com",
        None,
        "key.pem",
    ),
    "Azure": ("ssh -i ~/.ssh/vm.pem azureuser@20.1.2.3", "azureuser", "20.1.2.3", None, "~/.ssh/vm.pem"),
    "Entra ID": ("ssh -l ana@contoso.com 10.11.12.13", "ana@contoso.com", "10.11.12.13", None, None),
    "Paperspace": ("ssh paperspace@184.105.1.2", "paperspace", "184.105.1.2", None, None),
    "Jarvislabs": (
        "ssh -o StrictHostKeyChecking=no -p 11014 root@ssha.jarvislabs.ai",
        "root",
        "ssha.jarvislabs.ai",
        11014,
        None,
    ),
    "AutoDL": ("ssh -p 36322 root@connect.westb.seetacloud.com", "root", "connect.westb.seetacloud.com", 36322, None),
    "Lightning": ("ssh s_01hx2y3z@ssh.lightning.ai", "s_01hx2y3z", "ssh.lightning.ai", None, None),
    "options last": ("ssh h -l bob -p 22", "bob", "h", 22, None),
    "glued": ("ssh -p41234 -lbob h", "bob", "h", 41234, None),
    "cluster": ("ssh -tAp 41234 root@h -vvv", "root", "h", 41234, None),
    "-o glued": ("ssh -oPort=2200 h", None, "h", 2200, None),
    "-o": ("ssh -o Port=22 -o User=x -o IdentityFile=~/k h", "x", "h", 22, "~/k"),
    "-o, spaces": ("ssh -o 'Port 22' -o 'user = x' -o 'IdentityFile \"a b\"' h", "x", "h", 22, "a b"),
    "uri": ("ssh ssh://root@h:2222", "root", "h", 2222, None),
    "IPv6": ("ssh root@fe80::1%eth0", "root", "fe80::1%eth0", None, None),
    "the first counts": ("ssh -p 1 -o Port=2 -l a b@h -p 3", "a", "h", 1, None),
    "the user before -l": ("ssh b@h -l c", "b", "h", None, None),
    "end of options": ("ssh -p 22 -- root@h", "root", "h", 22, None),
    "two lines": ("ssh root@h \\\n  -p 2222", "root", "h", 2222, None),
    "prompt and comment": ("$ ssh root@h -p 2222   # my box", "root", "h", 2222, None),
    "no key": ("ssh -o IdentityFile=none -J none h", None, "h", None, None),
    "no proxy": ("ssh -o ProxyCommand=none h", None, "h", None, None),
}


@pytest.mark.parametrize("name", PASTED)
@pytest.mark.filterwarnings("ignore::asyncdeploy.nodes.parse.NodeNote")
def test_parse_reads_the_lines_that_providers_show(name: str) -> None:
    line, user, host, port, key = PASTED[name]
    key_path = None if key is None else Path(key.replace("~", str(HOME)))
    assert Node.parse(line) == Node(host, user=user, port=port, key_path=key_path)
    assert parse_nodes([line]) == (Node.parse(line),)


@pytest.mark.parametrize("name", [name for name in PASTED if "prompt" not in name])
@pytest.mark.filterwarnings("ignore::asyncdeploy.nodes.parse.NodeNote")
def test_parse_understands_a_pasted_line_as_openssh_does(name: str) -> None:
    need("ssh")
    line = PASTED[name][0]
    words = shlex.split(line.replace("\\\n", " "))
    shown = subprocess.run(["ssh", "-G", "-F", "none", *words[1:]], capture_output=True, text=True, check=True).stdout
    asked = {key.lower(): value for key, _, value in (row.partition(" ") for row in shown.splitlines())}
    node = Node.parse(line)
    assert (asked["hostname"], asked["port"]) == (node.host, str(node.port or 22))
    assert node.user is None or asked["user"] == node.user


def test_parse_takes_a_name_and_a_key_of_its_own() -> None:
    node = Node.parse("ssh root@h -p 2222 -i other", key_path="~/mine", name="trainer")
    assert (node.name, node.key_path) == ("trainer", HOME / "mine")


# What has no effect is said ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "option", ["-L 8080:localhost:8080", "-R 1:h:2", "-D 1080", "-N", "-A", "-X", "-t", "-v", "-C", "-q"]
)
def test_options_without_a_meaning_here_are_named_in_a_note(option: str) -> None:
    with pytest.warns(NodeNote, match=re.escape(f"left out: '{option}'")):
        assert Node.parse(f"ssh {option} root@h") == Node("h", user="root")


@pytest.mark.parametrize("option", ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"])
def test_the_note_says_that_host_keys_stay_checked(option: str) -> None:
    with pytest.warns(NodeNote, match="host keys stay checked"):
        assert Node.parse(f"ssh -o {option} h") == Node("h")


def test_a_second_value_is_named_in_the_note() -> None:
    with pytest.warns(NodeNote, match="a second port, 23"):
        assert Node.parse("ssh h:22 -p 23").port == 22


@pytest.mark.parametrize("read", [Node.parse, parse_nodes, lambda line: parse_nodes([line, "x"])])
def test_a_note_points_at_the_callers_line_and_can_be_filtered(read: object) -> None:
    assert callable(read)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        read("ssh -v h")
    assert [(note.category, note.filename) for note in notes] == [(NodeNote, __file__)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NodeNote)
        read("ssh -v h")


def test_a_line_whose_options_all_count_gives_no_note() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Node.parse("ssh -p 22 -i k -J gate -l bob h")


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,expected",
    [
        ("", "host name"),
        ("a b", "one node"),
        ("a,b", "one node"),
        ("gpu[1-3]", "parse_nodes"),
        ("@h", "a user"),
        ("root@", "host name"),
        ("root:pw@h", "no password"),
        ("h:", "a port from 1 to 65535"),
        ("h:0", "from 1 to 65535"),
        ("h:65536", "from 1 to 65535"),
        ("h:ssh", "a port"),
        ("h:/data", "a port"),
        ("h:22:23", "IPv6"),
        ("[::1", "IPv6 address in brackets"),
        ("[::1]22", "IPv6 address in brackets"),
        ("[h]:22", "parse_nodes"),
        ("fe80::1%", "IPv6"),
        ("1.2.3.400", "IPv4"),
        ("010.0.0.1", "IPv4"),
        ("http://h", "ssh://"),
        ("ssh://h/home", "no path"),
        ("ssh://u;x=y@h", "login name"),
        ("ssh://%2Doo@h", "login name"),
        ("ssh -p 22", "a host"),
        ("ssh h ls -l", "run_command"),
        ("ssh h && ls", "run_command"),
        ("ssh -- h ls", "run_command"),
        ("ssh -p x h", "a port"),
        ("ssh -p", "requires argument"),
        ("ssh --port 22 h", "an option of ssh"),
        ("ssh -Z h", "an option of ssh"),
        ("ssh 'h", "no shell line"),
        ("ssh -o Port h", "Keyword=value"),
        ("ssh -F other h", "Include"),
        ("ssh -o ProxyCommand='nc %h %p' h", "use -J"),
        ("ssh -o HostName=1.2.3.4 h", "as the host"),
        ("ssh -J 'a b' h", "Node jump"),
        ("ssh -J a,,b h", "Node jump"),
        ("sshpass -p hunter2 ssh h", "one node"),
    ],
)
def test_parse_refuses_with_the_text_and_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        Node.parse(text)
    head = text.split(":pw")[0].split("hunter2")[0]
    assert str(caught.value).startswith(repr(head)[:-1])


@pytest.mark.parametrize(
    "text", ["abcd1234-64411234@ssh.runpod.io", "ssh ab-12@ssh.runpod.io -i ~/.ssh/id_ed25519", "SSH.RunPod.io."]
)
def test_runpods_proxy_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match="SSH over exposed TCP"):
        Node.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://root:hunter2@h",
        "root:hunter2@h",
        "ssh root:hunter2@h",
        "sshpass -p hunter2 ssh h",
        "ssh://u:hunter2@h/x y",
    ],
)
def test_h1_an_error_hides_a_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        Node.parse(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["é" * 100_000, "gpu[" + "x" * 100_000 + "]", "gpu[" + "1" * 100_000])
def test_an_error_repeats_only_the_start_of_a_long_text(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_nodes(text)
    assert len(str(caught.value)) < 1_000


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
    ],
)
def test_node_refuses_a_bad_value_by_its_fields_name(field: str, bad: object) -> None:
    with pytest.raises(ValueError, match=f"Node {field}") as caught:
        Node(**{"host": "h", field: bad})  # type: ignore[arg-type]
    assert "expected" in str(caught.value)


@pytest.mark.filterwarnings("ignore::asyncdeploy.nodes.parse.NodeNote")
@settings(deadline=None)
@given(
    st.text()
    | st.from_regex(r"(ssh )?[ -~]{0,40}", fullmatch=True)
    | st.from_regex(r"ssh( -[A-Za-z1-9] ?[a-z0-9:@=]*){0,3} [a-z@]+")
)
def test_parse_gives_a_clean_node_or_a_value_error(text: str) -> None:
    try:
        node = Node.parse(text)
    except ValueError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9a-fA-F:.]+(%[A-Za-z0-9._-]+)?", node.host)
    assert node.user is None or re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._@-]*", node.user)
    assert re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,199}", node.name)
    assert node.port is None or 1 <= node.port <= 65535


# Names, jump hosts, travelling -------------------------------------------------------------------


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


labels = st.from_regex(r"[a-z0-9_]([a-z0-9._-]{0,20}[a-z_])?", fullmatch=True)
hosts = labels | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
users = st.none() | st.from_regex(r"[a-z0-9_][a-z0-9._@-]{0,20}", fullmatch=True)
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


# Many nodes --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("nodes", [[], 5, None, [5], [None], [b"h"], b"h", Path("hosts"), [["a"]]])
def test_parse_nodes_refuses_other_things(nodes: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_nodes(nodes)  # type: ignore[arg-type]


def test_the_number_of_nodes_is_bounded() -> None:
    assert len(parse_nodes(f"gpu[1-{MAX_NODES}]")) == MAX_NODES
    with pytest.raises(ValueError, match="more names than the 0"):
        parse_nodes([f"gpu[1-{MAX_NODES}]", "one-more"])
    with pytest.raises(ValueError, match=f"at most {MAX_NODES}"):
        parse_nodes(Node(f"h{number}") for number in itertools.count())


# Folding -----------------------------------------------------------------------------------------


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


# Hostfiles ---------------------------------------------------------------------------------------


def hostfile(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_hostfile_as_openmpi_and_deepspeed_write_it(tmp_path: Path) -> None:
    text = "\ufeff# the fleet\r\n\r\nworker-1 slots=8\r\nroot@h:2222\tslots = 4  # half\n"
    text += "\nx[01-02] slots=2\nplain\n[::1]:22 slots=1"
    assert read_hostfile(hostfile(tmp_path, text)) == (
        Node("worker-1", slots=8),
        Node("h", user="root", port=2222, slots=4),
        Node("x01", slots=2),
        Node("x02", slots=2),
        Node("plain"),
        Node("::1", port=22, slots=1),
    )


def test_a_number_after_the_host_is_a_port_and_no_mpich_count(tmp_path: Path) -> None:
    assert read_hostfile(str(hostfile(tmp_path, "h:8\n"))) == (Node("h", port=8),)


def test_max_slots_has_no_effect_and_a_note_says_so(tmp_path: Path) -> None:
    path = hostfile(tmp_path, "a slots=2 max_slots=4\nb max-slots=4 slots=2\n")
    with pytest.warns(NodeNote, match="max_slots=4 in line 1, max-slots=4 in line 2") as notes:
        assert read_hostfile(path) == (Node("a", slots=2), Node("b", slots=2))
    assert [note.filename for note in notes] == [__file__]


@pytest.mark.parametrize(
    "text,line,expected",
    [
        ("a\nb slots=0\n", 2, "Node slots"),
        ("a slots=x\n", 1, "'host slots=8' was expected, got 'slots=x'"),
        ("a slots=2 slots=3\n", 1, "'slots=3'"),
        ("a 8\n", 1, "'8'"),
        ("\n\na gpus=8\n", 3, "'gpus=8'"),
        ("slots=8\n", 1, "host name"),
        ("ok\nroot@h:x slots=8\n", 2, "a port"),
        ("ok\nh\x0b slots=8\n", 2, "host name"),
        (b"ok\n\xff\n", 2, "utf-8"),
        ("gpu[1-20000]\n", 1, "more names"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, text: str | bytes, line: int, expected: str) -> None:
    path = hostfile(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        read_hostfile(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_host_given_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hosts: two nodes are called 'a' \(line 1 and line 3\)"):
        read_hostfile(hostfile(tmp_path, "a slots=2\n\na slots=2\n"))


@pytest.mark.parametrize("text", ["", "# nobody\n"])
def test_an_empty_hostfile_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="at least one line"):
        read_hostfile(hostfile(tmp_path, text))


def test_a_hostfile_that_is_missing_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_hostfile(tmp_path / "none")
    with pytest.raises(ValueError, match="at most 4194304 bytes"):
        read_hostfile(hostfile(tmp_path, b"#" * (4 << 20) + b"\n"))
