"""A login in one round trip, where ssh takes four: it asks for the service, for nothing, about a key, and signs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import asyncssh
from asyncssh.packet import Boolean, SSHPacket, String

from asyncdeploy.connect.ssh.handshake.seen import Seen
from asyncdeploy.connect.ssh.handshake.watched import WatchedConnection

MAX_KEYS = 4
"""Of more than these the last ones would not be asked about: sshd stops after six tries, and "none" is one of them."""
_PUBLIC_KEY, _NONE = b"publickey", b"none"
_ACCEPT, _NEW_KEYS = 6, 21
"""SSH_MSG_SERVICE_ACCEPT, SSH_MSG_NEWKEYS (RFC 4253)."""


class EagerConnection(WatchedConnection):
    """A client's connection that saves three round trips of a login.

    The login is asked for in one flight with the service that does it; a server takes the one behind the other. What
    ssh asks first, "none" (does this account need no login?), is asked behind the keys, so that whom ssh gets in we
    get in. Whether the first key is known is not asked: an error says a little less of it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHClientConnectionOptions, seen: Seen
    ) -> None:
        super().__init__(loop, options, seen)
        self._keys = tuple(self._client_keys)
        self._nothing_asked = not 1 <= len(self._keys) <= MAX_KEYS  # as ssh does it
        self._first = self._keys[0] if not self._nothing_asked and _signs_at_once(self._keys[0]) else None
        self._is_ahead = self._is_accepted = False

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle a packet; begin the login as soon as all that comes is encrypted, and then not again."""
        self._is_accepted = pkttype == _ACCEPT
        handled = super().process_packet(pkttype, pktid, packet)
        # Which signatures of an RSA key the server takes comes behind its new keys, and decides what is signed.
        if pkttype == _NEW_KEYS and self._first is not None and b"rsa" not in self._first.algorithm:
            self._is_ahead = self._auth_in_progress = True
            self.try_next_auth()
        return handled

    def try_next_auth(self, *, next_method: bool = False) -> None:
        """Go on with the next login method."""
        if self._is_ahead and self._is_accepted:
            self._is_ahead = False
            return
        methods = self._auth_methods
        if not self._nothing_asked and not any(each.partial for each in self.seen.tries):
            if methods == [_NONE]:  # the beginning
                methods.insert(0, _PUBLIC_KEY)
            elif _PUBLIC_KEY not in methods:
                self._client_keys = list(self._keys)  # it was no turn of theirs: something else is wanted before
                methods.insert(0, _NONE)
            elif self.seen.wanted != ("publickey",):  # else each try may be the last one that is allowed
                methods.insert(methods.index(_PUBLIC_KEY) + 1, _NONE)
        super().try_next_auth(next_method=next_method)

    async def send_userauth_request(self, method: bytes, *args: bytes, key: Any = None, trivial: bool = True) -> None:
        """Try a login method; the first key at once with its signature."""
        if method == _NONE:
            self._nothing_asked = True
        first, self._first = (self._first, None) if method == _PUBLIC_KEY else (None, self._first)
        # asyncssh passes over a key whose signatures the server does not know: then this is another one.
        if first is not None and args[2] == String(first.public_data):
            try:
                await super().send_userauth_request(method, Boolean(True), *args[1:], key=first, trivial=False)
                return
            except ValueError:
                self.seen.tries.pop()  # what cannot be signed is asked about
        await super().send_userauth_request(method, *args, key=key, trivial=trivial)


def _signs_at_once(pair: asyncssh.SSHKeyPair) -> bool:
    """Whether a signature costs nobody anything: no agent that may ask a person, no token that wants a touch.

    Of an RSA key's certificate asyncssh must find out which of its names the server knows.
    """
    is_here = not hasattr(pair, "sign_async") and not pair.use_executor
    return is_here and not pair.algorithm.startswith(b"ssh-rsa-cert")
