"""RayCluster: Ray's head and workers on the nodes of a launch, with a token. No I/O."""

from __future__ import annotations

import json
import secrets
import shlex

import attrs

from asyncdeploy.launch.launchers.engine import (
    JOIN_S,
    check_at_least,
    check_join,
    check_options,
    check_resources,
    engine_folder,
    engine_ranks,
    head_of,
    to_resources,
    words_of,
)
from asyncdeploy.launch.launchers.rank_env import check_master_port, check_name
from asyncdeploy.launch.placement import NodePlace, Placement
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, Secret
from asyncdeploy.values.serialize import PlainData, not_plain

SHARED_MEMORY = 1 << 30
"""Of /dev/shm, where nothing is said of the object store: docker's 64 MB is what people meet."""
_PLANNED = (
    *("--head", "--block", "--address", "--node-ip-address", "--node-name", "--port", "--num-cpus", "--num-gpus"),
    *("--resources", "--object-store-memory", "--temp-dir", "--min-worker-port", "--max-worker-port"),
    *("--worker-port-list", "--include-dashboard", "--disable-usage-stats"),
)


def _token() -> Secret:
    return Secret(secrets.token_hex(32))


@checked_class
@attrs.frozen(kw_only=True)
class RayCluster(PlainData):
    """A Ray cluster over all nodes of a launch: the head on node rank 0, a raylet on every node.

    Who computes with it (``run_on_cluster``) says ``ray.init()`` and nothing else. All its processes share a token of
    this cluster alone, without which nobody runs code there; it hides nothing of what they say to each other.

    Args:
        cpus: that each node offers; None is what Ray counts.
        gpus: that each node offers; None is what Ray sees.
        resources: what else each node says that it has, {"disk": 1}.
        object_store_gb: memory of each node's objects, in 10^9 bytes; None is what Ray takes.
        options: further options of ``ray start`` on every node ("--labels=zone=a").
        join_s: seconds that the nodes have to join.
        name: what the launch is called.
        master_port: TCP port of the head; None is a free one, found and proven.

    Raises:
        ValueError: an option that follows from the plan, a number out of range.
    """

    cpus: int | None = None
    gpus: int | None = None
    resources: tuple[tuple[str, float], ...] = attrs.field(default=(), converter=to_resources)
    object_store_gb: float | None = None
    options: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    join_s: float = JOIN_S
    name: str = "ray"
    master_port: int | None = None
    token: Secret = attrs.field(factory=_token, init=False, repr=False, eq=False, metadata=not_plain())

    def __attrs_post_init__(self) -> None:
        check_at_least("RayCluster cpus", self.cpus, 0)
        check_at_least("RayCluster gpus", self.gpus, 0)
        check_at_least("RayCluster object_store_gb", self.object_store_gb, 0.08)  # Ray's own least
        check_master_port("RayCluster", self.master_port)
        check_resources("RayCluster", self.resources)
        check_options("RayCluster", self.options, _PLANNED)
        check_join("RayCluster", self.join_s)
        check_name("RayCluster", self.name)

    @property
    def nproc_per_node(self) -> int | None:
        """None: what Ray starts is its own to decide."""
        return None

    @property
    def uneven(self) -> bool:
        """True: its nodes need not be alike."""
        return True

    @property
    def opens_port(self) -> bool:
        """True: the head listens before any work begins."""
        return True

    @property
    def package(self) -> str:
        """The distribution that every environment must have."""
        return "ray"

    @property
    def least_version(self) -> tuple[int, ...]:
        """What knows tokens: an older one would let everybody in."""
        return (2, 52)

    @property
    def shared_memory_bytes(self) -> int:
        """Where objects lie: with less, Ray takes /tmp for them, which is slow."""
        return SHARED_MEMORY if self.object_store_gb is None else int(self.object_store_gb * 1e9)

    @property
    def prover(self) -> str:
        """The program that sees who has joined."""
        return "ray_nodes"

    def driver_env(self, placement: Placement) -> dict[str, str]:
        """Return what ``ray.init()`` finds this cluster by, whatever else runs on the host."""
        return {"RAY_ADDRESS": head_of(placement)}

    def members(self, placement: Placement) -> tuple[str, ...]:
        """Return the nodes' names."""
        return tuple(place.node.name for place in placement.places)

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        """Return one command a node, in node rank order; the same plan gives the same commands."""
        return engine_ranks(self.name, self._engine).commands(placement)

    def _engine(self, placement: Placement, place: NodePlace) -> Command:
        env = {
            "RAY_AUTH_MODE": "token",  # said to every process, or ~/.ray/auth_token decides on each node by itself
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # a node that computes ends in 2 s, not in 30
            "VLLM_HOST_IP": place.address,  # it takes any interface's without
        }
        return Command(self._line(placement, place), env=env, secrets=(("RAY_AUTH_TOKEN", self.token),))

    def _line(self, placement: Placement, place: NodePlace) -> str:
        head = place.node_rank == 0
        store = None if self.object_store_gb is None else str(int(self.object_store_gb * 1e9))
        where = {"--port": str(placement.master_port)} if head else {"--address": head_of(placement)}
        words = words_of(
            ["ray", "start", "--block", "--disable-usage-stats", *(["--head"] if head else [])],
            {
                **where,
                "--node-ip-address": place.address,
                "--node-name": place.node.name,
                "--min-worker-port": "0",  # else 10002 to 19999, where the head's own port may lie
                "--max-worker-port": "0",
                "--temp-dir": f"{engine_folder(placement, place.node_rank)}/r",  # Ray opens it to everybody
                "--include-dashboard": "false" if head else None,
                "--num-cpus": None if self.cpus is None else str(self.cpus),
                "--num-gpus": None if self.gpus is None else str(self.gpus),
                "--resources": json.dumps(dict(self.resources)) if self.resources else None,
                "--object-store-memory": store,
            },
        )
        return " ".join([words, *map(shlex.quote, self.options)])
