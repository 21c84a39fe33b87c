"""A node as ssh_config completes it: where it is, as whom and with what we log in, by which names its key is known."""

from __future__ import annotations

import getpass
from pathlib import Path

import attrs

from asyncdeploy.connect.ssh.config.ask import SshConfig
from asyncdeploy.connect.ssh.config.hosts import SshConfigs
from asyncdeploy.connect.ssh.dial import is_numeric
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.nodes.parse import Node
from asyncdeploy.remote.transport import Route
from asyncdeploy.values.errors import ConnectError


@attrs.frozen
class Place:
    """A node as ssh_config completes it.

    Attributes:
        keys_only: the node names its key, or ssh_config says IdentitiesOnly: the agent's others are not offered.
        agent: the ssh-agent's socket; None is $SSH_AUTH_SOCK.
    """

    route: Route
    user: str
    key_paths: tuple[Path, ...]
    keys_only: bool
    agent: str | None
    identity: Identity


def complete_node(node: Node, config: SshConfig) -> Place:
    """Fill in what the node does not say itself."""
    host, port = config.host or node.host, node.port or config.port or 22
    if config.proxy_command and node.jump is None:
        hint = "use ProxyJump, or give the node a jump"
        message = f"ssh_config has ProxyCommand for {node.host} ({config.proxy_command}), which is not supported"
        raise ConnectError(node.name, message, hint, reason="config")
    jump = node.jump
    if jump is None and config.jump:
        try:
            jump = attrs.evolve(node, jump=config.jump).jump
        except ValueError as error:
            message = f"ssh_config's ProxyJump {config.jump!r} cannot be followed: {error}"
            raise ConnectError(node.name, message, reason="config") from error
    return Place(
        route=Route(host, port, jump),
        user=node.user or config.user or getpass.getuser(),
        key_paths=(node.key_path,) if node.key_path else config.key_paths,
        keys_only=node.key_path is not None or config.keys_only,
        agent=config.agent,
        identity=Identity(node.name, host, port, config.host_key_alias),
    )


class Places:
    """Where nodes are, each found out once.

    Args:
        config_path: another ssh_config than the user's.
    """

    def __init__(self, config_path: Path | None = None) -> None:
        self._configs = SshConfigs(config_path)
        self._known: dict[Node, Place] = {}

    async def find(self, node: Node) -> Place:
        """Return where a node is and how it is logged in to.

        Raises:
            ConnectError: ssh_config cannot be read, or says what we do not do (ProxyCommand).
        """
        if node not in self._known:
            config = SshConfig() if says_all(node) else await self._configs.ask(node)
            self._known[node] = complete_node(node, config)
        return self._known[node]


def says_all(node: Node) -> bool:
    """Whether ssh_config has nothing to add: `ssh -G` costs 5 ms a node."""
    return bool(is_numeric(node.host) and node.user and node.port and node.key_path)
