"""`push`, `deploy`, `start`, `clean`: a project on nodes, by what asyncdeploy.toml says."""

from collections.abc import Sequence

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
