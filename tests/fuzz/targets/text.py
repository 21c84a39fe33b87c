"""Patterns of files beside git, words through real shells, and texts made harmless."""

import atexit
import functools
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from asyncdeploy.node_side.shell_text import direct
from asyncdeploy.push.bundle.file_list import read_patterns
from asyncdeploy.values.command import Command
from asyncdeploy.values.patterns import Patterns
from asyncdeploy.values.words import clean, is_harmless, last_lines, one_line, shown_line
from tests.fuzz.dough import Dough, text_of
from tests.fuzz.target import target
from tests.support.tools import find

PATTERN_WORDS = (
    *(
        b"*",
        b"**",
        b"/",
        b"?",
        b"[",
        b"]",
        b"!",
        b"#",
        b"\\",
        b"a",
        b"b",
        b".",
        b" ",
        b"\n",
        b"-",
        b"[a-b]",
        b"[!a]",
        b"^",
    ),
    *(b"**/", b"/**", b"[[:alpha:]]", b"*a*a*a*a*a*a*a*a", b"**/a/" * 6, b"[z-a]", b"\t", b"\r", b"[]a]", b"\xc3\xa9"),
)
NAMES = (
    *(
        "a",
        "b",
        "ab",
        "aa",
        "a/b",
        "a/a/b",
        "b/a",
        "a.b",
        "b/ab/a",
        "!a",
        "#a",
        "a b",
        "-",
        "a-b",
        "é",
        "[a]",
        "\\a",
        "]",
    ),
    *("a/a/a/a/a/a/b", "a" * 60, "a/" * 40 + "b", ".a", "a ", "^", "ab/ba/ab"),
)


@target(*PATTERN_WORDS)
def patterns(data: bytes) -> None:
    """Whatever patterns a project has, a name is matched or not, and at once."""
    found = Patterns(text_of(data).split("\n"))
    for name in NAMES:
        found.match(name)
        found.match(name, folder=True)


GIT_S = 5


@functools.cache
def _checkout() -> Path:
    """A repository that stays for the process' whole life."""
    folder = tempfile.mkdtemp(prefix="patterns-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    return Path(folder)


@target(*PATTERN_WORDS, slow=True)
def patterns_as_git(data: bytes) -> None:
    """A file of them means what git means by it."""
    if find("git") is None or b"\0" in data:
        return
    root = _checkout()
    (root / ".gitignore").write_bytes(data)
    line = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    asked = "\0".join(name for name in NAMES if not name.endswith("/")).encode()
    try:
        done = subprocess.run(line, cwd=root, input=asked, capture_output=True, check=False, timeout=GIT_S)
    except subprocess.TimeoutExpired:
        return  # git tries every way of parting a name
    ignored = set(done.stdout.decode().split("\0")) - {""}
    found = read_patterns(root / ".gitignore")
    assert {name for name in NAMES if found.match(name)} == ignored


SHELLS = ("bash", "dash", "busybox", "zsh", "mksh", "ksh")
"""Those that may be a node's sh, each called so; fish and tcsh, as login shells, see a short fixed line only."""


@target(
    *(
        b"\xff",
        b"'",
        b'"',
        b"$HOME",
        b"`id`",
        b"\\",
        b"\n",
        b"!x",
        b"*",
        b"~",
        b"-n",
        b"%s",
        b" ",
        b"=",
        b"\t",
        b"\r",
        b"#",
    ),
    *(b"$'x'", b"\xc3\xa9", b"{a,b}", b"\x01", b"\x7f", b"''", b"-e", b"\x1b", b"=ls", b"^", b"a=b", b"&", b";"),
    slow=True,
)
def words(data: bytes) -> None:
    """An argv and variables come through every shell as they are, also behind the exec that our programs put there."""
    pieces = [piece.replace(b"\0", b"") for piece in Dough(data).pieces()][:12] or [b""]
    argv = [text_of(piece) for piece in pieces]
    value = argv[0]
    command = Command.of("/usr/bin/printf", "%s\\0", *argv)
    assert shlex.split(command.line) == ["/usr/bin/printf", "%s\\0", *argv]
    for shell in SHELLS:
        if (path := find(shell)) is None:
            continue
        env = {b"PATH": os.environb.get(b"PATH", b"/bin:/usr/bin"), b"WORD": os.fsencode(value), b"HOME": b"/nowhere"}
        line = os.fsencode(command.line)
        for text in (line, direct(line, env), line + b"; printf '%s\\0' \"$WORD\""):
            done = subprocess.run(["sh", "-c", text], executable=path, env=env, capture_output=True, check=False)
            expected = [*pieces, *([os.fsencode(value)] if text.endswith(b'"$WORD"') else [])]
            assert done.stdout == b"".join(word + b"\0" for word in expected), (shell, text, done.stderr)


@target(
    b"\x1b[31m",
    b"\x1b]52;c;",
    b"\x07",
    b"\xe2\x80\xae",
    b"\n",
    b"\r",
    b"\t",
    b"\x9b",
    b"\xff",
    b"\xf3\xa0\x80\x81",
    b"\0",
    b" ",
)
def shown_texts(data: bytes) -> None:
    """What is shown of foreign words is harmless and bounded, as bytes and as text."""
    text = text_of(data)
    for limit in (1, 20, 400):
        assert is_harmless(one_line(data, limit), limit)
        assert is_harmless(one_line(text, limit), limit)
        assert all(is_harmless(line, limit) for line in re.split("[\n\t]", clean(text, limit)))
    for said in (data, text):
        assert all(is_harmless(line) for line in re.split("[\n\t]", last_lines(said)))
    assert "\x1b" not in shown_line(text)
    coloured = shown_line(text, colours=True)
    assert not re.search(r"\x1b(?!\[[0-9;:]{0,40}m)", coloured)
    assert "\x1b" not in coloured or coloured.endswith("\x1b[0m")
