"""Values as people see them: one line of what differs from the default, a table, HTML; and nothing that acts."""

import html
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest

import asyncdeploy as ad
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.preflight.verdict import NodeSeen, Problem
from asyncdeploy.values.shown.one_line import MOST
from tests.support.launches import launch_of

NODE = ad.Node("gpu0")
JOB = ad.Job(NODE, "train-abcdefgh", "train", "/root/proj", "python train.py", 900.0)
LONG = "x" * 500
VALUES = {
    "completed": ad.Completed("gpu0", "python train.py", 3, None, b"step 1\nloss 2\n", b"", 0, 1.25),
    "job": JOB,
    "status": ad.JobStatus(JOB, "exited", 3, None, 901.0, 961.0, last_lines="step 1\nboom"),
    "launch": launch_of(4),
    "deployment": ad.Deployment(NODE, ad.Site("/root/proj", "d1"), ad.SystemEnv(), ad.NodeFacts("/root", "root", 0)),
    "preflight": ad.Preflight((NodeSeen("gpu0", "10.0.0.1", "eth0"),), "10.0.0.1", 29500),
    "report": ad.Report((ad.Outcome(NODE, "ok", None),)),
}
REPRS = {
    "completed": "Completed(node='gpu0', command='python train.py', status=3, duration_s=1.25)",
    "job": (
        "Job(node='gpu0', id='train-abcdefgh', name='train', site='/root/proj', command='python train.py', "
        "created_at=900)"
    ),
    "status": (
        "JobStatus(job='train-abcdefgh', state='exited', exit_status=3, started_at=901, ended_at=961, "
        "last_lines='step 1\\nboom')"
    ),
    "launch": "Launch('train-abcdefgh', nodes='gpu[0-3]', processes=8)",
    "deployment": "Deployment(node='gpu0', site='/root/proj', env='system')",
    "preflight": "Preflight(nodes=('gpu0',), master_addr='10.0.0.1', master_port=29500)",
    "report": "Report(1 node: 1 ok)",
}
TEXTS = {
    "completed": "gpu0: exited 3 after 1.2s: python train.py\n  | step 1\n  | loss 2",
    "job": "job train-abcdefgh on gpu0\nin /root/proj: python train.py",
    "status": "job train-abcdefgh on gpu0 exited 3\n  | step 1\n  | boom",
    "launch": """\
launch train-abcdefgh: 4 nodes, 8 processes
node rank  node  ranks  address        job
0          gpu0  0-1    10.0.0.1 eth0  train.0-abcdefgh
1          gpu1  2-3    10.0.0.2 eth0  train.1-abcdefgh
2          gpu2  4-5    10.0.0.3 eth0  train.2-abcdefgh
3          gpu3  6-7    10.0.0.4 eth0  train.3-abcdefgh
they meet at 10.0.0.1 port 23456""",
    "deployment": """\
deployed on gpu0
site         /root/proj
digest       d1
environment  SystemEnv
machine      Linux , 1 cpus
gpus         none""",
    "preflight": """\
node rank  node  address        GPUs    driver  clock  disk  tools
0          gpu0  10.0.0.1 eth0  no GPU  -       +0.0s  -     -
ok: they meet at 10.0.0.1 port 29500""",
    "report": "1 node: 1 ok\nnode  state  last line or error\ngpu0  ok",
}


class Tags(HTMLParser):
    """The tags of a text and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.words = set[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("what", VALUES)
def test_a_repr_is_one_line_of_what_differs_from_the_default(what: str) -> None:
    assert repr(VALUES[what]) == REPRS[what]


@pytest.mark.parametrize("what", VALUES)
def test_a_description_is_a_line_or_a_table(what: str) -> None:
    assert VALUES[what].describe() == TEXTS[what]


@pytest.mark.parametrize("what", VALUES)
def test_a_notebook_shows_the_same_words(what: str) -> None:
    seen = Tags(VALUES[what]._repr_html_())
    assert seen.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
    said = " ".join(" ".join(seen.words).split())
    for line in TEXTS[what].splitlines():
        for word in line.split():
            assert html.unescape(word) in said


@pytest.mark.parametrize(
    "value",
    [
        ad.Completed(LONG, LONG, 1, LONG, survivors=(LONG,) * 9),
        attrs.evolve(JOB, command=LONG, site=LONG, window=LONG),
        ad.JobStatus(JOB, "exited", 0, LONG, 1.5, 2.5, (LONG,), LONG, because=LONG),
        launch_of(3000),
        ad.Preflight((NodeSeen(LONG),), LONG, 1, (Problem(LONG, LONG),) * 50, (LONG,) * 50),
        ad.Report(tuple(ad.Outcome(ad.Node(f"gpu{rank * 2}"), "failed", None) for rank in range(3000))),
        ad.Report(()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_repr_never_passes_its_line(value: Any) -> None:
    assert len(repr(value)) <= MOST
    assert "\n" not in repr(value)


def test_a_report_is_a_table_of_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    done = VALUES["completed"]
    error = ad.ConnectError("gpu1", "it refuses connections", "is sshd running there?")
    report = ad.Report(
        (
            ad.Outcome(NODE, "ok", attrs.evolve(done, status=0)),
            ad.Outcome(ad.Node("gpu1"), "failed", None, error),
            ad.Outcome(ad.Node("gpu2"), "skipped", None, ad.Skipped("gpu2", "not started: another node had failed")),
        )
    )
    print(report)
    assert (
        capsys.readouterr().out
        == """\
3 nodes: 1 ok, 1 failed, 1 skipped
node  state    last line or error
gpu0  ok       loss 2
gpu1  failed   it refuses connections
gpu2  skipped  not started: another node had failed
hint: is sshd running there?
"""
    )
    assert repr(report) == "Report(3 nodes: 1 ok, 1 failed, 1 skipped (gpu[1-2]))"


def test_many_nodes_that_are_alike_share_a_row() -> None:
    nodes = [ad.Node(f"gpu{rank:03}") for rank in range(100)]
    done = [ad.Completed(node.name, "true", 0, stdout=b"yes" if node.name != "gpu050" else b"no") for node in nodes]
    report = ad.Report(tuple(ad.Outcome(node, "ok", each) for node, each in zip(nodes, done, strict=True)))
    assert report.describe().splitlines() == [
        "100 nodes: 100 ok",
        "node                     state  last line or error",
        "gpu[000-049,051-099] (99)  ok     yes".replace("99]", "99]"),
        "gpu050 (1)                 ok     no",
    ] or report.describe().splitlines()[2].split() == ["gpu[000-049,051-099]", "(99)", "ok", "yes"]


def test_words_of_a_node_do_nothing_to_who_looks_at_them() -> None:
    evil = b"\x1b]52;c;aGk=\x07\x1b[2J\xe2\x80\xae<script>alert(1)</script>\r"
    done = ad.Completed("gpu0", "cat <b>", 0, stdout=evil)
    status = ad.JobStatus(JOB, "exited", 1, last_lines=evil.decode())
    for value in (done, status, ad.Report((ad.Outcome(NODE, "ok", done), ad.Outcome(NODE, "ok", status)))):
        shown = value._repr_html_()
        assert "<script" not in shown
        assert "<b>" not in shown
        for text in (shown, value.describe(), repr(value)):
            assert text.replace("\n", "").isprintable()


def test_no_secret_shows() -> None:
    env = ad.UvEnv(secrets={"UV_INDEX_PASSWORD": "canary"})
    deployed = attrs.evolve(VALUES["deployment"], env=env)
    assert "canary" not in repr(deployed) + deployed.describe() + deployed._repr_html_()


def test_a_restarted_launch_says_so() -> None:
    launch: Launch = attrs.evolve(launch_of(1), before=("first-abcdefgh",), grace_s=9.0)
    assert repr(launch) == "Launch('train-abcdefgh', nodes='gpu0', processes=2, attempt=2, grace_s=9)"
    assert launch.describe().endswith("before it: first-abcdefgh")


def test_a_set_of_jobs_is_a_report_by_its_own_name() -> None:
    jobs = ad.JobSet.of([JOB])
    assert repr(jobs) == "JobSet(1 node: 1 ok)"
    assert jobs.describe().splitlines()[-1] == "gpu0  ok     train-abcdefgh"
    listed = ad.Report((ad.Outcome(NODE, "ok", (VALUES["status"],)), ad.Outcome(ad.Node("gpu1"), "ok", ())))
    assert listed.describe().splitlines()[-2:] == ["gpu0  ok     exited 3: boom", "gpu1  ok     none"]


def test_what_may_still_live_is_said() -> None:
    done = attrs.evolve(VALUES["completed"], survivors=("12 python", "0 /proc is hidden"))
    assert done.describe().splitlines()[-2:] == [
        "that it has ended cannot be proven: /proc is hidden",
        "could not be ended: 12 python",
    ]
    status = attrs.evolve(VALUES["status"], survivors=("12 python",), gpu_left=("GPU 3: 61.0 GiB",))
    assert status.describe().splitlines()[-2:] == [
        "could not be ended: 12 python",
        "memory still in use: GPU 3: 61.0 GiB",
    ]
