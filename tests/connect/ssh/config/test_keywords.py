"""Every keyword of ssh_config(5) is known by name, the documentation says the same, and what is honoured is tried."""

import gzip
import re
import subprocess
from pathlib import Path

import pytest

from asyncdeploy.connect.ssh.config.keywords import KEYWORDS, OLDER, Keyword
from tests.support import tools
from tests.support.places import ROOT

PAGE = ROOT / "docs" / "ssh.md"
MAN = Path("/usr/share/man/man5/ssh_config.5.gz")
# ssh_config(5) of OpenSSH 10.5, which an older ssh here does not know; what it has besides is in the manual here.
NEWER = "ChannelTimeout ObscureKeystrokeTiming RefuseConnection Tag VersionAddendum WarnWeakCrypto"
# Of vendors: Apple, Red Hat.
VENDORS = "UseKeychain RSAMinSize"
# Honoured because ssh has followed it before we are told anything, and not known to every ssh.
BY_NEWER_SSH = {"Tag", "RefuseConnection"}


def rows() -> list[tuple[str, str, str]]:
    """The tables of the documentation: keyword, effect, why."""
    found = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return [(word, effect, why.strip()) for word, effect, why in found]


def test_the_documentation_says_what_the_code_goes_by() -> None:
    assert rows() == [(word.name, word.effect, word.why) for word in KEYWORDS.values()]
    page = PAGE.read_text()
    for old, new in OLDER.items():
        assert f"`{old}` (`{new}`)" in page


def test_what_ssh_prints_is_in_the_table() -> None:
    tools.need("ssh")
    command = ["ssh", "-F", "none", "-G", "x"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
    words = {line.split()[0].lower() for line in printed.splitlines()}
    older = {name.lower() for name in OLDER}
    assert len(words) > 60
    assert not words - KEYWORDS.keys() - older


def test_what_the_manual_lists_is_in_the_table() -> None:
    if not MAN.exists():
        pytest.skip("no manual pages here")
    words = re.findall(r"^\.It Cm ([A-Z]\w+)", gzip.decompress(MAN.read_bytes()).decode(), re.MULTILINE)
    assert len(words) > 90
    assert not [word for word in words if word.lower() not in KEYWORDS]


@pytest.mark.parametrize("word", f"{NEWER} {VENDORS}".split())
def test_what_other_versions_know_is_in_the_table(word: str) -> None:
    assert word.lower() in KEYWORDS or word in OLDER


@pytest.mark.parametrize("word", KEYWORDS.values(), ids=lambda word: word.name)
def test_a_word_that_is_not_honoured_says_why(word: Keyword) -> None:
    assert word.why or word.effect == "honoured"
    assert "|" not in word.why


def test_each_word_that_is_honoured_is_tried_beside_ssh() -> None:
    tests = [path for path in Path(__file__).parent.parent.rglob("test_*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text() for path in tests if "beside" in path.read_text())
    honoured = {word.name for word in KEYWORDS.values() if word.effect == "honoured"} - BY_NEWER_SSH
    assert not {word for word in honoured if not re.search(rf"{word} \S", text)}
