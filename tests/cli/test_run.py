"""`asyncdeploy run`: results on stdout, words on stderr, exit statuses that scripts can rely on."""

import socket
import subprocess
from collections.abc import Sequence

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts, names


def dead_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_what_nodes_print_alike_stands_once_with_all_their_names(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    said = ad("run", *hosts(sshd_nodes), "--", "uname", "-s")
    assert said.code == 0, said.err
    assert said.out.endswith("(4): Linux\n")
    assert len(said.out.splitlines()) == 1


def test_uname_on_eight_with_one_dead_is_few_lines(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """A newcomer's first worst day: what there is, then who is missing and why."""
    said = ad("run", *hosts(sshd_nodes[:3]), f"root@127.0.0.1:{dead_port()}", "--", "uname")
    assert said.code == 1
    assert said.out.endswith("(3): Linux\n")
    assert "1 of 4 nodes failed" in said.err
    assert "refuses connections" in said.err
    assert len(said.out.splitlines() + said.err.splitlines()) <= 6, said.err


def test_one_word_is_a_shell_line_several_are_exactly_that_argv(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    host = hosts(sshd_nodes)[0]
    assert ad("run", host, "--bare", "--", "printf '%s\\n' a  b | tr a-z A-Z").out == "A\nB\n"
    assert ad("run", host, "--bare", "--", "printf", "<%s>\n", "a  b", "$HOME").out == "<a  b>\n<$HOME>\n"


def test_stderr_of_a_node_goes_to_ours(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    said = ad("run", hosts(sshd_nodes)[0], "-q", "--", "echo out; echo err >&2")
    name = names(sshd_nodes)[0]
    assert said.out == f"{name}: out\n"
    assert said.err == f"{name}: err\n"


@pytest.mark.parametrize(
    "line,code",
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ('test "$(basename "$(dirname ~)")" = node-1 && exit 9; exit 0', 9),
        ('test "$(basename "$(dirname ~)")" = node-1 && exit 9; exit 8', 1),
    ],
    ids=["all well", "all alike", "all by a signal", "one alone", "not alike"],
)
def test_the_exit_status(line: str, code: int, ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    said = ad("run", *hosts(sshd_nodes[:2]), "--", line)
    assert said.code == code, said.err


def test_a_timeout_is_124(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    said = ad("run", hosts(sshd_nodes)[0], "--timeout", "0.5", "--", "echo so far; sleep 60")
    assert said.code == 124
    assert "so far" in said.out


def test_no_node_at_all_is_255(ad: CommandLine) -> None:
    said = ad("run", f"root@127.0.0.1:{dead_port()}", "--", "true")
    assert said.code == 255
    assert "refuses connections" in said.err


@pytest.mark.parametrize(
    "words,text",
    [
        (("run",), "a command was expected behind --"),
        (("run", "gpu[01-", "--", "true"), "gpu[01-"),
        (("run", "--nope", "--", "true"), "--nope"),
        (("deploy", "gpu01", "--", "true"), "takes nothing behind --"),
        (("wait", "train", "gpu01"), "not expected: gpu01. Usage: asyncdeploy wait RUN. --nodes names nodes."),
        (("rentals", "foo bar"), "not expected: 'foo bar'. Usage: asyncdeploy rentals."),
        (("rnu",), '"run"'),
        (("run", "@all", "--", "true"), "@all"),
        (("run", "a", "--secret", "TOKEN=1", "--", "true"), "no value"),
        (("run", "a", "--set", "TOKEN", "--", "true"), "NAME=VALUE"),
    ],
)
def test_usage_is_2_and_says_what_was_expected(words: Sequence[str], text: str, alone: CommandLine) -> None:
    said = alone(*words)
    assert said.code == 2
    assert text in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_for_programs(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """NDJSON: every event, each with its version, the result last."""
    said = ad("run", *hosts(sshd_nodes[:2]), "--json", "--", "echo hi")
    assert said.err == ""
    assert said.code == 0
    assert {document["v"] for document in said.documents} == {1}
    assert [d["text"] for d in said.documents if d["event"] == "OutputLine"] == ["hi", "hi"]
    last = said.documents[-1]
    assert (last["event"], last["verb"], last["ok"], last["exit"]) == ("Result", "run", True, 0)
    assert len(last["report"]["outcomes"]) == 2


def test_a_secret_shows_nowhere(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    words = ("run", hosts(sshd_nodes)[0], "-v", "--secret", "TOKEN", "--", 'test "${#TOKEN}" = 11; echo $?')
    said = ad(*words, TOKEN="canary-4711")
    assert said.out.endswith(": 0\n")
    assert "canary" not in said.out + said.err
    assert "canary" not in ad(*words[:2], "--json", *words[3:], TOKEN="canary-4711").out


def test_an_unknown_host_key_is_accepted_by_a_flag(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """The first own host: refused with the word that lets it in, then let in and remembered."""
    known_hosts, host = ad.home / ".ssh" / "known_hosts", hosts(sshd_nodes)[0]
    known_hosts.unlink()
    refused = ad("run", host, "--", "true")
    assert refused.code == 255
    assert refused.err.count("--accept-new") == 1
    assert ad("run", host, "--accept-new", "--", "true").code == 0
    assert ad("run", host, "--", "true").code == 0


def test_the_reader_may_leave(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """As `| head` does: what runs is ended, and no traceback is left."""
    line = " ".join(ad.words("run", hosts(sshd_nodes)[0], "--", "'while echo y; do sleep 0.05; done'"))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -n 2; exit ${{PIPESTATUS[0]}}"],
        env=ad.environ(),
        cwd=ad.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert done.returncode == 141


def test_a_time_is_written_as_elsewhere(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    host = hosts(sshd_nodes)[0]
    assert ad("run", host, "--timeout", "5m", "--", "true").code == 0
    assert ad("run", host, "--timeout", "0.5s", "--", "sleep 600").code == 124
    wrong = ad("run", host, "--timeout", "soon", "--", "true")
    assert (wrong.code, wrong.err) == (
        2,
        "error: --timeout: a time such as 90s, 10m, 2h or 1d was expected, got 'soon'\n",
    )
