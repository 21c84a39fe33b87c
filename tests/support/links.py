"""Launches whose supervisors watch each other: on machines, and the two sides of their link alone."""

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.deploy import Deployment
from asyncdeploy.envs.system import SystemEnv
from asyncdeploy.fleet.deploy import deploy_all
from asyncdeploy.launch.gang.start import start_launch
from asyncdeploy.launch.launch import Launch
from asyncdeploy.launch.launchers.ranks import Ranks
from asyncdeploy.node_side.launch import gang
from asyncdeploy.values.workspace import Workspace
from tests.support.beds.sshd_node import SshdNode

WAITS = "echo up; while :; do sleep 0.1; done"
PLAN = {"count": 2, "names": ["a", "b"], "host": "127.0.0.1", "key": "11" * 32, "silence_s": 60, "grace_s": 1}


@attrs.frozen
class Bed:
    """Machines, and how to reach them again."""

    machines: tuple[SshdNode, ...]

    def pool(self) -> Pool:
        return Pool(host_keys=HostKeys.strict(self.machines[0].known_hosts))

    def exits(self, launch: Launch) -> list[bool]:
        """Of each rank, whether its end is written down."""
        return [
            (machine.home / ".asyncdeploy/jobs" / job.id / "exit").exists()
            for machine, job in zip(self.machines, launch.jobs, strict=True)
        ]

    async def start(self, workspace: Workspace, ranks: Ranks, silence_s: float = 60.0) -> Launch:
        """Start a launch and leave."""
        async with self.pool() as pool:
            nodes = [machine.node for machine in self.machines]
            deployments: tuple[Deployment, ...] = (await deploy_all(nodes, workspace, SystemEnv(), pool=pool)).unwrap()
            return await start_launch(pool, deployments, ranks, grace_s=0.5, silence_s=silence_s)

    def marks(self, launch: Launch) -> list[int]:
        """How many ranks say that they are up."""
        return [
            rank
            for rank, (machine, job) in enumerate(zip(self.machines, launch.jobs, strict=True))
            if "up" in (machine.home / ".asyncdeploy/jobs" / job.id / "log").read_text()
        ]


def sockets(machine: SshdNode, state: str) -> list[str]:
    """The local ends of a machine's sockets in a state, as /proc has them; sshd's own left out."""
    texts = [Path(f"/proc/{machine.pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for text in texts for line in text.splitlines()[1:]]
    return [row[1] for row in rows if row[3] == state and not row[1].endswith(":0016")]


def established(machine: SshdNode) -> int:
    """How many connections the supervisor of a machine has."""
    return len(sockets(machine, "01"))


def ranks(*lines: str) -> Ranks:
    """A launcher whose node rank n runs line n."""
    cases = "".join(f"{rank}) {line} ;;\n" for rank, line in enumerate(lines))
    return Ranks(f"case $NODE_RANK in\n{cases}esac", nproc_per_node=1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def pair() -> tuple[gang.Hub, gang.Guest]:
    port = free_port()
    hub = gang.Hub({**PLAN, "port": port, "rank": 0, "name": "a"})
    return hub, gang.Guest({**PLAN, "port": port, "rank": 1, "name": "b"})


def talk(hub: gang.Hub, guest: gang.Guest, until: Callable[[], bool], times: int = 200) -> bool:
    """Let both do what there is to do until something is so; False if it never is."""
    for _ in range(times):
        if until():
            return True
        guest.tick(time.monotonic())
        hub.tick(time.monotonic())
        select.select([*hub.fds(), *guest.fds()], [], [], 0.01)
    return False
