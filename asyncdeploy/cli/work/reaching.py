"""The way to a node of a run: its port at one of ours, the system's ssh with all that it needs to be told."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

import asyncdeploy as ad
from asyncdeploy.cli.desk.desk import Desk
from asyncdeploy.cli.settings.options import Project
from asyncdeploy.cli.settings.rented import known_hosts_of
from asyncdeploy.cli.settings.usage import UsageError, unknown
from asyncdeploy.cli.work.looking import node_of_rank
from asyncdeploy.cli.work.runs import Found, find_run, folder
from asyncdeploy.cli.work.written import destination, hops
from asyncdeploy.connect.ssh.endpoint import Place, Places
from asyncdeploy.envs.registry import env_from_dict

SHELL = 'exec "${SHELL:-/bin/sh}"'
"""No login shell: its profile would take the environment off PATH again."""


async def forward(desk: Desk, text: str, port: int, local_port: int) -> int:
    """Carry connections until a Ctrl-C."""
    found, index = await find_place(desk, text)
    node = found.nodes[index]
    async with ad.forward(desk.pool, node, port, local_port=local_port) as local:
        said = {"node": node.name, "port": port, "local_port": local.local_port, "url": local.url}
        desk.out.event("Forwarding", said)
        desk.out.result(local.url)
        desk.out.say(f"port {port} of {node.name}; Ctrl-C ends it")
        await asyncio.get_running_loop().create_future()
    return 0


async def find_place(desk: Desk, text: str) -> tuple[Found, int]:
    """Return the run of RUN/RANK or RUN/NODE, and the place of the node among its own; without, the first."""
    run, _, place = text.partition("/")
    found = await find_run(desk, run)
    names = [node.name for node in found.nodes]
    if place in names:
        return found, names.index(place)
    if place and not place.isdigit():
        raise UsageError(str(unknown(f"node of {found.id}", place, names)))
    rank = int(place or 0)
    if found.launch is not None:
        return found, node_of_rank(found.launch, rank)
    if rank >= len(names):
        raise UsageError(f"{found.id} has {len(names)} jobs, got number {rank}")
    return found, rank


async def ssh_words(desk: Desk, text: str) -> list[str]:
    """Return the argv of the system's ssh that opens a shell in the project, inside its environment."""
    found, index = await find_place(desk, text)
    node = found.nodes[index]
    inside = (await _deployment(desk, found, index)).enter(ad.Command(SHELL))
    lines = [f"cd {_quoted_path(inside.cwd)} || exit"] if inside.cwd else []
    lines += [f"export {name}={shlex.quote(value)}" for name, value in inside.env]
    script = "\n".join([*lines, inside.line])
    accepts = ["-o", "StrictHostKeyChecking=accept-new"] if desk.accepts else []
    return ["ssh", "-t", *accepts, *_way(node), f"exec sh -c {shlex.quote(script)}"]


def show_words(desk: Desk, words: list[str]) -> None:
    """Print the line, or give it to a program."""
    desk.out.result(shlex.join(words))
    desk.out.document({"ok": True, "exit": 0, "argv": words})


async def _deployment(desk: Desk, found: Found, index: int) -> ad.Deployment:
    """Return what stands there: as this home remembers it, else by the run's folder and the settings' environment."""
    node = found.nodes[index]
    kept = {each.node.name: each for each in (found.kept.deployments if found.kept else ())}
    if node.name in kept:
        return kept[node.name]
    path = found.launch.workdirs[index] if found.launch is not None else found.jobs[index].site
    facts = await ad.probe_node(desk.pool.at(node))
    env: ad.Env = ad.SystemEnv()
    if found.kept is not None and found.kept.env is not None:
        env = env_from_dict(found.kept.env)
    elif path:
        env = desk.env(Project())
    return ad.Deployment(node, ad.Site(path or facts.home), env, facts)


def _quoted_path(path: str) -> str:
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _way(node: ad.Node) -> list[str]:
    """Return the words by which ssh gets to a node; ssh_config adds what the node does not say, as it does for us."""
    words = ["-p", str(node.port)] if node.port else []
    words += ["-l", node.user] if node.user else []
    words += ["-i", str(node.key_path), "-o", "IdentitiesOnly=yes"] if node.key_path else []
    known = known_hosts_of(node)
    words += ["-o", f'UserKnownHostsFile="{known}"'] if known else []
    if node.jump is not None:
        way = list(hops(node.jump))[::-1]
        if any(hop.key_path for hop in way):  # -J has no word for a hop's own key
            words += ["-o", f"ProxyCommand={shlex.join(['ssh', '-W', '[%h]:%p', *_way(node.jump)])}"]
        else:
            words += ["-J", ",".join(map(destination, way))]
    return [*words, node.host]


async def write_config(desk: Desk, text: str) -> int:
    """Write Host entries of a run's nodes: RUN-0, RUN-1, ..., for ssh, scp, rsync and editors."""
    found = await find_run(desk, text)
    places = Places()
    ways = [list(hops((await places.find(node)).route.jump))[::-1] for node in found.nodes]
    keyed = dict.fromkeys(hop for way in ways for hop in way if hop.key_path)  # ProxyJump has no word for its key
    names = {hop: f"{found.id}-jump-{number}" for number, hop in enumerate(keyed)}
    lines = [f"# {found.id}, by asyncdeploy ssh --ssh-config; written anew each time"]
    for hop, name in names.items():
        lines += _entry(name, hop, await places.find(hop))
    for rank, (node, way) in enumerate(zip(found.nodes, ways, strict=True)):
        lines += _entry(f"{found.id}-{rank}", node, await places.find(node))
        lines += [f"    ProxyJump {','.join(names.get(hop) or destination(hop) for hop in way)}"] if way else []
    path = _write(folder().parent / "ssh_config", "\n".join([*lines, ""]))
    desk.out.result(f"Include {path}")
    desk.out.say(f"put this line at the top of ~/.ssh/config; then: ssh {found.id}-0")
    desk.out.document(
        {"ok": True, "exit": 0, "path": path, "hosts": [f"{found.id}-{rank}" for rank in range(len(found.nodes))]}
    )
    return 0


def _entry(name: str, node: ad.Node, place: Place) -> list[str]:
    lines = [f"Host {name}", f"    HostName {place.route.host}", f"    Port {place.route.port}"]
    lines += [f"    User {place.user}"]
    lines += [f'    IdentityFile "{node.key_path}"', "    IdentitiesOnly yes"] if node.key_path else []
    known = known_hosts_of(node)
    return [*lines, *([f'    UserKnownHostsFile "{known}"'] if known else [])]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path
