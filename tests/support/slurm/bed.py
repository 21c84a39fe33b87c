"""A real Slurm of two nodes, from the system's packages: a controller on a login node, slurmd on machines without ssh.

    login: sshd and slurmctld     two compute nodes: slurmd      all in a Network of our own, under names of our own

Processes are tracked by control group and contained, as on most clusters: what a step leaves behind dies with it. Or
they are tracked by their parents, as on some: what has left its step outlives it.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support import tools
from tests.support.beds import keeper
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.waiting import eventually_sync

FREEZER = Path("/sys/fs/cgroup/freezer")
CONF = """\
ClusterName={cluster}
SlurmctldHost=login({login})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType={tracked}
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# Names are known without asking anybody, as on a cluster: a name server does not answer here.
FIRST = """\
hostname "$0" && mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf || exit
shift
"$@" &
wait
"""


class Slurm:
    """A cluster of two nodes; `close` ends all of it.

    `login` is the machine that ssh reaches, with Slurm's programs; `names` are the compute nodes, which run no sshd.
    """

    def __init__(self, network: Network, *, groups: bool = True) -> None:
        tools.need_root()
        tools.need(
            "slurmctld", "slurmd", "munged", "srun", "salloc", "squeue", "scancel", "sinfo", "nsenter", "unshare"
        )
        if groups and not (FREEZER / "cgroup.procs").exists():
            pytest.skip("needs the freezer of cgroup v1, by which this Slurm tracks processes")
        self._groups = groups
        self._folder = Path(tempfile.mkdtemp(prefix="ad"))  # its sockets' names must stay below 108 bytes
        self.network = network
        self._conf = self._folder / "slurm.conf"
        self._programs: list[subprocess.Popen[bytes]] = []
        cluster = f"ad{os.getpid()}{secrets.token_hex(2)}"
        self.names = [f"{cluster}-{number}" for number in (1, 2)]
        self.login = network.start("login", config={"SetEnv": f"SLURM_CONF={self._conf}"})
        self.machines = [network.start(f"compute-{number}") for number in (1, 2)]
        for machine in self.machines:
            machine.stop()
        try:
            self._start(cluster)
        except BaseException:
            self.close()
            raise

    def ask(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run one of Slurm's programs on the login node and return what it printed."""
        enter = self.network.enter(self.login)
        done = subprocess.run([*enter, *words], env={**self._env(), **env}, stdout=subprocess.PIPE, check=False)
        return done.stdout.decode()

    def pids(self, number: int) -> set[int]:
        """The pids of what runs on a compute node, as it counts them."""
        below = keeper.descendants(self._programs[2 + number].pid)
        return {pid for each in below for pid in _own_pids(each)}

    def close(self) -> None:
        """End every job, the daemons and what they left."""
        self.ask("scancel", "--user=root", "--signal=KILL")
        for program in reversed(self._programs):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        for name in self.names:
            _remove_group(FREEZER / f"slurm_{name}")
        shutil.rmtree(self._folder)

    def _start(self, cluster: str) -> None:
        addresses = [self.network.address(machine) for machine in self.machines]
        nodes = [
            f"NodeName={name} NodeAddr={address} CPUs=2 RealMemory=500 State=UNKNOWN"
            for name, address in zip(self.names, addresses, strict=True)
        ]
        login = self.network.address(self.login)
        hosts = {"localhost": "127.0.0.1", "login": login, **dict(zip(self.names, addresses, strict=True))}
        (self._folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
        (self._folder / "resolv.conf").touch()
        tracked = "proctrack/cgroup\nPrologFlags=contain" if self._groups else "proctrack/linuxproc"
        words = {"cluster": cluster, "login": login, "folder": self._folder, "nodes": "\n".join(nodes)}
        words["tracked"] = tracked
        self._conf.write_text(CONF.format(**words))
        (self._folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={FREEZER.parent}\n")
        (self._folder / "state").mkdir()
        for name in self.names:
            (self._folder / name).mkdir()
        key = self._folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        kept = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        munge = [f"--{word}={self._folder}/{name}" for word, name in {**kept, "log-file": "munge.log"}.items()]
        self._run(self.login, "login", "munged", "--foreground", "--force", *munge)
        eventually_sync((self._folder / "munge.socket").exists, "munged listens")
        self._run(self.login, "login", "slurmctld", "-D")
        for name, machine in zip(self.names, self.machines, strict=True):
            self._run(machine, name, "slurmd", "-D", "-N", name)
        idle = "idle " * len(self.names)
        eventually_sync(lambda: self.ask("sinfo", "-hN", "-o%t").split() == idle.split(), "Slurm's nodes are idle")

    def _run(self, machine: SshdNode, host: str, *words: str) -> None:
        """Run a daemon on a machine, in pids of its own, whose first one is a shell that takes in orphans."""
        apart = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        first = ["sh", "-c", FIRST, host, str(self._folder), str(tools.find(words[0])), *words[1:]]
        with (self._folder / f"{words[0]}-{host}.out").open("wb") as out:
            program = subprocess.Popen(
                [*self.network.enter(machine), *apart, *first],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._env(),
                start_new_session=True,
            )
        self._programs.append(program)

    def _env(self) -> dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SLURM_CONF": str(self._conf)}


def _own_pids(pid: int) -> Iterator[int]:
    """The pid that a process has in the innermost of its namespaces."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                yield int(line.split()[-1])


def _remove_group(folder: Path) -> None:
    """Remove a control group and those below it; what was in them is ending."""
    for group in sorted([folder, *folder.rglob("*/")], key=lambda path: -len(path.parts)) if folder.exists() else ():

        def is_removed(group: Path = group) -> bool:
            with contextlib.suppress(OSError):
                group.rmdir()
            return not group.exists()

        eventually_sync(is_removed, f"{group} is empty")


@pytest.fixture
def slurm(network: Network) -> Iterator[Slurm]:
    """A real Slurm: `slurm.login`, `slurm.names`."""
    with contextlib.closing(Slurm(network)) as cluster:
        yield cluster


@pytest.fixture
def slurm_by_parents(network: Network) -> Iterator[Slurm]:
    """One that does not know what has left its steps."""
    with contextlib.closing(Slurm(network, groups=False)) as cluster:
        yield cluster
