"""What is written from the verbs' own flags and shipped as files: scripts by which shells complete, pages of help.

They are written by ``python -m asyncdeploy.cli.completion``, and a test compares: printing one loads no verb. A shell
that uses a script starts no Python: runs are completed by the names of the files that remember them.
"""

from __future__ import annotations

from pathlib import Path

from asyncdeploy.cli.overview import VERBS
from asyncdeploy.cli.page import page_of
from asyncdeploy.cli.parse import build_app

FOLDER = Path(__file__).with_name("completions")
PAGES = Path(__file__).with_name("pages")
SKILL = Path(__file__).with_name("SKILL.md")
SKILL_SOURCE = Path(__file__).parent.parent.parent / "docs" / "SKILL.md"
"""A page of the docs that is shipped too."""
RUNS = '"${XDG_STATE_HOME:-$HOME/.local/state}"/asyncdeploy/runs'
PATHS = ("--config", "--hostfile", "--key", "--path", "--results", "--stdin", "--timeline", "--to")
"""Flags whose value is a path here."""
SHELLS = ("bash", "zsh", "fish")


def flags_of_verbs() -> dict[str, list[str]]:
    """Return the long flags of each verb, in the order of its help."""
    app = build_app()
    found = {}
    for name in VERBS:
        arguments = app[name].assemble_argument_collection()
        flags = [flag for argument in arguments for flag in argument.names if flag.startswith("--") and argument.parse]
        found[name] = [*flags, "--help"]
    return found


def takes_run(verb: str) -> bool:
    """Return whether a verb's first argument is a run."""
    return "RUN" in VERBS[verb].arguments


def bash() -> str:
    """Return the script for bash."""
    cases = "\n".join(f"        {verb}) words='{' '.join(flags)}' ;;" for verb, flags in flags_of_verbs().items())
    runs = "|".join(verb for verb in VERBS if takes_run(verb))
    return f"""\
# asyncdeploy for bash: eval "$(asyncdeploy completion bash)"
_asyncdeploy() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} words= each
    COMPREPLY=()
    for each in "${{COMP_WORDS[@]:0:COMP_CWORD}}"; do
        [[ $each != -- ]] || return 0
    done
    case $prev in
        {"|".join(PATHS)}) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return 0 ;;
    esac
    if ((COMP_CWORD == 1)); then
        words='{" ".join([*VERBS, "completion", "--help", "--version"])}'
    elif [[ ${{COMP_WORDS[1]}} == completion ]]; then
        words='{" ".join(SHELLS)}'
    elif [[ $cur != -* ]]; then
        case ${{COMP_WORDS[1]}} in
        {runs}) words="last $(cd {RUNS} 2>/dev/null && ls | sed -n 's/[.]json$//p')" ;;
        esac
    else
        case ${{COMP_WORDS[1]}} in
{cases}
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
complete -o default -F _asyncdeploy asyncdeploy
"""


def zsh() -> str:
    """Return the script for zsh."""
    verbs = "\n".join(f"        {_zsh_word(verb.name, verb.line)}" for verb in VERBS.values())
    cases = "\n".join(f"        {verb}) flags=({' '.join(flags)}) ;;" for verb, flags in flags_of_verbs().items())
    runs = "|".join(verb for verb in VERBS if takes_run(verb))
    return f"""\
#compdef asyncdeploy
# asyncdeploy for zsh: eval "$(asyncdeploy completion zsh)"
_asyncdeploy() {{
    local -a verbs flags runs
    verbs=(
{verbs}
    )
    (( ${{words[(I)--]}} == 0 || ${{words[(I)--]}} >= CURRENT )) || return 1
    if (( CURRENT == 2 )); then
        _describe verb verbs
        return
    fi
    case $words[CURRENT-1] in
        {"|".join(PATHS)}) _files; return ;;
    esac
    case $words[2] in
        completion) compadd {" ".join(SHELLS)}; return ;;
{cases}
    esac
    if [[ $words[CURRENT] == -* ]]; then
        compadd -- $flags
        return
    fi
    case $words[2] in
        {runs})
            runs=({RUNS}/*.json(N:t:r))
            compadd -- last $runs ;;
    esac
}}
compdef _asyncdeploy asyncdeploy
alias asyncdeploy='noglob asyncdeploy' # else zsh takes gpu[1-4] for a pattern of files, and refuses it
"""


def _zsh_word(name: str, line: str) -> str:
    text = line.replace("'", "'\\''").replace(":", "\\:")
    return f"'{name}:{text}'"


def fish() -> str:
    """Return the script for fish."""
    lines = ["# asyncdeploy for fish: asyncdeploy completion fish | source", *_FISH_RUNS, "complete -c asyncdeploy -f"]
    for verb in VERBS.values():
        text = verb.line.replace("'", "\\'")
        lines.append(f"complete -c asyncdeploy -n __fish_use_subcommand -a {verb.name} -d '{text}'")
    having: dict[str, list[str]] = {}
    for name, flags in flags_of_verbs().items():
        for flag in flags:
            having.setdefault(flag, []).append(name)
    for flag, names in having.items():
        files = " -r -F" if flag in PATHS else ""
        lines.append(f"complete -c asyncdeploy -n '{_FISH_SEEN} {' '.join(names)}' -l {flag[2:]}{files}")
    runs = " ".join(name for name in VERBS if takes_run(name))
    lines.append(f"complete -c asyncdeploy -n '{_FISH_SEEN} {runs}' -a 'last (__asyncdeploy_runs)'")
    lines.append(f"complete -c asyncdeploy -n '{_FISH_SEEN} completion' -a '{' '.join(SHELLS)}'")
    return "\n".join([*lines, ""])


_FISH_SEEN = "__fish_seen_subcommand_from"
_FISH_RUNS = (
    "function __asyncdeploy_runs",
    "    set -l state $XDG_STATE_HOME",
    '    test -n "$state"; or set state ~/.local/state',
    "    for each in $state/asyncdeploy/runs/*.json",
    "        string replace -r '.*/(.*)[.]json' '$1' $each",
    "    end",
    "end",
)


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    PAGES.mkdir(exist_ok=True)
    for shell, write in (("bash", bash), ("zsh", zsh), ("fish", fish)):
        (FOLDER / f"asyncdeploy.{shell}").write_text(write())
    SKILL.write_bytes(SKILL_SOURCE.read_bytes())
    app = build_app()
    for name in VERBS:
        (PAGES / f"{name}.txt").write_text(page_of(app, name))


if __name__ == "__main__":
    main()
