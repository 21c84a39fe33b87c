"""Nodes set up oddly (no programs from the home, no room in /tmp, a clock years off), and a line that spoils a mend."""

import os
import random
import time
from pathlib import Path

import pytest
from cryptography import x509

from asyncdeploy.collect.collect import sync_results
from asyncdeploy.push.push import push_code
from asyncdeploy.push.relay.tls import make_identity
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.transport import Channel
from asyncdeploy.run.attached import run_command
from asyncdeploy.run.jobs import start_job, wait_job
from asyncdeploy.values.command import Command
from asyncdeploy.values.errors import ConnectionLost, DeployError, ProgramFailed, TransferFailed
from tests.support import results
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need, need_root
from tests.support.trees import tree, write

YEAR_S = 365 * 86400
MIB = 1 << 20

# The home is seen at /mnt, where nothing can be executed, and /tmp is full; both in this shell's own mount namespace.
BARE = """\
mount --bind "$HOME" /mnt && mount -o remount,bind,noexec /mnt && mount -t tmpfs -o size=4k tmpfs /tmp &&
echo full >/tmp/full && umask 077 && cd /mnt && HOME=/mnt exec sh -c "$0"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "proj"
    write(root, {"a.py": "first", "src/b.py": "b" * 5000, "large": random.Random(5).randbytes(6 * MIB)})
    (root / "a.py").chmod(0o755)
    return root


# --- E18: homes


async def test_e18_a_home_that_runs_nothing_a_full_tmp_and_umask_077(tmp_path: Path, source: Path) -> None:
    need_root()
    need("unshare")
    async with ShellRemote(tmp_path / "home", shell=("unshare", "--mount", "sh", "-c", BARE)) as remote:
        refused = await run_command(remote, Command("cp /bin/true ~/prog && ~/prog; [ $? = 126 ] && umask"))
        assert refused.text.strip() == "0077"
        with pytest.raises(DeployError):
            (await run_command(remote, Command("echo too much for it > /tmp/more"))).check()
        site = await push_code(remote, source)
        assert site.path == "/mnt/proj"
        write(source, {"a.py": "second", "more/c": "c"})
        with (source / "large").open("r+b") as file:
            file.write(b"changed")
        await push_code(remote, source)
        assert tree(tmp_path / "home" / "proj") == tree(source)
        ended = await wait_job(remote, await start_job(remote, Command("cat a.py", cwd="/mnt/proj"), name="bare"))
        assert ended.ok
        await sync_results(remote, "/mnt/proj/more", tmp_path / "back")
        assert (tmp_path / "back" / "c").read_text() == "c"


# --- E20: clocks


class Elsewhen(ShellRemote):
    """A node whose clock is so many seconds ahead of ours, as its Python sees it."""

    def __init__(self, home: Path, ahead_s: int) -> None:
        super().__init__(home)
        self.ahead_s = ahead_s

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        shift = "import time;_s=time.time;_ns=time.time_ns;"
        shift += f"time.time=lambda:_s()+({self.ahead_s});time.time_ns=lambda:_ns()+({self.ahead_s})*1000000000;"
        shifted = line.replace("import os,sys,", shift + "import os,sys,")
        assert shifted != line or self.idle
        return await super().open(shifted, kind=kind)


@pytest.mark.parametrize("years", [-20, 20])
async def test_e20_a_clock_that_is_years_off_costs_nothing(tmp_path: Path, source: Path, years: int) -> None:
    async with Elsewhen(tmp_path / "home", years * YEAR_S) as remote:
        assert abs((await probe_node(remote)).clock_offset_s - years * YEAR_S) < 60
        site = tmp_path / "home" / "proj"
        for text in ("one", "two"):
            write(source, {"a.py": text})
            await push_code(remote, source)
            assert tree(site) == tree(source)
        inode = (site / "a.py").stat().st_ino
        await push_code(remote, source)
        assert (site / "a.py").stat().st_ino == inode
        job = await start_job(remote, Command("exit 3"), name="late")
        assert (await wait_job(remote, job)).exit_status == 3
        # Results carry the node's time; one written just now, by that clock, is looked at again.
        out, node_now = tmp_path / "home" / "out", time.time_ns() + years * YEAR_S * 10**9
        for number, text in enumerate(("abc", "xyz", "xyz and more")):
            results.write(out, {"log": text})
            os.utime(out / "log", ns=(node_now, node_now))
            done = await sync_results(remote, "~/out", tmp_path / "back")
            assert done.complete
            assert results.tree(tmp_path / "back") == {b"log": text.encode()}, number


def test_e20_certificates_of_a_relay_hold_whatever_a_clock_says() -> None:
    found = x509.load_pem_x509_certificate(make_identity("node").certificate.encode())
    assert (found.not_valid_before_utc.year, found.not_valid_after_utc.year) == (1970, 2110)


# --- E19: the line


class Bad(ShellRemote):
    """A node whose line flips a bit of the n-th frame of contents, or ends before it."""

    def __init__(self, home: Path, frame: int, *, cut: bool) -> None:
        super().__init__(home)
        self.frame, self.cut, self.seen = frame, cut, 0

    async def open(self, line: str, *, kind: str | None = None) -> Channel:
        channel = await super().open(line, kind=kind)
        send = channel.send

        def spoil(data: bytes) -> None:
            if data[:1] == b"D" and len(data) > 5:
                self.seen += 1
                if self.seen == self.frame and self.cut:
                    send(data[: len(data) // 2])
                    channel.send_eof()
                    return
                if self.seen == self.frame:
                    at = len(data) // 2
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            if not channel.process.stdin.is_closing():
                send(data)

        channel.send = spoil  # type: ignore[method-assign]
        return channel


@pytest.mark.parametrize("frame", [1, 3, 6])
@pytest.mark.parametrize("cut", [False, True], ids=["flipped", "cut"])
async def test_e19_what_spoils_a_large_file_that_is_mended_is_found(
    tmp_path: Path, source: Path, frame: int, cut: bool
) -> None:
    site = tmp_path / "home" / "proj"
    async with ShellRemote(tmp_path / "home") as remote:
        await push_code(remote, source)
        before = tree(site)
        with (source / "large").open("r+b") as file:
            for number in range(5):
                file.seek(number * MIB)
                file.write(os.urandom(700_000))
        write(source, {"a.py": "new"})
        async with Bad(tmp_path / "home", frame, cut=cut) as bad:
            with pytest.raises((TransferFailed, ProgramFailed, ConnectionLost)):
                await push_code(bad, source)
            assert bad.seen >= frame
        assert tree(site) == before
        await push_code(remote, source)
        assert tree(site) == tree(source)
        assert list((site / ".asyncdeploy" / "staging").iterdir()) == []
