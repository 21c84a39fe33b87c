"""`check`, `init`, and what a settings file may say."""

import json
import tomllib
from collections.abc import Sequence

import attrs
import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts


def test_this_machine_is_looked_at(ad: CommandLine) -> None:
    said = ad("check")
    assert said.code == 0, said.out
    assert [line.split()[0] for line in said.out.splitlines()] == [
        "asyncdeploy",
        "asyncssh",
        "ssh",
        "agent",
        "keys",
        "git",
        "uv",
    ]
    (ad.home / ".ssh" / "id_ed25519").chmod(0o644)
    bad = ad("check")
    assert bad.code == 1
    assert "chmod 600" in bad.out


def test_nodes_are_looked_at_together(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    said = ad("check", *hosts(sshd_nodes[:2]), "--nproc-per-node", "1")
    assert said.code == 0, said.err
    assert "ok: they meet at" in said.out
    head, row, *_ = said.out.splitlines()
    assert head.split() == ["node", "rank", "node", "address", "GPUs", "driver", "clock", "disk", "tools"]
    assert row[head.index("tools") :].startswith("python 3.")
    document = json.loads(ad("check", *hosts(sshd_nodes[:2]), "--nproc-per-node", "1", "--json").out)
    assert (document["v"], document["ok"], len(document["preflight"]["nodes"])) == (1, True, 2)


def test_one_node_of_two_that_answers_is_no_unreached(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    (ad.home / ".ssh" / "known_hosts").write_text(sshd_nodes[0].known_hosts_lines)
    said = ad("check", *hosts(sshd_nodes[:2]))
    assert said.code == 1
    assert "does not take part: the host key" in said.out


def test_settings_are_written_and_can_be_used_at_once(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    (ad.folder / "train.py").write_text("print('hi')\n")
    (ad.folder / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\n[project.optional-dependencies]\ngpu = []\n'
    )
    said = ad("init", hosts(sshd_nodes)[0])
    assert said.code == 0, said.err
    text = (ad.folder / "asyncdeploy.toml").read_text()
    assert tomllib.loads(text)["launch"]["script"] == "train.py"
    assert '# extra = ["gpu"]' in text
    assert "no GPU, " in text
    uncommented = "\n".join(line.removeprefix("# ") if " = " in line else line for line in text.splitlines())
    assert tomllib.loads(uncommented)["env"]["secrets"]  # each comment is a setting that could stand
    assert ad("push").code == 0
    assert ad("init").code == 2
    assert ad("init", "--force").code == 0


@pytest.mark.parametrize(
    "text,said",
    [
        ('node = ["a"]', "unknown key: 'node'; did you mean 'nodes'?"),
        ('[env]\nextras = ["x"]', "unknown key in [env]: 'extras'; did you mean 'extra'?"),
        ('[workspace]\nexclud = "x"', "unknown key in [workspace]: 'exclud'; did you mean 'exclude'?"),
        ('[env]\ntype = "uvv"', "unknown environment: 'uvv'; did you mean 'uv'?"),
        ('[env]\nsecrets = { A = "b" }', "names of variables were expected, no values"),
        ('[env]\nsecrets = ["NOT_SET_HERE"]', "the variable NOT_SET_HERE is not set here"),
        ("accept_new = 1", "true or false was expected, got 1"),
        ("nodes = 3", "a text or a list of texts was expected, got 3"),
        ("nodes = [", "asyncdeploy.toml"),
        ('[env]\npython = "; rm"', "[env]: UvEnv python"),
    ],
)
def test_what_makes_no_sense_is_said_with_the_file(text: str, said: str, alone: CommandLine) -> None:
    (alone.folder / "asyncdeploy.toml").write_text(text)
    done = alone("deploy", "gpu01")
    assert done.code == 2
    assert str(alone.folder / "asyncdeploy.toml") in done.err or "uvv" in text
    assert said in done.err


def test_a_launchs_settings_are_checked_too(alone: CommandLine) -> None:
    (alone.folder / "asyncdeploy.toml").write_text('[launch]\nscript = "t.py"\nnproc = 8')
    assert "'nproc'; did you mean 'nproc_per_node'?" in alone("launch", "-n", "gpu01").err


def test_pyproject_may_hold_them(alone: CommandLine) -> None:
    (alone.folder / "pyproject.toml").write_text("[project]\nname = 'p'\n[tool.asyncdeploy]\nkeyy = 'x'\n")
    assert "did you mean 'key'?" in alone("push", "gpu01").err


def test_the_projects_name_in_pyproject_is_no_setting(alone: CommandLine) -> None:
    """A refused push asks for it; it hides no settings file above."""
    (alone.folder / "asyncdeploy.toml").write_text('nodes = ["nobody.invalid"]\n')
    (alone.folder / "inner").mkdir()
    (alone.folder / "inner" / "pyproject.toml").write_text("[tool.asyncdeploy]\nname = 'ours'\n")
    said = attrs.evolve(alone, folder=alone.folder / "inner")("run", "--", "true")
    assert said.code == 255
    assert "nobody.invalid" in said.err


@pytest.mark.parametrize(
    "words,environ,expected",
    [
        ((), {"ASYNCDEPLOY_NODES": "v1 v2"}, "2 nodes from ASYNCDEPLOY_NODES: v[1-2]"),
        ((), {"SLURM_JOB_NODELIST": "s[1-3]"}, "3 nodes from SLURM_JOB_NODELIST: s[1-3]"),
        ((), {"ASYNCDEPLOY_NODES": "v1", "SLURM_JOB_NODELIST": "s1"}, "1 node from ASYNCDEPLOY_NODES: v1"),
        ((), {}, "4 nodes from"),
        (("--limit", "2"), {}, None),
        (("--limit", "g[1-2]", "--exclude", "g1"), {}, None),
        (("--exclude", "g*"), {}, "leave none"),
        (("--limit", "h1"), {}, "--limit: no node is called h1"),
        (("@spare",), {}, None),
        (("@spar",), {}, "'@spar'"),
        (("--hostfile", "-"), {}, None),
        (("--hostfile", "nothing"), {}, "--hostfile nothing: No such file"),
    ],
)
def test_which_nodes(words: tuple[str, ...], environ: dict[str, str], expected: str | None, alone: CommandLine) -> None:
    """Who is meant is seen by whom a command does not reach: nothing answers here."""
    (alone.folder / "asyncdeploy.toml").write_text('nodes = "g[1-4]"\n[groups]\nspare = ["h1"]\n')
    (alone.home / ".ssh" / "config").write_text("Host *\nHostName 127.0.0.1\nPort 1\n")
    done = alone("run", *words, "--json" if expected is None else "-v", "--", "true", given="f1 slots=2\n", **environ)
    if expected is not None:
        assert expected in done.err
        return
    meant = {"--limit 2": ["g1", "g2"], "--limit g[1-2] --exclude g1": ["g2"], "@spare": ["h1"], "--hostfile -": ["f1"]}
    outcomes = done.documents[-1]["report"]["outcomes"]
    assert [outcome["node"] for outcome in outcomes] == meant[" ".join(words)]
    assert done.code == 255
