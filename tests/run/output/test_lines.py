"""R3, R18: a line is in nobody's arguments, and as long as people write it; what is too long is said early."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.values.command import MAX_LINE_BYTES
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.remotes.plain_remote import PlainRemote
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need

LONG = MAX_LINE_BYTES - 100
NAME = "a-name-that-only-this-test-knows"
KILLS = f"pkill -f {NAME}; echo on $?"
LOOKS = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c only-this-te[s]t; exit 0"


@pytest.mark.parametrize("kind", [ShellRemote, PlainRemote])
async def test_r3_a_line_that_looks_for_itself_does_not_find_its_shell(kind: type[ShellRemote], tmp_path: Path) -> None:
    need("pkill")
    async with kind(tmp_path) as remote:
        assert (await ad.run_command(remote, KILLS)).stdout == b"on 1\n"
        job = await ad.start_job(remote, f"{KILLS}; exec sleep 0", name="kills")
        assert (await ad.wait_job(remote, job)).ok
        assert await ad.read_log(remote, job) == "on 1\n"


async def test_r3_nor_does_a_rank(sshd_nodes: Sequence[SshdNode], project: Path) -> None:
    need("pkill")
    async with pool_for(sshd_nodes[0]) as pool:
        nodes = [sshd.node for sshd in sshd_nodes[:2]]
        for command in (KILLS, f"{LOOKS} # {NAME}"):
            ranks = ad.Ranks(command, nproc_per_node=2)
            launch = await ad.fan_out(nodes, project, ranks, ad.SystemEnv(), pool=pool)
            assert (await ad.wait_launch(launch, pool=pool)).ok


@pytest.mark.parametrize("kind", [ShellRemote, PlainRemote])
async def test_r3_nobody_on_the_node_reads_a_line_in_ps(kind: type[ShellRemote], tmp_path: Path) -> None:
    async with kind(tmp_path) as remote:
        assert (await ad.run_command(remote, f"{LOOKS} # {NAME}")).stdout == b"0\n"


LINES = {
    "its own name": ('echo "$0 $#"', b"sh 0\n"),
    "its arguments": ('set -- a b; echo "$2"', b"b\n"),
    "its input": ("read x; cat; echo $x", b"two\none\n"),
    "a heredoc": ("cat <<E\nhere\nE", b"here\n"),
    "a comment first": ("# nothing\necho 1", b"1\n"),
    "no newline at its end": ("printf 1", b"1"),
    "descriptors": ("ls /proc/self/fd | wc -l", b"4\n"),
    "an exec": ("exec echo 1", b"1\n"),
    "a return": ("f() { return 3; }; f; echo $?", b"3\n"),
    "a backslash": (r"echo a\b", b"ab\n"),
}


@pytest.mark.parametrize("name", LINES)
async def test_r3_a_line_is_what_it_was(name: str, tmp_path: Path) -> None:
    line, wanted = LINES[name]
    async with ShellRemote(tmp_path) as remote:
        done = await ad.run_command(remote, ad.Command(line, stdin="one\ntwo\n"))
        assert (done.stdout, done.stderr, done.status) == (wanted, b"", 0)


async def test_r3_the_signal_of_a_plain_command_is_its_own(tmp_path: Path) -> None:
    async with ShellRemote(tmp_path) as remote:
        done = await ad.run_command(remote, "python3 -c 'import/os;os.abort()'".replace("/", "\t"))
        assert (done.status, done.signal) == (None, "ABRT") or done.status == 134
        done = await ad.run_command(remote, ad.Command.of("timeout", "-s", "KILL", "0.1", "sleep", "9"))
        assert done.status == 137 or done.signal == "KILL"


async def test_r18_a_long_line_and_much_environment_pass(tmp_path: Path) -> None:
    line = "echo $(printf %s " + "x" * 250_000 + " | wc -c)"
    env = {f"V{number}": "v" * 100_000 for number in range(3)}
    async with ShellRemote(tmp_path) as remote:
        done = await ad.run_command(remote, ad.Command(line, env=env))
        assert done.stdout == b"250000\n"
        for number in range(6):
            await ad.start_job(remote, ad.Command(f"true {number} #" + "x" * 250_000, env=env), name=f"long-{number}")
        jobs = await ad.list_jobs(remote)
        assert [job.name for job in jobs] == [f"long-{number}" for number in range(6)]
        assert all(len(job.command) < 10_000 for job in jobs)


def test_r18_what_is_longer_is_refused_before_anything_connects() -> None:
    with pytest.raises(ValueError, match="Command line: at most 327680 bytes were expected, got 400000"):
        ad.Command("x" * 400_000)
    with pytest.raises(ValueError, match="Command env: at most 393216 bytes in all were expected"):
        ad.Command("true", env={f"V{number}": "v" * 100_000 for number in range(6)})
    with pytest.raises(ValueError, match="Command env: at most"):
        ad.Command("true", secrets={f"V{number}": "v" * 100_000 for number in range(6)})


async def test_r18_a_list_of_many_jobs_is_whole(tmp_path: Path) -> None:
    """J11 too: an answer is paged, and a stray folder is no job."""
    async with ShellRemote(tmp_path) as remote:
        first = await ad.start_job(remote, "sleep 999", name="runs")
        base = remote.home / ".asyncdeploy" / "jobs"
        for number in range(1500):
            copy = base / f"{'a' if number % 2 else 'z'}{number:04}-aaaaaaaa"
            copy.mkdir(mode=0o700)
            spec = (base / first.id / "spec.json").read_text().replace(first.id, copy.name)
            (copy / "spec.json").write_text(spec)
            (copy / "exit").write_text('{"status": 0, "signal": null, "ended_at": 1}')
        (base / "stray").mkdir()
        (base / "stray-aaaaaaaa").write_text("a file")
        try:
            jobs = await ad.list_jobs(remote)
            assert len(jobs) == 1501
            assert first.id in {job.id for job in jobs}
        finally:
            await asyncio.shield(ad.stop_job(remote, first, grace_s=0))


@pytest.fixture(params=["python", "sh"])
async def any_remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ShellRemote]:
    async with ShellRemote(tmp_path / "home", python=request.param == "python") as remote:
        yield remote


def long_line(letter: str, end: str = "") -> str:
    """A line that says how many bytes it has for an argument."""
    text = letter * ((LONG - 200) // len(letter.encode()))
    return f"text='{text}'\nprintf %s \"$text\" | wc -c{end}"


@pytest.mark.parametrize("letter", ["x", "ü", "\x01"])
async def test_r18_a_run_of_nearly_what_is_allowed(any_remote: ShellRemote, letter: str) -> None:
    done = await ad.run_command(any_remote, long_line(letter), check=True)
    assert int(done.text) == (LONG - 200) // len(letter.encode()) * len(letter.encode())


async def test_r18_variables_of_nearly_what_is_allowed(any_remote: ShellRemote) -> None:
    env = {f"V{number}": "ü" * 49_000 for number in range(3)}
    job = await ad.start_job(any_remote, ad.Command("printf %s%s $V0 $V2 | wc -c", env=env), name="wide")
    assert (await ad.wait_job(any_remote, job, timeout_s=60)).ok
    assert int(await ad.read_log(any_remote, job)) == 2 * 98_000


@pytest.mark.parametrize("letter", ["x", "ü", "\x01"])
async def test_r18_a_job_of_nearly_what_is_allowed_does_not_break_the_list(
    any_remote: ShellRemote, letter: str
) -> None:
    job = await ad.start_job(any_remote, long_line(letter), name="long")
    assert (await ad.wait_job(any_remote, job, timeout_s=60)).ok
    assert int(await ad.read_log(any_remote, job)) == (LONG - 200) // len(letter.encode()) * len(letter.encode())
    (listed,) = await ad.list_jobs(any_remote)
    assert (listed.id, listed.name) == (job.id, "long")
    assert 2000 <= len((await ad.find_job(any_remote, job.id)).command) < 20_000


async def test_r18_a_list_may_be_longer_than_a_frame(remote: ShellRemote) -> None:
    job = await ad.start_job(remote, long_line("x"), name="first")
    await ad.wait_job(remote, job, timeout_s=60)
    folder = remote.home / ".asyncdeploy/jobs"
    for number in range(400):
        other = folder / f"other{number}-abcdefgh"
        other.mkdir()
        for name in ("spec.json", "exit"):
            text = (folder / job.id / name).read_text()
            (other / name).write_text(text.replace(job.id, other.name))
    assert len(await ad.list_jobs(remote)) == 401
