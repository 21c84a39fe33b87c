"""Host patterns: what they mean is what OpenSSH means, and how long it takes does not depend on who wrote them."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest

from asyncdeploy.connect.ssh.config import patterns
from asyncdeploy.connect.ssh.config.patterns import LONGEST, match_pattern, match_patterns, split_patterns
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.known_hosts.entries import KnownHosts
from asyncdeploy.connect.ssh.known_hosts.files import KnownFiles
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from tests.support.beds.beside_ssh import BesideSsh
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYvxkyeZFQkV9D4i7TROiFK/OsxcP2nx4jIkiHJU35T"
NAME = "a" * 253  # as long as a host's name may be


def reference(pattern: str, name: str) -> bool:
    """What a pattern means, by every way of reading it."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(reference(pattern[1:], name[start:]) for start in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and reference(pattern[1:], name[1:])


def test_a_pattern_means_what_every_way_of_reading_it_says() -> None:
    dice = random.Random(21)
    for _ in range(20_000):
        pattern = "".join(dice.choices("ab?*", k=dice.randint(1, 8)))
        name = "".join(dice.choices("ab", k=dice.randint(1, 8)))
        assert match_pattern(pattern, name) is reference(pattern, name), (pattern, name)


@pytest.mark.parametrize(
    "hosts,means",
    [
        ("*.lab,!gpu-9.lab", True),
        ("!gpu-1.lab,*.lab", False),
        ("*.lab,!*", False),
        ("!other", False),
        ("GPU-?.Lab", True),
        ("gpu-1.lab.*", False),
        ("[gpu-1.lab]", False),
    ],
)
def test_a_negated_pattern_wins_wherever_it_stands(hosts: str, means: bool) -> None:
    assert match_patterns(split_patterns(hosts), "gpu-1.lab") is means


def steps_of(work: Callable[[], Any]) -> int:
    """How many lines of the matcher run."""
    count = 0

    def look(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return look if frame.f_code.co_filename == patterns.__file__ else None

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("piece", ["*a", "*a?", "*?", "**", "*aaaaaaaa?", "?a*", "*a*b"])
def test_k21_a_pattern_takes_no_more_steps_than_it_and_the_name_have_letters(piece: str) -> None:
    for pattern in (piece * 200, f"{piece * 200}b", f"b{piece * 200}", f"*{'a?' * 120}b*", f"*{'?' * LONGEST}*"):
        text = pattern[:LONGEST]
        assert steps_of(lambda text=text: match_pattern(text, NAME)) <= 20 * (len(NAME) + len(pattern))


async def test_k21_a_line_that_means_nobody_for_its_length_is_skipped_as_in_ssh(
    start_sshd: StartSshd, beside: BesideSsh
) -> None:
    sshd = start_sshd("machine")
    node, known = sshd.node, " ".join(sshd.public_key("ed25519").read_text().split()[:2])
    for hosts in (f"*,{'*a' * 600}", f"[127.0.0.1]:{node.port},{'a' * 2000}"):
        beside.write(sshd)
        beside.known.write_text(f"{hosts} {known}\n")
        assert not await beside.ssh_gets_in(HostKeys.strict())
        assert await beside.refusal(HostKeys.strict()) is not None
        assert any("1022 characters" in note for note in beside.notes)


@pytest.mark.parametrize(
    "hosts",
    [
        "*" + "*a" * 500_000,
        ",".join(["*a*b*c"] * 150_000),
        ",".join(["?27*0?1"] * 130_000),
        "\n".join([f"*a*b*{'c*' * 400} {KEY}"] * 1_200),
        ",".join(f"host-{number}" for number in range(90_000)),
    ],
    ids=["one pattern", "short ones", "almost right ones", "long ones", "names"],
)
async def test_k21_a_megabyte_of_patterns_is_read_and_the_node_is_found(
    start_sshd: StartSshd, beside: BesideSsh, hosts: str
) -> None:
    sshd = start_sshd("machine")
    where, key = f"[127.0.0.1]:{sshd.node.port}", sshd.public_key("ed25519").read_text()
    beside.write(sshd)
    beside.known.write_text(f"{hosts} {KEY}\n{where} {key}")
    with anyio.fail_after(60):
        assert await beside.refusal(HostKeys.accept_new()) is None


async def test_k21_nothing_is_looked_for_on_the_loop(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"*.lab,?ox {KEY}\n|1|AAECAwQFBgcICQoLDA0ODxAREhM=|BCpoVpyfuJAhnWc0dKj8jIJ4bzs= {KEY}\n")
    files = KnownFiles(lambda _trust: [known])
    who = Identity("box", "198.51.100.7", 2222, ("gate",))
    await files.load(who)
    (read,) = files._known(who)
    assert all(map(read.is_found, who.every_name))
    assert [entry.key for entry in files.of(who).keys]


def test_a_file_of_more_than_a_line_each_is_read_in_one_go() -> None:
    text = "".join(f"host-{number}.lab,10.0.{number >> 8}.{number & 255} {KEY}\n" for number in range(10_000))
    read = KnownHosts.parse(text, "known_hosts")
    assert [entry.source for entry in read.find("HOST-777.lab")] == ["known_hosts:778"]
    assert read.bad == []
