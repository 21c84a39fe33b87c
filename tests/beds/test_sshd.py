"""The bed of ring 4: real sshd nodes apart from each other, and nothing of them left."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.beds.openssh import ssh, ssh_words
from tests.support.beds.sshd import HOST_KEYS, SshdBed
from tests.support.beds.sshd_node import Account, SshdNode
from tests.support.places import ROOT
from tests.support.waiting import eventually_sync, is_alive


def test_every_node_has_its_own_home_port_and_key(sshd_nodes: tuple[SshdNode, ...]) -> None:
    assert len(sshd_nodes) >= 4
    for sshd in sshd_nodes:
        assert ssh(sshd, "cd; pwd; echo $HOME; touch here").split() == [str(sshd.home)] * 2
        assert [entry.name for entry in sshd.home.iterdir()] == ["here"]
    assert len({sshd.node.port for sshd in sshd_nodes}) == len(sshd_nodes)


def test_every_node_has_a_host_key_of_each_kind_and_all_are_known(sshd_nodes: tuple[SshdNode, ...]) -> None:
    tools.need("ssh-keyscan")
    known = {line.split(" ", 1)[1] for line in sshd_nodes[0].known_hosts.read_text().splitlines()}
    shown: set[str] = set()
    for sshd in sshd_nodes:
        words = ["ssh-keyscan", "-p", str(sshd.node.port), "-t", ",".join(HOST_KEYS), sshd.node.host]
        scanned = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(scanned) == len(HOST_KEYS)
        shown |= {line.split(" ", 1)[1] for line in scanned}
    assert shown == known
    assert len(shown) == len(HOST_KEYS) * len(sshd_nodes), "no two nodes share one"


def test_the_next_test_finds_the_homes_empty(sshd_nodes: tuple[SshdNode, ...]) -> None:
    assert [list(sshd.home.iterdir()) for sshd in sshd_nodes] == [[]] * len(sshd_nodes)


def test_two_nodes_can_share_a_home(start_sshd: Callable[..., SshdNode]) -> None:
    first = start_sshd("first")
    second = start_sshd("second", home=first.home)
    ssh(first, "echo shared > ~/note")
    assert ssh(second, "cat ~/note") == "shared"


def test_config_wins_over_the_bed(start_sshd: Callable[..., SshdNode]) -> None:
    sshd = start_sshd("odd", config={"ForceCommand": "echo forced"})
    assert ssh(sshd, "echo asked") == "forced"


def test_a_restart_keeps_what_runs(start_sshd: Callable[..., SshdNode]) -> None:
    sshd = start_sshd("again")
    pid = int(ssh(sshd, "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"))
    before = sshd.pid
    sshd.restart()
    assert sshd.pid != before
    assert "sleep 1000" in ssh(sshd, f"tr '\\0' ' ' < /proc/{pid}/cmdline")
    eventually_sync(lambda: sshd.processes() == {pid: "sleep 1000"})


def test_what_hides_is_seen_and_ended(start_sshd: Callable[..., SshdNode]) -> None:
    sshd = start_sshd("hidden")
    python = tools.find("python3")
    hidden = (
        "import os,signal,time; os.setsid(); os.fork() and os._exit(0); "
        "signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); os.closerange(0, 3); time.sleep(1000)"
    )
    pid = int(ssh(sshd, f"env -i {python} -c '{hidden}' &"))
    eventually_sync(lambda: pid in sshd.processes())
    sshd.sweep()
    assert not is_alive(pid)
    assert sshd.processes() == {}
    assert sshd.is_running()


@pytest.mark.parametrize("own_pids", [False, True])
def test_sessions_can_be_ended(start_sshd: Callable[..., SshdNode], *, own_pids: bool) -> None:
    if own_pids:
        tools.need_root()
    sshd = start_sshd("cut", own_pids=own_pids)
    client = subprocess.Popen(ssh_words(sshd, "sleep 1000"), stdin=subprocess.DEVNULL)
    eventually_sync(lambda: "sleep 1000" in sshd.processes().values())
    sshd.end_sessions(signal.SIGKILL)
    assert client.wait(timeout=30) == 255
    assert "sleep 1000" in sshd.processes().values()


def test_a_bed_says_what_was_left_running() -> None:
    bed = SshdBed()
    try:
        sshd = bed.start("only")
        pid = int(ssh(sshd, "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"))
        eventually_sync(lambda: sshd.processes() == {pid: "sleep 1000"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.support.beds.sshd.QUIET_S", 0.1)
            assert bed.reset() == [f"only: process {pid}: sleep 1000"]
        assert not is_alive(pid)
        assert bed.reset() == []
    finally:
        bed.close()
    assert not bed.folder.exists()


def test_our_sudden_death_ends_the_bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os, signal, subprocess\n"
        "from tests.support.beds.sshd import SshdBed\n"
        "from tests.support.beds.openssh import ssh\n"
        "bed = SshdBed()\n"
        "sshd = bed.start('doomed')\n"
        "job = ssh(sshd, 'setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!')\n"
        "print(sshd.pid, job, bed.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # where no bed of another test sweeps
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    server, job, folder = result.stdout.split()
    eventually_sync(lambda: not is_alive(int(server)) and not is_alive(int(job)))
    assert Path(folder).is_relative_to(tmp_path)
    assert Path(folder).exists()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    SshdBed().close()  # the next bed sweeps what the dead one left
    assert not Path(folder).exists()


def test_a_machine_of_its_own_has_its_own_pids_and_name(start_sshd: Callable[..., SshdNode]) -> None:
    tools.need_root()
    sshd = start_sshd("apart", own_pids=True)
    assert ssh(sshd, "hostname") == "apart"
    assert ssh(sshd, "readlink /proc/self/ns/pid") != str(Path("/proc/self/ns/pid").readlink())
    assert int(ssh(sshd, "echo $$")) < 1000
    ssh(sshd, "setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
    eventually_sync(lambda: list(sshd.processes().values()) == ["sleep 1000"])
    sshd.restart()  # such a machine reboots: nothing survives
    assert sshd.processes() == {}
    assert ssh(sshd, "hostname") == "apart"


def test_the_login_shell_is_the_accounts(start_sshd: Callable[..., SshdNode]) -> None:
    tools.need_root()
    sshd = start_sshd("dashing", account=Account(shell="/bin/dash"))
    assert ssh(sshd, "readlink /proc/$$/exe").endswith("dash")
