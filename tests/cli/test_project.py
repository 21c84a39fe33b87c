"""`push`, `deploy`, `start`, `clean`: a project on nodes, by what asyncdeploy.toml says."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts, names
from tests.support.waiting import eventually_sync


def write_settings(ad: CommandLine, nodes: Sequence[SshdNode], more: str = "") -> None:
    listed = ", ".join(f'"{host}"' for host in hosts(nodes))
    (ad.folder / "asyncdeploy.toml").write_text(f'nodes = [{listed}]\n{more}\n[env]\ntype = "system"\n')


def test_a_push_and_a_second_one(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    (ad.folder / "a.txt").write_text("a\n")
    said = ad("push", *hosts(sshd_nodes))
    assert said.code == 0, said.err
    assert "4 of 4 nodes have project" in said.err
    assert said.out == ""
    assert all((each.home / "project" / "a.txt").read_text() == "a\n" for each in sshd_nodes)
    assert ad("push", *hosts(sshd_nodes)).err.count("= unchanged") == 4


def test_settings_say_the_rest_and_it_is_said_where_the_nodes_come_from(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    write_settings(ad, sshd_nodes[:2], '[workspace]\nremote_path = "~/elsewhere"\nexclude = ["*.ckpt"]')
    (ad.folder / "a.ckpt").write_text("large")
    said = ad("run", "--deploy", "--bare", "--", "pwd; ls")
    assert said.code == 0, said.err
    assert f"2 nodes from {ad.folder / 'asyncdeploy.toml'}" in said.err
    assert sorted(said.out.split()) == sorted(
        word for each in sshd_nodes[:2] for word in (str(each.home / "elsewhere"), "asyncdeploy.toml")
    )


def test_settings_are_found_from_a_folder_below(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:1])
    below = CommandLine(ad.home, ad.folder / "src")
    below.folder.mkdir()
    assert below("push").code == 0
    assert (sshd_nodes[0].home / "project" / "asyncdeploy.toml").exists()


@pytest.mark.parametrize("named", ["/dev/null", "elsewhere/settings.toml", "home/settings.toml"])
def test_a_file_from_elsewhere_does_not_move_the_project(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode], tmp_path: Path, named: str
) -> None:
    """`push --config /dev/null` has pushed /dev."""
    settings = tmp_path / named
    if tmp_path in settings.parents:
        settings.parent.mkdir(exist_ok=True)
        (settings.parent / "secret").write_text("mine\n")
        settings.write_text('[env]\ntype = "system"\n')
    (ad.folder / "a.txt").write_text("a\n")
    said = ad("push", "--config", str(settings), *hosts(sshd_nodes[:1]))
    assert said.code == 0, said.err
    assert sorted(path.name for path in (sshd_nodes[0].home / "project").iterdir()) == [".asyncdeploy", "a.txt"]
    words = ["--name", "it", "--env", "system", "--config", str(settings), *hosts(sshd_nodes[:1])]
    ran = ad("start", *words, "--", "mkdir results; touch results/b")
    assert ran.code == 0, ran.err
    assert ad("wait", "it").code == 0
    assert ad("collect", "it", "--config", str(settings)).code == 0
    assert [path.name for path in ad.folder.glob("results/*/*")] == ["b"]


def test_a_file_from_elsewhere_says_where_its_own_paths_begin(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "src").mkdir(parents=True)
    (other / "src" / "b.txt").write_text("b\n")
    (other / "it.toml").write_text('[workspace]\npath = "src"\n[env]\ntype = "system"\n')
    said = ad("push", "--config", "../other/it.toml", *hosts(sshd_nodes[:1]))
    assert said.code == 0, said.err
    assert (sshd_nodes[0].home / "src" / "b.txt").exists()


@pytest.mark.parametrize("where", ["home", "below a file in the home", "above the home"])
def test_the_home_folder_is_never_sent_unless_it_is_named(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode], tmp_path: Path, where: str
) -> None:
    (ad.home / "secret").write_text("mine\n")
    here = {"home": ad.home, "below a file in the home": ad.home / "work", "above the home": ad.home.parent}[where]
    here.mkdir(exist_ok=True)
    if here.parent == ad.home:
        (ad.home / "asyncdeploy.toml").write_text("accept_new = true\n")
    there = CommandLine(ad.home, here)
    for verb in (["push"], ["plan"], ["start", "--name", "it"]):
        said = there(*verb, *hosts(sshd_nodes[:1]), *(["--", "true"] if verb[0] == "start" else []))
        assert said.code == 2
        assert "your home folder" in said.err
        assert "--path ." in said.err
    assert not (sshd_nodes[0].home / here.name).exists()
    assert there("run", *hosts(sshd_nodes[:1]), "--", "true").code == 0
    assert there("plan", "--path", ".", "--env", "system", *hosts(sshd_nodes[:1])).code == 0


def test_a_push_to_a_node_that_refuses_us_names_it(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    (ad.folder / "a.txt").write_text("a\n")
    (sshd_nodes[1].home / "project").mkdir()
    (sshd_nodes[1].home / "project" / "theirs.txt").write_text("not ours")
    said = ad("push", *hosts(sshd_nodes[:2]))
    assert said.code == 1
    assert f"{names(sshd_nodes)[1]}: " in said.err
    assert "hint:" in said.err


def test_a_start_and_its_end(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """start, logs, wait, collect: by its name, from a home that remembers, and from one that does not."""
    write_settings(ad, sshd_nodes[:2])
    line = "echo up; until [ -e go ]; do sleep 0.1; done; mkdir -p results; echo 42 >results/answer; exit 0"
    said = ad("start", "--name", "sweep", "--", line)
    assert said.code == 0, said.err
    assert said.out.count(": started sweep-") == 2
    assert "asyncdeploy logs sweep" in said.err
    eventually_sync(lambda: ad("logs", "sweep").out.count(": up") == 2, within_s=30)
    for each in sshd_nodes[:2]:
        (each.home / "project" / "go").touch()
    assert ad("wait", "sweep").code == 0
    collected = ad("collect", "sweep", "--to", "home")
    assert collected.code == 0, collected.err
    for rank, name in enumerate(names(sshd_nodes[:2])):
        assert (ad.folder / "home" / f"{rank}-{name}" / "answer").read_text() == "42\n"


def test_a_start_is_stopped(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:2])
    assert ad("start", "--name", "loop", "--", "sleep 600").code == 0
    said = ad("stop", "loop", "--grace", "1")
    assert said.code == 0, said.err
    assert "nothing of it runs on 2 nodes" in said.err
    assert ad("wait", "loop").code == 143


def test_clean_says_what_would_go_and_goes(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    (ad.folder / "a.txt").write_text("a\n")
    host = hosts(sshd_nodes)[0]
    assert ad("push", host).code == 0
    would = ad("clean", host, "--older-than", "0s", "--dry-run")
    assert "site" in would.out
    assert (sshd_nodes[0].home / "project").exists()
    assert ad("clean", host, "--older-than", "0s").code == 0
    assert not (sshd_nodes[0].home / "project").exists()
