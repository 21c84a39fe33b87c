"""R12, R14, R17: what surrounds a command on its node: buffers of Python, the PATH of a login, an old locale."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.values.not_found import hint_of_missing
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root

KINDS = pytest.mark.parametrize("kind", [ShellRemote, PlainRemote])


@KINDS
async def test_r12_python_does_not_keep_its_lines(kind: type[ShellRemote], tmp_path: Path) -> None:
    async with kind(tmp_path) as remote:
        remote.env.pop("PYTHONUNBUFFERED", None)
        line = 'echo "${PYTHONUNBUFFERED-unset}"'
        assert (await ad.run_command(remote, line)).text == "1"
        job = await ad.start_job(remote, line, name="job")
        await ad.wait_job(remote, job)
        assert await ad.read_log(remote, job) == "1\n"
        for own in ("", "0"):
            assert (await ad.run_command(remote, ad.Command(line, env={"PYTHONUNBUFFERED": own}))).text == own


@KINDS
@pytest.mark.parametrize(
    "line", ["no-such-tool --now", "exec no-such-tool", "env no-such-tool", "cd /; no-such-tool | cat; exit 127"]
)
async def test_r14_what_was_not_found_and_where(kind: type[ShellRemote], line: str, tmp_path: Path) -> None:
    async with kind(tmp_path) as remote:
        with pytest.raises(ad.CommandFailed) as caught:
            await ad.run_command(remote, line, check=True)
    assert caught.value.status == 127
    assert "no-such-tool was looked for on the PATH of the login" in caught.value.hint
    assert ".bashrc" in caught.value.hint
    if kind is ShellRemote:
        assert remote.env["PATH"].split(":")[0] in caught.value.hint


async def test_r14_a_job_says_it_too(tmp_path: Path) -> None:
    async with ShellRemote(tmp_path) as remote:
        job = await ad.start_job(remote, "no-such-tool", name="job")
        status = await ad.wait_job(remote, job)
    failure = status.failure()
    assert failure is not None
    assert "no-such-tool was looked for" in failure.hint


async def test_r14_a_file_that_is_missing_is_no_matter_of_path(tmp_path: Path) -> None:
    async with ShellRemote(tmp_path) as remote:
        with pytest.raises(ad.CommandFailed) as caught:
            await ad.run_command(remote, "./run.sh", check=True)
    assert "PATH" not in caught.value.hint
    assert "./run.sh" in caught.value.hint


async def test_r17_a_login_in_latin_1(start_sshd: Callable[..., SshdNode], tmp_path: Path) -> None:
    need_root()
    need("localedef")
    if not Path("/usr/share/i18n/charmaps").is_dir():
        pytest.skip("the sources of locales are missing (Debian's package locales)")
    words = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(tmp_path / "de_DE.ISO-8859-1")]
    subprocess.run(words, check=False, capture_output=True)  # it warns, with status 1
    sshd = start_sshd("latin", config={"SetEnv": f"LC_ALL=de_DE.ISO-8859-1 LOCPATH={tmp_path}"})
    project = tmp_path / "prüfung"
    project.mkdir()
    (project / "größe.txt").write_text("ü\n")
    async with pool_for(sshd) as pool:
        remote = pool.at(sshd.node)
        assert (await ad.run_command(remote, "locale charmap")).text == "ISO-8859-1"
        site = await ad.push_code(remote, ad.Workspace(project))
        assert site.path.endswith("/prüfung")
        done = await ad.run_command(remote, ad.Command("cat größe.txt; pwd; echo $X", cwd=site.path, env={"X": "é"}))
        assert done.text == f"ü\n{site.path}\né"
        job = await ad.start_job(remote, ad.Command("pwd; sleep 999", cwd=site.path), name="job", site=site)
        assert (await ad.job_status(remote, job)).state == "running"
        (project / "neu.txt").write_text("x")
        with pytest.raises(ad.WorkspaceBusy):
            await ad.push_code(remote, ad.Workspace(project))
        await ad.stop_job(remote, job, grace_s=0)
        assert (await ad.probe_node(remote)).home == str(sshd.home)
        await ad.sync_results(remote, site.path, tmp_path / "home")
        assert (tmp_path / "home" / "größe.txt").read_text() == "ü\n"


@pytest.mark.parametrize("line", ["nosuch a b", "exec nosuch", "echo hi; nosuch", "env nosuch", "timeout 5 nosuch"])
async def test_r14_a_run_says_which_word_and_where(remote: ShellRemote, line: str) -> None:
    path = "/usr/bin:/bin:/opt/ours/bin"
    with pytest.raises(ad.CommandFailed, match="command exited 127: ") as caught:
        await ad.run_command(remote, ad.Command(line, env={"PATH": path}), check=True)
    assert caught.value.hint.startswith(f"nosuch was looked for on the PATH of the login, {path}; ")


async def test_r14_a_job_says_where_too(remote: ShellRemote) -> None:
    remote.env["PATH"] = "/usr/bin:/bin:/opt/ours/bin"  # of whoever runs the tests it may be long, and is shown in part
    job = await ad.start_job(remote, "exec nosuch", name="fails")
    status = await ad.wait_job(remote, job, timeout_s=30)
    failure = status.failure()
    assert failure is not None
    assert failure.hint.startswith(f"nosuch was looked for on the PATH of the login, {remote.env['PATH']}; ")
    assert ad.JobStatus.from_dict(status.to_dict()) == status


@pytest.mark.parametrize(
    "said",
    [
        "sh: 1: exec: nosuch: not found",
        "/dev/fd/9: line 3: nosuch: command not found",
        "E: mksh: nosuch: inaccessible or not found",
        "zsh:1: command not found: nosuch",
        "env: \u2018nosuch\u2019: No such file or directory",
        "ash: exec: line 0: nosuch: not found",
        "setsid: failed to execute nosuch: No such file or directory",
        "timeout: failed to run command \u2018nosuch\u2019: No such file or directory",
        "xargs: nosuch: No such file or directory",
    ],
)
def test_r14_whoever_says_it(said: str) -> None:
    assert hint_of_missing(said, "/bin").startswith("nosuch was looked for on the PATH of the login, /bin; ")


def test_r14_what_an_environment_puts_in_front_is_looked_through_first() -> None:
    line = "unset PYTHONHOME; export PATH='/home/me/p/.venv/bin'${PATH:+:$PATH}\npython x"
    hint = hint_of_missing("sh: 2: exec: python: not found", "/bin", line)
    assert hint.startswith("python was looked for in /home/me/p/.venv/bin and on the PATH of the login, /bin; ")
