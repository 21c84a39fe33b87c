"""What a person sees on a terminal: a table while nodes are made ready; colours, where they are wanted."""

import re
from collections.abc import Sequence

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts, names
from tests.support.people.terminal import terminal


def test_a_deploy_is_a_table(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    (ad.folder / "a.txt").write_text("a\n")
    with terminal(ad, "deploy", *hosts(sshd_nodes[:2]), "--env", "system") as window:
        assert window.ended() == 0
        screen = window.screen()
    assert "probe" in screen
    assert all(name in screen for name in names(sshd_nodes[:2]))
    assert "2 of 2 nodes are ready" in screen


def test_a_jump_host_is_no_node_of_the_table(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """It is heard of first; ranks and the count are those of the nodes, in the order in which they were named."""
    (ad.folder / "a.txt").write_text("a\n")
    gate, *behind = hosts(sshd_nodes[:3])
    with terminal(ad, "deploy", *behind, "-J", gate, "--accept-new", "--env", "system") as window:
        assert window.ended() == 0
        screen = window.screen()
    assert "2 nodes, 2 pushed" in screen
    bastion, *nodes = names(sshd_nodes[:3])
    rows = {line.split()[0]: line.split()[1] for line in screen.splitlines() if re.match(r" +\d  127", line)}
    assert rows == {"0": nodes[0], "1": nodes[1]}
    assert re.search(rf"^ +{bastion} ", screen, re.MULTILINE)


def test_colours_of_a_node_pass_where_they_are_wanted_and_nothing_else_does(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    line = r"printf '\033[31mred\033[0m\033]0;title\007\033[2J\n'"
    words = ("run", hosts(sshd_nodes)[0], "--bare", "--", line)
    plain = ad(*words).out
    assert "\x1b" not in plain
    assert "red" in plain
    coloured = ad(*words, FORCE_COLOR="1").out
    assert "\x1b[31mred" in coloured
    assert "\x1b]" not in coloured
    assert "\x1b[2J" not in coloured
    assert "\x1b" not in ad(*words, FORCE_COLOR="1", NO_COLOR="1").out


def test_letters_that_a_stream_cannot_write_end_nobody(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    words = ("run", hosts(sshd_nodes)[0], "--bare", "--", r"printf '\303\274\n'")
    assert ad(*words, PYTHONIOENCODING="ascii").out == "\\xfc\n"
    assert ad(*words).out == "\u00fc\n"
