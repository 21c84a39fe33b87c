"""Rented machines: real sshd servers on loopback addresses of their own, all at one port."""

import base64
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import attrs

from asyncdeploy.sources.rent.keys import new_key

CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
ListenAddress {address}
Port {port}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile none
SetEnv HOME={folder}
"""


@attrs.define(eq=False)
class Machine:
    """One machine at the provider; times by time.monotonic()."""

    id: str
    name: str
    address: str
    port: int
    usd_per_hour: float
    born: float
    ready_at: float
    ended_at: float | None = None
    foreign: bool = False
    process: "subprocess.Popen[bytes] | None" = None

    def lives(self, at: float) -> bool:
        return self.born <= at and (self.ended_at is None or at < self.ended_at)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Machines:
    """All of them, and the folder where their servers lie."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="adrent-"))
        self.port = random.randint(10_000, 31_000)
        self.all: dict[str, Machine] = {}
        self._net = f"127.{random.randint(2, 250)}.{random.randint(1, 250)}"
        self._count = 0

    def make(self, name: str, usd: float, *, late_s: float = 0.0, foreign: bool = False) -> Machine:
        self._count += 1
        now = time.monotonic()
        machine = Machine(
            f"m{random.randint(10**6, 10**7)}",
            name,
            f"{self._net}.{self._count}",
            self.port,
            usd,
            now,
            now + late_s,
            foreign=foreign,
        )
        self.all[machine.id] = machine
        return machine

    def boot(self, machine: Machine, public_key: str, host_key: str) -> None:
        """Start its sshd."""
        folder = self.folder / machine.id
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "host_key").write_text(host_key or new_key().private)
        (folder / "host_key").chmod(0o600)
        (folder / "authorized_keys").write_text(public_key + "\n")
        config = CONFIG.format(folder=folder, address=machine.address, port=machine.port)
        (folder / "sshd_config").write_text(config)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        machine.process = subprocess.Popen(
            [sshd, "-D", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def living(self, *, foreign: bool = False) -> list[Machine]:
        now = time.monotonic()
        return [one for one in self.all.values() if one.foreign is foreign and one.lives(now)]

    def close(self) -> None:
        for machine in self.all.values():
            machine.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def planted(env: dict[str, str]) -> tuple[str, str]:
    """The two keys that a container's variables plant."""
    return env["AD_PUBLIC_KEY"], base64.b64decode(env["AD_HOST_KEY"]).decode()
