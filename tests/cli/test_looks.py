"""`ps`, `logs -f`, `why`, `plan`: looked at, and nothing changes because of it."""

import json
from collections.abc import Sequence

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, hosts, names
from tests.support.waiting import eventually_sync

WORKS = 'echo "up $NODE_RANK"; until [ -e go ]; do sleep 0.1; done'


def write_settings(ad: CommandLine, nodes: Sequence[SshdNode]) -> None:
    listed = ", ".join(f'"{host}"' for host in hosts(nodes))
    (ad.folder / "asyncdeploy.toml").write_text(
        f'nodes = [{listed}]\n[env]\ntype = "system"\n[launch]\nlauncher = "ranks"\nname = "train"\ngrace_s = 1\n'
    )


def test_a_run_is_looked_at_while_it_goes_on(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:2])
    run = ad("launch", WORKS, "--detach").out.strip()
    assert ad("start", "--name", "side", "--", "sleep 600").code == 0
    try:
        eventually_sync(lambda: ad("logs", run).out.count("up ") == 2, within_s=30)
        every = ad("ps")
        assert every.code == 0, every.err
        row = next(line for line in every.out.splitlines() if line.startswith(run))
        assert "RUNNING 2/2" in row
        assert every.out.count("side-") == 2
        one = ad("ps", run)
        assert "RUNNING 2/2" in one.out
        assert f"asyncdeploy stop {run}" in one.err
        document = json.loads(ad("ps", "--json").out)
        assert (document["v"], document["verb"], document["ok"]) == (1, "ps", True)
        assert [each["id"] for each in document["runs"]] == [run]
        why = ad("why", run)
        assert why.code == 0
        assert "RUNNING 2/2" in why.out
        assert ad("logs", run, "--rank", "1").out == f"{names(sshd_nodes)[1]}: up 1\n"
        assert ad("logs", run, "--rank", "2").code == 2
        assert "RUNNING 2/2" in ad("ps", run).out
    finally:
        assert ad("stop", run).code == 0
        assert ad("stop", "side").code == 0
    assert "STOPPED" in ad("ps").out


def test_of_one_rank_of_a_node_only_its_own_lines_are_printed(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """And the last line for programs is how it ended, as of every verb."""
    write_settings(ad, sshd_nodes[:2])
    assert ad("launch", 'echo "up $RANK"', "--nproc-per-node", "2").code == 0
    assert ad("logs", "last").out.count("up ") == 4
    for rank in ("2", "3"):
        (line,) = ad("logs", "last", "--rank", rank).out.splitlines()
        assert line.endswith(f"up {rank}")
    *lines, end = ad("logs", "last", "--rank", "3", "--json").documents
    assert [(line["event"], line["rank"]) for line in lines if line["event"] == "LaunchLine"] == [("LaunchLine", 3)]
    assert (end["event"], end["verb"], end["ok"], end["exit"]) == ("Result", "logs", True, 0)
    *_, end = ad("logs", "last", "-f", "--json").documents
    assert (end["event"], end["exit"]) == ("Result", 0)
    assert ad("logs", "last", "--since", "1d").out.count("up ") == 4


def test_lines_of_a_start_have_no_ranks_and_no_times(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """A flag that cannot be kept is refused, and not dropped."""
    write_settings(ad, sshd_nodes[:2])
    assert ad("start", "--name", "side", "--", "echo up; echo down").code == 0
    assert ad("wait", "side").code == 0
    for flag, value in (("--rank", "0"), ("--since", "10m"), ("--tail", "-3")):
        said = ad("logs", "side", flag, value)
        assert (said.code, said.out) == (2, "")
        assert f"error: {flag}: " in said.err
    assert ad("logs", "side", "--tail", "1").out.count("down") == 2
    *lines, end = ad("logs", "side", "--json").documents
    assert [line["text"] for line in lines if line["event"] == "JobLine"] == ["up", "down"] * 2
    assert (end["event"], end["ok"], end["exit"]) == ("Result", True, 0)


def test_a_log_that_could_not_be_read_is_no_success(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:2])
    assert ad("launch", "echo up", "--name", "train").code == 0
    sshd_nodes[0].stop()
    try:
        said = ad("logs", "last")
    finally:
        sshd_nodes[0].start()
    assert said.code == 1
    assert said.out == f"{names(sshd_nodes)[1]}: up\n"
    assert f"1 of 2 nodes failed: {names(sshd_nodes)[0]}" in said.err


def test_why_waits_for_nobody(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """One node is away and the other one is done: who did not answer is named, and nobody is accused."""
    write_settings(ad, sshd_nodes[:2])
    assert ad("launch", "true").code == 0
    sshd_nodes[0].stop()
    try:
        why = ad("why", "last")
    finally:
        sshd_nodes[0].start()
    assert why.code == 0, why.err
    assert "UNKNOWN 1/2" in why.out
    assert f"{names(sshd_nodes)[0]}  nobody knows: " in why.out
    assert "ROOT CAUSE" not in why.out


def test_why_of_an_ended_run_says_nothing_of_a_stop(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:2])
    assert ad("launch", "test $NODE_RANK = 1 && exit 42; sleep 600").code == 42
    why = ad("why", "last")
    assert "ROOT CAUSE" in why.out
    assert why.err == ""


def test_a_plan_changes_nothing(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:2])
    (ad.folder / "a.txt").write_text("a\n")
    for words in (("plan",), ("push", "--dry-run"), ("deploy", "--dry-run"), ("launch", "true", "--dry-run")):
        said = ad(*words)
        assert said.code == 0, said.err
        assert "nothing was changed" in said.out
    assert json.loads(ad("plan", "--json").out)["plan"]["nodes"]
    assert not (sshd_nodes[0].home / "project").exists()


def test_a_timeline_is_written(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    write_settings(ad, sshd_nodes[:2])
    said = ad("deploy", "--timeline", "what.svg")
    assert said.code == 0, said.err
    assert (ad.folder / "what.svg").read_text().startswith("<svg")


def test_a_timeline_that_cannot_be_written_is_refused_before_the_work(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    write_settings(ad, sshd_nodes[:1])
    said = ad("deploy", "--timeline", "nowhere/what.svg")
    assert (said.code, said.err) == (2, "error: --timeline nowhere/what.svg: No such file or directory\n")
    assert not (sshd_nodes[0].home / "project").exists()


def test_what_was_done_stays_done_where_the_timelines_folder_has_gone(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    write_settings(ad, sshd_nodes[:1])
    for flags in ((), ("--json",)):
        (ad.folder / "pictures").mkdir(exist_ok=True)
        said = ad("run", "--timeline", "pictures/what.svg", *flags, "--", f"rm -r {ad.folder}/pictures")
        assert said.code == 0, said.err
        assert "warning: the timeline was not written: pictures/what.svg: No such file or directory\n" in said.err


def test_of_nodes_that_do_not_answer_nothing_is_said_to_run_or_not(
    ad: CommandLine, sshd_nodes: Sequence[SshdNode]
) -> None:
    """What was not seen is no 'nothing'; and what can be done about it is said."""
    known = ad.home / ".ssh" / "known_hosts"
    first, second = hosts(sshd_nodes[:2])
    known.write_text(sshd_nodes[0].known_hosts_lines)
    some = ad("ps", "-n", f"{first},{second}")
    assert (some.code, some.out) == (0, "nothing runs or ran there\n")
    assert f"1 of 2 nodes failed: {names(sshd_nodes)[1]}: the host key" in some.err
    assert "--accept-new" in some.err
    known.unlink()
    none = ad("ps", "-n", f"{first},{second}")
    assert (none.code, none.out) == (255, "")
    assert none.err.count("--accept-new") == 2, "once a node: each has a line of its own to scan"
    document = json.loads(ad("ps", "-n", first, "--json").out)
    assert (document["ok"], document["exit"], document["runs"]) == (False, 255, [])
    assert ad("check", first, "--json").code == 255
    table = ad("check", first)
    assert table.code == 255
    assert table.out.splitlines()[1].split() == ["0", names(sshd_nodes)[0], *"------"]


def test_a_job_of_which_nothing_is_known_is_a_row(ad: CommandLine, sshd_nodes: Sequence[SshdNode]) -> None:
    """One bad answer ends no table: what the others are is shown, and what may be typed next."""
    write_settings(ad, sshd_nodes[:2])
    assert ad("start", "--name", "side", "--", "true").code == 0
    eventually_sync(lambda: ad("ps").out.count("exited 0") == 2, within_s=30)
    good = ad("ps")
    assert "asyncdeploy logs RUN -f" in good.err
    assert f"asyncdeploy stop RUN -n {hosts(sshd_nodes)[0]}\n" not in good.err
    assert f"asyncdeploy stop RUN -n {hosts(sshd_nodes)[0]} " in ad("ps", "-n", hosts(sshd_nodes)[0]).err
    (folder,) = (sshd_nodes[0].home / ".asyncdeploy" / "jobs").glob("side-*")
    (folder / "exit").write_text('{"status": 4711, "ended_at": 1}')
    bad = ad("ps")
    assert bad.code == 0, bad.err
    rows = {line.split()[1]: line for line in bad.out.splitlines()[1:]}
    first, second = names(sshd_nodes[:2])
    assert "unknown" in rows[first]
    assert "exited 0" in rows[second]
    document = json.loads(ad("ps", "--json").out)
    assert (document["ok"], len(document["jobs"]), len(document["unknown"])) == (False, 1, 1)
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | {"created_at": "one day"}))
    worse = ad("ps")
    assert worse.code == 0, worse.err
    assert f"1 of 2 nodes failed: {first}: " in worse.err, "whose jobs could not be listed"
    assert second in worse.out
