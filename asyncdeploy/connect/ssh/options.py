"""The options of an SSH connection: nothing is inherited from files or the environment."""

from __future__ import annotations

import copy

import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from asyncdeploy.connect.ssh.endpoint import Place
from asyncdeploy.connect.ssh.host_key_checker import HostKeyChecker, Known
from asyncdeploy.connect.ssh.keys import Login

KEEPALIVES = 3
"""Unanswered ones after which a connection is dead; at 1 s intervals a 256 kbit link gave false alarms, at 5 s none."""


def make_options(user: str, login: Login, keepalive_s: float) -> asyncssh.SSHClientConnectionOptions:
    """Return options that inherit nothing from files or the environment: no forwarding, no env, no terminal."""
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        username=user,
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
        encryption_algs="^aes128-gcm@openssh.com,aes256-gcm@openssh.com",  # 1.5 times chacha20's speed
        login_timeout=0,  # ours covers the banner too
        keepalive_interval=keepalive_s,
        keepalive_count_max=KEEPALIVES,
        encoding=None,
        utf8_decode_errors="replace",  # a banner in Latin-1 is no reason to stay outside
    )


def host_key_algorithms(checker: HostKeyChecker, known: Known) -> list[str]:
    """Return host key algorithms, those of known keys first, so that the node shows the key that we know."""
    preferred = [name for key in checker.keys((*known.hard, *known.soft)) for name in key.sig_algorithms]
    certificates = get_default_certificate_algs() if known.authorities else []
    every = dict.fromkeys([*certificates, *preferred, *get_default_public_key_algs()])
    return [name.decode() for name in every]


class SharedOptions:
    """Options that all connections with the same user and keys share; each gets a copy with what is its own.

    Making them anew costs 2 ms and reads files; asyncssh.connect would do both, on a thread, for every connection.
    """

    def __init__(self, checker: HostKeyChecker, keepalive_s: float) -> None:
        self._checker = checker
        self._keepalive_s = keepalive_s
        self._shared: dict[tuple[str, Login], asyncssh.SSHClientConnectionOptions] = {}

    def copy_for(self, place: Place, login: Login, client: asyncssh.SSHClient) -> asyncssh.SSHClientConnectionOptions:
        """Return the options of one connection, whose questions the client answers."""
        shared = place.user, login
        if shared not in self._shared:
            self._shared[shared] = make_options(place.user, login, self._keepalive_s)
        options = copy.copy(self._shared[shared])
        known = self._checker.known(place.identity)
        authorities = self._checker.keys(known.authorities)
        # No trusted keys: asyncssh then asks our client about every one. Certificates it checks itself.
        revoked = self._checker.keys(known.revoked) if authorities else []
        options.known_hosts = ([], authorities, revoked, [], [], [], [])
        options.server_host_key_algs = host_key_algorithms(self._checker, known)
        options.host, options.port = place.route.host, place.route.port
        options.host_key_alias = place.identity.alias
        options.protocol_factory = lambda: client
        return options
