"""By which names a node's key is known."""

from __future__ import annotations

import attrs

from asyncdeploy.connect.ssh.known_hosts.entries import address_name
from asyncdeploy.nodes.names import default_name


@attrs.frozen
class Identity:
    """Whose key it is: the node's name, and where it is reached (``alias`` is ssh_config's HostKeyAlias)."""

    node: str
    host: str
    port: int
    alias: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called in known_hosts: its own name if it has one, then its address."""
        own = () if self.node in (self.host, default_name(self.host, self.port)) else (self.node,)
        return (*own, self.address)

    @property
    def address(self) -> str:
        """The address as OpenSSH would look it up."""
        return self.alias or address_name(self.host, self.port)
