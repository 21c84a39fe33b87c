"""What environments cost: N nodes at once beside the slowest single one, a second deploy, entry by docker and nix."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

import asyncdeploy as ad
from asyncdeploy.values.command import Command
from benchmarks.bed import bed_of
from benchmarks.measure import options, save
from tests.support.beds.docker import IMAGE, docker_daemon
from tests.support.beds.index import Index, write_release
from tests.support.beds.nix import flake, nix_variables
from tests.support.beds.sshd import SshdBed

PACKAGES = 40


@attrs.define
class Clock:
    """Hears how long each node's environment took, and how much was asked of the nodes."""

    seconds: dict[str, float] = attrs.Factory(dict)

    def __call__(self, event: ad.Event) -> None:
        if isinstance(event, ad.StageFinished) and event.stage == "env":
            self.seconds[event.node] = event.seconds


def table(title: str, rows: dict[str, float], ratio: str) -> None:
    """Print one case."""
    print(f"\n## {title}\n\n| | s |\n|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.3f} |")
    print(f"\n{ratio}", flush=True)


def write_project(folder: Path, index: Index) -> None:
    """A project of many packages, from an index on loopback."""
    names = [f"lib{number}" for number in range(PACKAGES)]
    for name in names:
        write_release(index.wheels, name, "1.0", files=25, size=2000)
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = {names!r}\n'
        f'[tool.uv]\npackage = false\n[[tool.uv.index]]\nurl = "{index.url}"\ndefault = true\n'
    )


async def bootstraps(nodes: list[ad.Node], known_hosts: Path, project: Path) -> tuple[float, float, float]:
    """Return the wall time of fresh nodes' environments, the slowest one's own, and the time of a second deploy."""
    clock, began = Clock(), 0.0
    async with ad.Pool(host_keys=ad.HostKeys.strict(known_hosts), observer=clock) as pool:
        (await ad.push_all(nodes, project, pool=pool)).unwrap()
        began = time.monotonic()
        (await ad.deploy_all(nodes, project, ad.UvEnv(), pool=pool)).unwrap()
        wall, slowest = time.monotonic() - began, max(clock.seconds.values())
        began = time.monotonic()
        (await ad.deploy_all(nodes, project, ad.UvEnv(), pool=pool)).unwrap()
        return wall, slowest, time.monotonic() - began


def measure_bootstraps(args: argparse.Namespace, hosts: int, repeat: int) -> None:
    """N nodes at once, beside the slowest of them."""
    walls, slowests, seconds = [], [], []
    for _ in range(repeat):
        with TemporaryDirectory() as place, Index(Path(place) / "wheels") as index, bed_of(hosts) as bed:
            write_project(Path(place) / "proj", index)
            nodes = tuple(ad.Node.from_dict(each) for each in json.loads(bed.nodes_file.read_text()))
            result = asyncio.run(bootstraps(list(nodes), bed.known_hosts, Path(place) / "proj"))
            for values, value in zip((walls, slowests, seconds), result, strict=True):
                values.append(value)
    wall, slowest, second = map(statistics.median, (walls, slowests, seconds))
    title = f"uv environments of {PACKAGES} packages on {hosts} nodes at once"
    rows = {"asyncdeploy": wall, "slowest single node of the same run": slowest, "a second deploy": second}
    table(title, rows, f"{wall / slowest:.2f} of the slowest single one")
    save(title, {name: {"wall_s": round(value, 3)} for name, value in rows.items()}, args)


@contextlib.contextmanager
def docker_node() -> Iterator[tuple[SshdBed, ad.Env, Callable[[ad.Deployment], str]]]:
    """A node with docker, and the shortest line that runs something in a container of the same kind."""
    with docker_daemon() as daemon:
        bed = SshdBed()
        try:
            bed.start("d0", config={"SetEnv": f"DOCKER_HOST={daemon.env['DOCKER_HOST']}"})
            words = "docker run --rm --init --network host --ipc host"
            yield bed, ad.DockerEnv(IMAGE, ulimits=()), lambda made: f"{words} -v {made.site.path}:/w {IMAGE} true"
        finally:
            bed.close()


@contextlib.contextmanager
def nix_node() -> Iterator[tuple[SshdBed, ad.Env, Callable[[ad.Deployment], str]]]:
    """A node with nix, and the shell that nix itself would run."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as place:
        bed = SshdBed()
        try:
            variables = nix_variables(Path(place))
            bed.start("n0", config={"SetEnv": " ".join(f"{name}={value}" for name, value in variables.items())})
            words = "nix --extra-experimental-features nix-command --extra-experimental-features flakes develop"
            yield bed, ad.NixEnv(), lambda made: f"{words} path:{shlex.quote(made.site.path)} -c true"
        finally:
            bed.close()


async def entry(bed: SshdBed, env: ad.Env, own: Callable[[ad.Deployment], str], repeat: int) -> dict[str, float]:
    """Return medians: of a bare command, of the tool's own line, of a command in the environment."""
    (sshd,) = bed.nodes
    with TemporaryDirectory() as place:
        project = Path(place) / "proj"
        project.mkdir()
        (project / "flake.nix").write_text(flake())
        async with ad.Pool(host_keys=ad.HostKeys.strict(sshd.known_hosts)) as pool:
            made = await ad.deploy_project(pool, sshd.node, project, env)
            bare = attrs.evolve(made, env=ad.SystemEnv())
            asked = {
                "a bare command": (bare, Command("true")),
                "the tool's own line": (bare, Command(own(made))),
                "asyncdeploy": (made, Command("true")),
            }
            seconds: dict[str, list[float]] = {name: [] for name in asked}
            for _ in range(repeat):
                for name, (where, command) in asked.items():
                    began = time.monotonic()
                    (await ad.run_in_project(pool, where, command)).check()
                    seconds[name].append(time.monotonic() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Run all cases."""
    args = options(__doc__ or "")
    measure_bootstraps(args, args.hosts or (2 if args.tiny else 16), 1 if args.tiny else args.repeat)
    for tool, node in (("docker", docker_node), ("nix", nix_node)):
        if shutil.which(tool) is None and tool == "nix":
            print(f"no {tool} here", file=sys.stderr)
            continue
        with node() as (bed, env, own):
            rows = asyncio.run(entry(bed, env, own, 2 if args.tiny else 15))
        more = rows["asyncdeploy"] - rows["the tool's own line"]
        title = f"a command by {tool}"
        table(title, rows, f"{more * 1000:+.0f} ms beside the tool's own line")
        save(title, {name: {"wall_s": round(value, 4)} for name, value in rows.items()}, args)


if __name__ == "__main__":
    main()
