"""TCP to the first of a name's addresses that answers: a dead IPv6 must not cost a node."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

import anyio

from asyncdeploy.remote.transport import Route
from asyncdeploy.tasks.threads import run_abandonable

NAMES_AT_ONCE = 32
"""Look-ups waiting for a slow name server; a limit of our own, for the loop's few threads serve others too."""
AHEAD_S = 0.25
"""How long an address is tried alone before the next joins (RFC 8305 recommends a quarter of a second)."""


class Names:
    """Looks host names up, so many at a time."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(NAMES_AT_ONCE)

    async def look_up(self, route: Route) -> Sequence[tuple[int, Any]]:
        """Return (family, address) of each address of a host.

        Raises:
            socket.gaierror: the name is not known.
        """
        flags = socket.AI_NUMERICHOST if is_numeric(route.host) else 0

        def look_up() -> list[tuple[Any, ...]]:
            return list(socket.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM, flags=flags))

        if flags:
            found = look_up()
        else:
            async with self._limiter:
                found = await run_abandonable(look_up)
        return [(family, address) for family, _, _, _, address in found]


def is_numeric(host: str) -> bool:
    """Return whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def dial(addresses: Sequence[tuple[int, Any]]) -> socket.socket:
    """Return a connected, non-blocking socket.

    Args:
        addresses: (family, address) as getaddrinfo gives them, in its order.

    Raises:
        OSError: none could be reached; it is the first one's error.
    """
    if len(addresses) == 1:
        return await _try(*addresses[0])
    errors: dict[int, OSError] = {}
    winner: list[socket.socket] = []
    failed = [anyio.Event() for _ in addresses]

    async def attempt(number: int, family: int, address: Any) -> None:
        for earlier in failed[:number]:
            with anyio.move_on_after(AHEAD_S):
                await earlier.wait()
        try:
            sock = await _try(family, address)
        except OSError as error:
            errors[number] = error
            failed[number].set()
            return
        if winner:
            sock.close()
        else:
            winner.append(sock)
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for number, (family, address) in enumerate(addresses):
                group.start_soon(attempt, number, family, address)
    except BaseException:
        for sock in winner:
            sock.close()
        raise
    if winner:
        return winner[0]
    raise errors[min(errors)]


async def _try(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
