"""By which names a node's key is known.

OpenSSH knows an address alone. Here a node's own name counts before its address, and the way to it is part of where it
is: behind two jump hosts one private address is two machines, and behind loopback is whatever tunnel ends there.
"""

from __future__ import annotations

import ipaddress

import attrs

from asyncdeploy.connect.ssh.config.answer import Trust
from asyncdeploy.connect.ssh.known_hosts.entries import address_name
from asyncdeploy.nodes.names import default_name


@attrs.frozen
class Identity:
    """Whose key it is.

    Attributes:
        node: the node's name.
        host, port: where it is reached.
        way: the names of its jump hosts, the nearest first.
        trust: what ssh_config says of its key.
        gate: how ssh is told to go to the nearest jump host.
    """

    node: str
    host: str
    port: int
    way: tuple[str, ...] = ()
    trust: Trust = attrs.field(factory=Trust)
    gate: str = ""

    @property
    def address(self) -> str:
        """Where it is, as OpenSSH looks it up."""
        return self.trust.alias or address_name(self.host, self.port)

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its key is recorded; of them the first that is known alone counts."""
        derived = {self.host.lower(), default_name(self.host, self.port).lower()}
        own = () if self.node.lower() in derived else (self.node,)
        if self.trust.alias:  # given for this very purpose
            return tuple(dict.fromkeys([self.trust.alias, *own]))
        return (*own, self.where)

    @property
    def where(self) -> str:
        """Where it is, with the way to it."""
        return self.address if self.trust.alias else "/".join([*self.way, self.address])

    @property
    def borrowed(self) -> str | None:
        """The address, where others may have it too: behind another jump host, or at the end of another tunnel.

        It must show a key that OpenSSH recorded for that address. One that we recorded may be the other one's.
        """
        is_tunnel = is_loopback(self.host) and len(self.names) > 1
        return self.address if not self.trust.alias and (self.way or is_tunnel) else None

    @property
    def every_name(self) -> tuple[str, ...]:
        """All names under which something may be said of it."""
        return tuple(dict.fromkeys([*self.names, self.address, self.host]))

    @property
    def principal(self) -> str:
        """The name for which a host certificate must be good."""
        return self.trust.alias or self.host.lower()


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, where the ends of tunnels are."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.localdomain", "ip6-localhost")
