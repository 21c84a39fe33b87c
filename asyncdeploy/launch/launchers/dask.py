"""DaskCluster: a scheduler and workers on the nodes of a launch, with TLS. No I/O."""

from __future__ import annotations

import shlex

import attrs

from asyncdeploy.launch.launchers.engine import (
    JOIN_S,
    bracketed,
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
from asyncdeploy.push.relay.tls import make_identity
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, Secret, Secrets
from asyncdeploy.values.serialize import PlainData, not_plain

DEATH_S = 60.0
"""A worker that finds no scheduler for so long ends, whoever else watches."""
_TLS = "DASK_DISTRIBUTED__COMM__"
_PLANNED = (
    *("--host", "--name", "--nworkers", "--nprocs", "--nthreads", "--memory-limit", "--resources", "--death-timeout"),
    *("--local-directory", "--dashboard", "--no-dashboard", "--dashboard-address", "--scheduler-file", "--protocol"),
    *(
        "--tls-ca-file",
        "--tls-cert",
        "--tls-key",
        "--interface",
        "--worker-port",
        "--listen-address",
        "--contact-address",
    ),
    "--version",
)


def _secrets() -> Secrets:
    """Return what all processes of a cluster prove themselves by: one certificate, as texts; no node needs a file."""
    identity = make_identity("dask")
    found = [(f"{_TLS}TLS__CA_FILE", Secret(identity.certificate))]
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        found += [
            (f"{_TLS}TLS__{role}__CERT", Secret(identity.certificate)),
            (f"{_TLS}TLS__{role}__KEY", Secret(identity.key)),
        ]
    return tuple(found)


@checked_class
@attrs.frozen(kw_only=True)
class DaskCluster(PlainData):
    """A Dask cluster over all nodes of a launch: the scheduler on node rank 0, workers on every node.

    Who computes with it (``run_on_cluster``) says ``Client()`` and nothing else. Every connection is TLS, with a
    certificate of this cluster alone: without, whoever reaches a port runs code there.

    Args:
        workers: processes a node; None is the node's slots, else the GPUs seen, else one for each ``threads`` CPUs.
        threads: threads a worker.
        memory: of each worker, as Dask takes it: "auto", "4GiB", "0" for no limit.
        resources: what each worker says that it has, {"GPU": 1}.
        options: further options of ``dask worker`` ("--lifetime=1h").
        join_s: seconds that the nodes have to join.
        name: what the launch is called.
        master_port: TCP port of the scheduler; None is a free one, found and proven.

    Raises:
        ValueError: an option that follows from the plan, a number out of range.
    """

    workers: int | None = None
    threads: int = 1
    memory: str = "auto"
    resources: tuple[tuple[str, float], ...] = attrs.field(default=(), converter=to_resources)
    options: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    join_s: float = JOIN_S
    name: str = "dask"
    master_port: int | None = None
    secrets: Secrets = attrs.field(factory=_secrets, init=False, repr=False, eq=False, metadata=not_plain())

    def __attrs_post_init__(self) -> None:
        check_at_least("DaskCluster workers", self.workers, 1)
        check_at_least("DaskCluster threads", self.threads, 1)
        if not self.memory or "\0" in self.memory:
            raise ValueError(f"DaskCluster memory: 'auto' or a size was expected, got {self.memory!r}")
        check_master_port("DaskCluster", self.master_port)
        check_resources("DaskCluster", self.resources)
        check_options("DaskCluster", self.options, _PLANNED)
        check_join("DaskCluster", self.join_s)
        check_name("DaskCluster", self.name)

    @property
    def nproc_per_node(self) -> int | None:
        """Workers a node."""
        return self.workers

    @property
    def uneven(self) -> bool:
        """True: its nodes need not be alike."""
        return True

    @property
    def opens_port(self) -> bool:
        """True: the scheduler listens before any work begins."""
        return True

    @property
    def package(self) -> str:
        """The distribution that every environment must have."""
        return "distributed"

    @property
    def least_version(self) -> tuple[int, ...]:
        """What was tried."""
        return (2024, 1)

    @property
    def shared_memory_bytes(self) -> int:
        """None is needed."""
        return 0

    @property
    def prover(self) -> str:
        """The program that sees who has joined."""
        return "dask_nodes"

    def driver_env(self, placement: Placement) -> dict[str, str]:
        """Return what ``Client()`` finds the scheduler by."""
        return {"DASK_SCHEDULER_ADDRESS": f"tls://{head_of(placement)}"}

    def members(self, placement: Placement) -> tuple[str, ...]:
        """Return of each node its name and how many workers it must have, 0 for those that its CPUs make."""
        return tuple(word for place in placement.places for word in (place.node.name, str(self._count(place) or 0)))

    def commands(self, placement: Placement) -> tuple[Command, ...]:
        """Return one command a node, in node rank order; the same plan gives the same commands."""
        return engine_ranks(self.name, self._engine).commands(placement)

    def _engine(self, placement: Placement, place: NodePlace) -> Command:
        env = {f"{_TLS}REQUIRE_ENCRYPTION": "True", f"{_TLS}DEFAULT_SCHEME": "tls"}
        return Command(self._lines(placement, place), env=env, secrets=self.secrets)

    def _count(self, place: NodePlace) -> int | None:
        """Return how many workers a node has, None if as many as its CPUs make."""
        return place.nproc if self.workers or place.node.slots or place.nproc > 1 else None

    def _lines(self, placement: Placement, place: NodePlace) -> str:
        worker = self._worker(placement, place)
        if place.node_rank:
            return worker
        scheduler = words_of(
            ["dask", "scheduler", "--no-dashboard"],
            {
                "--host": f"tls://{bracketed(placement.master_addr)}",
                "--port": str(placement.master_port),
                "--dashboard-address": "127.0.0.1:0",  # what it opens all the same, open to nobody else
            },
        )
        # Each ends with the other; the scheduler's end is the one that says how it went.
        return f'{scheduler} & scheduler=$!\n({worker}; kill "$scheduler") &\nwait "$scheduler"'

    def _worker(self, placement: Placement, place: NodePlace) -> str:
        count = self._count(place)
        cpus = f'"$(n=$(($(nproc) / {self.threads})); [ "$n" -gt 0 ] || n=1; echo "$n")"'
        resources = " ".join(f"{name}={amount:g}" for name, amount in self.resources)
        words = words_of(
            ["dask", "worker", f"tls://{head_of(placement)}", "--no-dashboard"],
            {
                "--host": bracketed(place.address),
                "--name": place.node.name,
                "--nthreads": str(self.threads),
                "--memory-limit": self.memory,
                "--dashboard-address": "127.0.0.1:0",
                "--death-timeout": f"{max(self.join_s, DEATH_S):g}",
                "--local-directory": engine_folder(placement, place.node_rank),
                "--resources": resources or None,
            },
        )
        return " ".join([words, "--nworkers", str(count) if count else cpus, *map(shlex.quote, self.options)])
