"""TCP to the first of a name's addresses that answers: a dead IPv6 must not cost a node."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from asyncdeploy.tasks.threads import run_abandonable

NAMES_AT_ONCE = 32
"""Look-ups waiting for a slow name server; a limit of our own, for the loop's few threads serve others too."""
AHEAD_S = 0.25
"""How long an address is tried alone before the next joins (RFC 8305 recommends a quarter of a second)."""


class NoSource(OSError):
    """The address to connect from is none of this machine, or of another family than where it is to go."""


class Names:
    """Looks host names up, so many at a time."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(NAMES_AT_ONCE)

    async def look_up(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> Sequence[tuple[int, Any]]:
        """Return (family, address) of each address of a host.

        Args:
            host, port: of the host.
            family: the only one that may be used; AF_UNSPEC is any.

        Raises:
            socket.gaierror: the name is not known.
        """
        flags = socket.AI_NUMERICHOST if is_numeric(host) else 0

        def look_up() -> list[tuple[Any, ...]]:
            return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags))

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


async def dial(addresses: Sequence[tuple[int, Any]], sources: Sequence[tuple[int, Any]] = ()) -> socket.socket:
    """Return a connected, non-blocking socket.

    Args:
        addresses: (family, address) as getaddrinfo gives them, in its order.
        sources: addresses to connect from, the first of each family; none lets the kernel choose.

    Raises:
        NoSource: no source is an address of this machine that could reach it.
        OSError: none could be reached; it is the first one's error.
    """
    source = dict(reversed(sources))
    if len(addresses) == 1:
        return await _try(*addresses[0], source)
    errors: dict[int, OSError] = {}
    winner: list[socket.socket] = []
    failed = [anyio.Event() for _ in addresses]

    async def attempt(number: int, family: int, address: Any) -> None:
        for earlier in failed[:number]:
            with anyio.move_on_after(AHEAD_S):
                await earlier.wait()
        try:
            sock = await _try(family, address, source)
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


async def _try(family: int, address: Any, source: Mapping[int, Any]) -> socket.socket:
    if source and family not in source:
        raise NoSource(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if source:
            _bind(sock, source[family])
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, address: Any) -> None:
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:  # connect says it where no port is free: that passes, this does not
            raise NoSource(error.errno, error.strerror) from error
        raise
