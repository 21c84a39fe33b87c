"""One node as people write it, what of that has no effect, and what is refused (ring 1)."""

import re
import shlex
import subprocess
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from asyncdeploy.nodes.parse import Node, NodeNote, parse_nodes
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
        ("root@[10.0.0.1]:22", Node("10.0.0.1", user="root", port=22)),
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
