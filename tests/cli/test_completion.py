"""Completion by real shells, and what a help page costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncdeploy.cli import completion
from asyncdeploy.cli.overview import VERBS
from asyncdeploy.cli.page import page_of
from asyncdeploy.cli.parse import build_app
from tests.support import tools
from tests.support.people.command_line import CommandLine
from tests.support.places import ROOT

BASH = r"""
source "$SCRIPT"
read -ra COMP_WORDS <<<"$LINE"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_asyncdeploy
printf "%s\n" "${COMPREPLY[@]}" >"$OUT"
"""
ZSH = r"""
compdef() { : }
compadd() {
    while [[ $1 == -* && $1 != -- ]]; do shift; done
    [[ $1 == -- ]] && shift
    print -rl -- "$@" >>$OUT
}
_describe() { print -rl -- "${(@P)2}" >>$OUT }
source $SCRIPT
words=(${(s: :)LINE})
CURRENT=${#words}
_asyncdeploy
"""
FISH = "source $SCRIPT; complete -C $LINE >$OUT"


def completed(shell: str, line: str, ad: CommandLine) -> list[str]:
    """What a shell offers for a line."""
    tools.need(shell)
    script, out = completion.FOLDER / f"asyncdeploy.{shell}", ad.folder / "offered"
    out.write_text("")
    program = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
    subprocess.run(
        [shell, "-c", program],
        env=ad.environ(SCRIPT=str(script), OUT=str(out), LINE=line),
        check=True,
        capture_output=True,
        text=True,
    )
    return [word.partition("\t")[0].partition(":")[0] for word in out.read_text().splitlines() if word]


def test_zsh_gives_brackets_on_as_they_are(ad: CommandLine) -> None:
    tools.need("zsh")
    typed = "eval 'asyncdeploy run gpu[1-2]'"
    program = f"compdef() {{ : }}; functions[asyncdeploy]='print -r -- $*'; source $SCRIPT; {typed}"
    script = completion.FOLDER / "asyncdeploy.zsh"
    environ = ad.environ(SCRIPT=str(script))
    done = subprocess.run(["zsh", "-fc", program], env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("run gpu[1-2]\n", "")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_what_is_shipped_is_what_the_verbs_say(shell: str, alone: CommandLine) -> None:
    """After a change of flags: python -m asyncdeploy.cli.completion."""
    written = getattr(completion, shell)()
    assert written == (completion.FOLDER / f"asyncdeploy.{shell}").read_text()
    assert alone("completion", shell).out == written


def test_the_pages_of_help_that_are_shipped_are_what_the_verbs_say(alone: CommandLine) -> None:
    app = build_app()
    pages = {name: (completion.PAGES / f"{name}.txt").read_text() for name in VERBS}
    assert pages == {name: page_of(app, name) for name in VERBS}
    assert alone("run", "-h").out == pages["run"]
    assert {path.stem for path in completion.PAGES.iterdir()} == set(VERBS)


def test_the_page_for_agents_is_that_of_the_docs(alone: CommandLine) -> None:
    text = (ROOT / "docs" / "SKILL.md").read_text()
    assert completion.SKILL.read_text() == text
    assert alone("help", "--skill").out == text


def test_every_verb_and_flag_stands_in_the_docs() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text()
    flags = completion.flags_of_verbs()
    lacking = [f"| `{name}" for name in flags if f"| `{name}" not in text]
    lacking += sorted(
        {flag for names in flags.values() for flag in names if f"`{flag}" not in text and flag != "--help"}
    )
    assert not lacking


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_shell_completes_verbs_flags_and_runs(shell: str, alone: CommandLine) -> None:
    runs = alone.home / ".local/state/asyncdeploy/runs"
    runs.mkdir(parents=True)
    (runs / "train-abcdefgh.json").write_text("{}")
    assert {"demo", "deploy"} <= set(completed(shell, "asyncdeploy de", alone))
    assert "--accept-new" in completed(shell, "asyncdeploy run --acc", alone)
    assert "train-abcdefgh" in completed(shell, "asyncdeploy logs tr", alone)
    assert "--tail" not in completed(shell, "asyncdeploy check --ta", alone)


@pytest.mark.parametrize(
    "words", [("--help",), ("--version",), ("completion", "bash"), ("run", "--help"), ("launch", "-h")]
)
def test_no_page_of_help_loads_what_connects(words: tuple[str, ...], alone: CommandLine) -> None:
    program = (
        "import sys; from asyncdeploy.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=alone.environ(), capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert done.stdout
    assert not loaded & {"asyncssh", "cryptography", "anyio", "asyncio", "asyncdeploy.connect.pool"}


def test_without_the_extra_there_is_the_demo_and_one_line(alone: CommandLine, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules.update(cyclopts=None, rich=None)\n"
        "from asyncdeploy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )

    def say(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", program, *words], env=alone.environ(), capture_output=True, text=True, check=False
        )

    assert say("--version").returncode == 0
    assert "--accept-new" in say("demo", "--help").stdout
    assert "--accept-new" in say("run", "--help").stdout
    lacking = say("run", "a", "--", "true")
    assert lacking.returncode == 1
    assert lacking.stderr == "error: `asyncdeploy run` needs cyclopts and rich: pip install 'asyncdeploy[cli]'\n"
    assert os.sep not in lacking.stdout
