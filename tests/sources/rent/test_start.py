"""start.sh, by which containers of RunPod and Vast begin, run with an /etc/ssh, /root, /run and port 22 of its own."""

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from asyncdeploy.sources.rent.keys import KeyPair, new_key
from asyncdeploy.sources.rent.providers.container import start_env, start_line, start_script
from asyncdeploy.sources.rent.want import Order, Want
from tests.support import tools

BEGIN = """\
set -e
ip link set lo up
mount --bind "$PLACE/ssh" /etc/ssh
mount --bind "$PLACE/root" /root
mount -t tmpfs none /run
exec "$@"
"""
MAX_VAST = 4096
"""Characters of its ``args``."""


def test_what_each_provider_is_told_is_the_same() -> None:
    assert shlex.split(start_line()) == ["sh", "-c", start_script()]
    assert len(start_script()) < MAX_VAST


def test_a_container_that_it_starts_has_the_keys_of_the_order_and_no_others(tmp_path: Path) -> None:
    rental, host = new_key(), new_key()
    with container(tmp_path, rental, host) as pid:
        known, key = tmp_path / "known_hosts", tmp_path / "key"
        key.write_text(rental.private)
        key.chmod(0o600)
        known.write_text(f"127.0.0.1 {new_key().public}\n")
        other = ssh(pid, known, key, "true")
        assert other.returncode == 255
        assert "Host key verification failed" in other.stderr
        known.write_text(f"127.0.0.1 {host.public}\n")
        said = ssh(pid, known, key, "cat ~/.ssh/authorized_keys; ls /etc/ssh/ssh_host_*; cat /proc/1/environ")
        assert said.returncode == 0, said.stderr
        assert said.stdout.splitlines()[0] == rental.public
        assert said.stdout.count("/ssh_host_") == 2, "the host's key and its public line"
        assert "AD_HOST_KEY" not in said.stdout
        key.write_text(new_key().private)
        assert "Permission denied" in ssh(pid, known, key, "true").stderr


@contextlib.contextmanager
def container(place: Path, rental: KeyPair, host: KeyPair) -> Iterator[int]:
    """Start it; the value is the process whose network it has."""
    tools.need_root()
    tools.need("sshd", "ssh", "ssh-keygen", "ssh-keyscan", "unshare", "nsenter", "ip")
    shutil.copytree("/etc/ssh", place / "ssh")
    (place / "root").mkdir(mode=0o700)
    order = Order("ad-me-abcdefgh-0-1000000000", Want("A", usd_per_hour=1.0), rental.public, host.public, host.private)
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BEGIN, "sh"]
    environ = {"PATH": os.environ["PATH"], "HOME": "/root", "PLACE": str(place), **start_env(order)}
    with (place / "said").open("w") as said:
        child = subprocess.Popen(words + shlex.split(start_line()), env=environ, stdout=said, stderr=said)
        try:
            while net_of(child.pid) == net_of(os.getpid()):  # else the sshd of this machine would answer
                assert child.poll() is None, (place / "said").read_text()
                time.sleep(0.01)
            while not inside(child.pid, "ssh-keyscan", "-T", "1", "127.0.0.1").stdout:
                assert child.poll() is None, (place / "said").read_text()
                time.sleep(0.05)
            yield child.pid
        finally:
            child.kill()
            child.wait()


def net_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def inside(pid: int, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["nsenter", "--net", "-t", str(pid), *words], capture_output=True, text=True, timeout=60, check=False
    )


def ssh(pid: int, known: Path, key: Path, line: str) -> "subprocess.CompletedProcess[str]":
    options = {"UserKnownHostsFile": known, "GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "yes"}
    options |= {"IdentityFile": key, "IdentitiesOnly": "yes", "BatchMode": "yes", "HostKeyAlgorithms": "ssh-ed25519"}
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return inside(pid, "ssh", "-F", "none", *words, "root@127.0.0.1", line)
