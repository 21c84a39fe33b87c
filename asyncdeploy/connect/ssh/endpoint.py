"""A node as ssh_config completes it: where it is, as whom and with what we log in, by which names its key is known."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import attrs

from asyncdeploy.connect.ssh.config.answer import Cryptography, Keys, SshConfig
from asyncdeploy.connect.ssh.config.hosts import SshConfigs
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Route
from asyncdeploy.values.account import user_name
from asyncdeploy.values.errors import ConnectError
from asyncdeploy.values.words import one_line


@attrs.frozen
class Place:
    """A node as ssh_config completes it.

    Attributes:
        family, bind: the addresses that may be used there, and the one to connect from here.
        keys: what may be offered; of a node that names its key, that alone.
    """

    route: Route
    family: int
    bind: str | None
    user: str
    keys: Keys
    cryptography: Cryptography
    identity: Identity


def complete_node(node: Node, config: SshConfig) -> Place:
    """Fill in what the node does not say itself.

    Raises:
        ConnectError: ssh_config's ProxyJump is no way to a machine, or nothing says as whom to log in.
    """
    jump = _jump_of(node, config)
    keys = config.keys if node.key_path is None else attrs.evolve(config.keys, paths=(node.key_path,), only=True)
    return Place(
        route=Route(config.host or node.host, node.port or config.port or 22, jump),
        family=config.family if jump is None else socket.AF_UNSPEC,
        bind=config.bind if jump is None else None,
        user=node.user or config.user or _our_user(node),
        keys=keys,
        cryptography=config.cryptography,
        identity=identify(node, config, jump),
    )


def _our_user(node: Node) -> str:
    if user := user_name():
        return user
    message = f"as which user to log in is said by neither the node nor ssh_config, and uid {os.getuid()} has no name"
    raise ConnectError(node.name, message, f"write user@{node.host}", reason="config")


def identify(node: Node, config: SshConfig, jump: Node | None) -> Identity:
    """Return by which names a node's key is known."""
    way = [hop.name for hop in _hops(jump)][::-1]
    host, port = config.host or node.host, node.port or config.port or 22
    return Identity(node.name, host, port, tuple(way), config.trust, _gate(jump) if jump is not None else "")


def _gate(jump: Node) -> str:
    """Return the words by which ssh goes to a jump host."""
    before = f"-J {','.join(map(_destination, reversed(hops)))} " if (hops := list(_hops(jump.jump))) else ""
    port = f"-p {jump.port} " if jump.port else ""
    return f"{before}{port}{f'{jump.user}@' if jump.user else ''}{jump.host}"


def _hops(jump: Node | None) -> Iterator[Node]:
    while jump is not None:
        yield jump
        jump = jump.jump


def _destination(node: Node) -> str:
    host = f"[{node.host}]" if ":" in node.host else node.host
    return f"{f'{node.user}@' if node.user else ''}{host}{f':{node.port}' if node.port else ''}"


def _jump_of(node: Node, config: SshConfig) -> Node | None:
    if node.jump is not None or config.jump is None:
        return node.jump
    try:
        return attrs.evolve(node, jump=config.jump).jump
    except ValueError as error:
        message = f"ssh_config's ProxyJump {one_line(config.jump)!r} cannot be followed: {error}"
        raise ConnectError(node.name, message, reason="config") from error


class Places:
    """Where nodes are, each found out once.

    Args:
        config_path: another ssh_config than the user's.
        excused: words that are refused elsewhere, and do not matter here.
        note: is told what a person should know: (node's name, text).
    """

    def __init__(
        self,
        config_path: Path | None = None,
        excused: Collection[str] = (),
        note: Callable[[str, str], None] | None = None,
    ) -> None:
        self._configs = SshConfigs(config_path, note)
        self._excused = frozenset(excused)
        self._known: dict[Node, Place] = {}

    async def find(self, node: Node) -> Place:
        """Return where a node is and how it is logged in to.

        Raises:
            ConnectError: ssh_config cannot be read, or says what we do not do (ProxyCommand).
        """
        if node not in self._known:
            config = await self._configs.ask(node)
            place = complete_node(node, config)
            for word, value in config.refused:
                self._refuse(node, place, word, value)
            self._known[node] = place
        return self._known[node]

    async def identify(self, node: Node) -> Identity:
        """Return by which names a node's key is known, be it reached or not.

        Raises:
            ConnectError: ssh_config cannot be read.
        """
        config = await self._configs.ask(node)
        return identify(node, config, _jump_of(node, config))

    def _refuse(self, node: Node, place: Place, word: str, value: str) -> None:
        is_direct = place.route.jump is None
        if word in self._excused or (word == "ProxyCommand" and node.jump is not None):
            return
        if word == "BindInterface" and not is_direct:  # the jump host makes that connection
            return
        message = f"ssh_config has {word} for {node.host} ({one_line(value)}), which is not supported"
        raise ConnectError(node.name, message, KEYWORDS[word.lower()].why, reason="config")
