"""What befalls the nodes of a story, and how all of it is over at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulator.machine.node import Node
    from tests.simulator.machine.world import World
    from tests.simulator.story import Fault


def arrange(world: World, faults: tuple[Fault, ...]) -> None:
    """Have each fault come at its time."""
    for fault in faults:
        world.loop.call_later(fault.at_s, _befall, world, fault, context=world.context())


def _befall(world: World, fault: Fault) -> None:
    if world.is_healed:
        return
    node = world.nodes[world.names[fault.node % len(world.names)]]
    world.note(f"{fault.does} befalls {node.name}")
    world.befell.append((world.loop.now, fault.does, node.name, fault.for_s))
    KINDS[fault.does](node, fault.for_s)


def _later(node: Node, seconds: float, work: Callable[[], object]) -> None:
    node.loop.call_later(seconds, work, context=node.world.context())


def _cut(node: Node, _for_s: float) -> None:
    for link in tuple(node.links):
        link.cut()


def _silent(node: Node, _for_s: float) -> None:
    for link in node.links:
        link.fall_silent()


def _still(node: Node, for_s: float) -> None:
    for link in node.links:
        link.stand_still(for_s)


def _dark(node: Node, for_s: float) -> None:
    node.is_dark = True
    _silent(node, for_s)
    _later(node, for_s, lambda: setattr(node, "is_dark", False))


def _full(node: Node, for_s: float) -> None:
    node.disk_is_full = True
    _later(node, for_s, lambda: setattr(node, "disk_is_full", False))


def _slow(node: Node, for_s: float) -> None:
    node.disk_s = node.world.chance.choice((0.2, 2.0, 40.0))
    _later(node, for_s, lambda: setattr(node, "disk_s", 0.0))


def _clock(node: Node, for_s: float) -> None:
    node.clock_off_s += node.world.chance.choice((-1, 1)) * for_s * 100


def _client_clock(node: Node, for_s: float) -> None:
    node.world.clock.jumped_s += node.world.chance.choice((-1, 1)) * for_s * 100


def _lie(node: Node, _for_s: float) -> None:
    node.lies += 1


def _kill_worker(node: Node, _for_s: float) -> None:
    _kill(node, "/worker")


def _kill_supervisor(node: Node, _for_s: float) -> None:
    _kill(node, "/supervisor")


def _kill(node: Node, name: str) -> None:
    found = [process for process in node.processes.values() if process.name.endswith(name)]
    if found:
        found[node.world.chance.randrange(len(found))].die()


def _stop(node: Node, for_s: float) -> None:
    """A worker or a supervisor hangs: it was stopped, or its disk has gone."""
    found = [process for process in node.processes.values() if not process.name.endswith("/command")]
    if found:
        node.loop.hold(found[node.world.chance.randrange(len(found))], for_s)


def _few_sessions(node: Node, _for_s: float) -> None:
    node.max_sessions = node.world.chance.choice((1, 2, 4))


def _die(node: Node, _for_s: float) -> None:
    """The client is killed: its kernel closes its connections."""
    world = node.world
    if world.client.is_dead:
        return
    world.client.is_dead = True
    for each in world.nodes.values():
        for link in tuple(each.links):
            link.carry("there", link.login.end)
    world.client_died.set()


KINDS: dict[str, Callable[[Node, float], None]] = {
    "cut": _cut,
    "silent": _silent,
    "still": _still,
    "restart": lambda node, for_s: node.restart(min(for_s, 30.0)),
    "dark": _dark,
    "full": _full,
    "slow": _slow,
    "clock": _clock,
    "client clock": _client_clock,
    "lie": _lie,
    "kill worker": _kill_worker,
    "kill supervisor": _kill_supervisor,
    "stop": _stop,
    "few sessions": _few_sessions,
    "die": _die,
}


def heal(world: World) -> None:
    """End all that befell, and let no more come: what is cut stays cut, what is silent is found out."""
    world.is_healed = True
    for node in world.nodes.values():
        for process in node.processes.values():
            world.loop.go_on(process)
        node.is_down = node.is_dark = node.disk_is_full = False
        node.disk_s, node.max_sessions, node.lies = 0.0, 10, 0
