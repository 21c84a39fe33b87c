"""The options of an SSH connection: nothing is inherited from files or the environment."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import asyncssh
from asyncssh.encryption import get_default_encryption_algs, get_encryption_algs
from asyncssh.kex import get_default_kex_algs, get_kex_algs
from asyncssh.mac import get_default_mac_algs, get_mac_algs
from asyncssh.public_key import get_public_key_algs

from asyncdeploy.connect.ssh.connection import HandshakeClient
from asyncdeploy.connect.ssh.endpoint import Place
from asyncdeploy.connect.ssh.keys import Login
from asyncdeploy.connect.ssh.known_hosts.algorithms import plain_of
from asyncdeploy.values.account import home_folder, user_name
from asyncdeploy.values.errors import ConnectError

KEEPALIVES = 3
"""Unanswered ones after which a connection is dead; at 1 s intervals a 256 kbit link gave false alarms, at 5 s none."""
FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""1.5 times chacha20's speed."""


def make_options(place: Place, login: Login, keepalive_s: float) -> asyncssh.SSHClientConnectionOptions:
    """Return options that inherit nothing from files or the environment: no forwarding, no env, no terminal.

    Raises:
        ConnectError: ssh_config allows nothing that we know.
    """
    node, said = place.identity.node, place.cryptography
    ciphers = _allowed(node, "Ciphers", said.ciphers, get_default_encryption_algs(), get_encryption_algs())
    signatures = set(map(plain_of, place.keys.algorithms or ()))
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        username=place.user,
        client_keys=list(login.pairs) or None,  # of an empty list asyncssh would make the default keys
        agent_path=None,
        agent_identities=None,
        agent_forwarding=False,
        x509_trusted_certs=None,
        x509_trusted_cert_paths=[],
        host_based_auth=False,
        kbdint_auth=True,  # only where nothing is asked, see HandshakeClient
        password_auth=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        preferred_auth="publickey,keyboard-interactive",
        env=None,
        send_env=None,
        command=None,
        request_pty=False,
        known_hosts=([], [], []),
        compression_algs=["none"],  # asyncssh would compress on the loop; what is large is compressed before
        encryption_algs=sorted(ciphers, key=lambda name: FAST.index(name) if name in FAST else len(FAST)),
        kex_algs=_allowed(node, "KexAlgorithms", said.exchanges, get_default_kex_algs(), get_kex_algs()),
        mac_algs=_allowed(node, "MACs", said.macs, get_default_mac_algs(), get_mac_algs()),
        signature_algs=[name for name in _decoded(get_public_key_algs()) if name in signatures] or "default",
        login_timeout=0,  # ours covers the banner too
        keepalive_interval=keepalive_s,
        keepalive_count_max=KEEPALIVES,
        encoding=None,
        utf8_decode_errors="replace",  # a banner in Latin-1 is no reason to stay outside
    )


@contextmanager
def _an_account() -> Iterator[None]:
    """Let asyncssh find a user and a home: it looks for both, and fails without, also where all of it is said.

    They stand in the environment for these two milliseconds alone; nothing that is made here goes by them.
    """
    missing = {}
    if user_name() is None:
        missing["LOGNAME"] = str(os.getuid())
    if "HOME" not in os.environ:
        missing["HOME"] = str(home_folder())
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _allowed(
    node: str, word: str, said: Sequence[str] | None, ours: Iterable[bytes], possible: Iterable[bytes]
) -> list[str]:
    """Return what ssh_config allows of what asyncssh can do, in our order; what we do not take by ourselves is last."""
    every = [name for name in dict.fromkeys(_decoded([*ours, *possible])) if not name.startswith("gss-")]
    if said is None:
        return list(_decoded(ours))
    found = [name for name in every if name in said]
    if not found:
        message = f"ssh_config's {word} allows nothing that is known here: {', '.join(said)[:200]}"
        raise ConnectError(node, message, f"known here: {', '.join(every)}"[:300], reason="config")
    return found


def _decoded(names: Iterable[bytes]) -> Iterable[str]:
    return [name.decode() for name in names]


class SharedOptions:
    """Options that all connections with the same user and keys share; each gets a copy with what is its own.

    Making them anew costs 2 ms and reads files; asyncssh.connect would do both, on a thread, for every connection.
    """

    def __init__(self, keepalive_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._shared: dict[tuple[object, ...], asyncssh.SSHClientConnectionOptions] = {}

    def copy_for(self, place: Place, client: HandshakeClient) -> asyncssh.SSHClientConnectionOptions:
        """Return the options of one connection.

        Args:
            place: where it goes.
            client: answers its questions, and says which keys and kinds of host keys it is about.

        Raises:
            ConnectError: ssh_config allows no cipher that we know.
        """
        shared = place.user, client.login, place.cryptography, place.keys.algorithms
        if shared not in self._shared:
            with _an_account():
                self._shared[shared] = make_options(place, client.login, self._keepalive_s)
        options = copy.copy(self._shared[shared])
        options.server_host_key_algs = list(client.algorithms)
        options.host, options.port = place.route.host, place.route.port
        options.protocol_factory = lambda: client
        return options
