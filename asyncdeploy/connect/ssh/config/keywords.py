"""Every keyword of ssh_config(5), and what it does here: the one place that docs/ssh.md, the code and its tests go by.

A word is honoured, refused by name, or has no effect, for the reason beside it: nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import attrs

Effect = Literal["honoured", "refused", "no effect"]
Subject = Literal["trust", "login", "route", "cryptography", "file", "session", "ended"]
Words: TypeAlias = dict[str, tuple[Effect, str]]

ITS_OWN = "a Pool has connections and channels of its own"
NO_TERMINAL = "nothing runs in a terminal, and nobody types"
NO_FORWARDING = "nothing is forwarded"
NO_ENVIRONMENT = "a Command says its environment itself"
NOBODY_ASKED = "nobody is asked for anything"
LIMITS = "Limits of the Pool say it"
BY_SSH = "`ssh -G` has followed it before we read its answer"
ENDED = "ssh itself knows it no more"

_TRUST: Words = {
    "HostKeyAlias": ("honoured", "known_hosts is asked for this name instead of the address"),
    "UserKnownHostsFile": (
        "honoured",
        (
            "where keys stand, and `accept_new` adds new ones to the first; with `none` a new one is refused, with"
            " /dev/null it is trusted until the pool closes. Where HostKeys names a file, that one counts instead"
        ),
    ),
    "GlobalKnownHostsFile": ("honoured", "read beside the user's, unless HostKeys names a file"),
    "StrictHostKeyChecking": (
        "honoured",
        (
            "`yes` makes a node strict under `accept_new` too. `no`, `off`, `ask`, `accept-new` weaken nothing: a Pool"
            " trusts no more than its HostKeys say; where `no` would have let you in, the error names it"
        ),
    ),
    "RevokedHostKeys": (
        "honoured",
        "a key in such a file (text or KRL) is refused under every HostKeys; a file that cannot be read refuses all",
    ),
    "CheckHostIP": ("honoured", "`yes`: the key must also be the one known for the IP address, if one is known for it"),
    "HostKeyAlgorithms": ("honoured", "kinds of keys that are known or pinned are asked for first"),
    "CASignatureAlgorithms": ("honoured", "of host certificates"),
    "RequiredRSASize": ("honoured", "of host keys and of yours"),
    "KnownHostsCommand": (
        "refused",
        "a program that says which keys are trusted is not run; HostKeys that name a file, or pins, do without it",
    ),
    "VerifyHostKeyDNS": ("no effect", "a key that only DNS vouches for is not known; the error names the word"),
    "NoHostAuthenticationForLocalhost": ("no effect", "loopback is checked too; the error names the word"),
    "UpdateHostKeys": ("no effect", "no key is learned from a node that was let in"),
    "HashKnownHosts": ("no effect", "new names are written in plain text; `ssh-keygen -H` hashes a file"),
    "FingerprintHash": ("no effect", "fingerprints are SHA256"),
    "VisualHostKey": ("no effect", "fingerprints are text"),
}
_LOGIN: Words = {
    "User": ("honoured", "unless the node says it"),
    "IdentityFile": ("honoured", "tokens, variables and `none` too; unless the node says its key_path"),
    "CertificateFile": ("honoured", "with the key that it certifies, from a file or from the agent"),
    "IdentitiesOnly": ("honoured", ""),
    "IdentityAgent": ("honoured", "a path with tokens, `$VARIABLE`, `SSH_AUTH_SOCK` or `none`"),
    "PubkeyAuthentication": ("honoured", "`no`: no key is offered"),
    "PreferredAuthentications": ("honoured", "without `publickey` no key is offered; the order has no effect"),
    "PubkeyAcceptedAlgorithms": ("honoured", ""),
    "PKCS11Provider": ("no effect", "use an ssh-agent: `ssh-add -s PROVIDER`; a failed login names the word"),
    "SecurityKeyProvider": ("no effect", "use an ssh-agent: `ssh-add -S PROVIDER KEY`; a failed login names the word"),
    "AddKeysToAgent": ("no effect", "agents are left as they are"),
    "UseKeychain": ("no effect", "Apple's; use an ssh-agent: `ssh-add --apple-load-keychain`"),
    "PasswordAuthentication": ("no effect", NOBODY_ASKED),
    "KbdInteractiveAuthentication": ("no effect", NOBODY_ASKED),
    "KbdInteractiveDevices": ("no effect", NOBODY_ASKED),
    "NumberOfPasswordPrompts": ("no effect", NOBODY_ASKED),
    "BatchMode": ("no effect", NOBODY_ASKED),
    "GSSAPIAuthentication": ("no effect", "logins are by key"),
    "GSSAPIClientIdentity": ("no effect", "logins are by key"),
    "GSSAPIDelegateCredentials": ("no effect", "logins are by key"),
    "GSSAPIKeyExchange": ("no effect", "logins are by key"),
    "GSSAPIKexAlgorithms": ("no effect", "logins are by key"),
    "GSSAPIRenewalForcesRekey": ("no effect", "logins are by key"),
    "GSSAPIServerIdentity": ("no effect", "logins are by key"),
    "GSSAPITrustDns": ("no effect", "logins are by key"),
    "HostbasedAuthentication": ("no effect", "logins are by your key, not by this machine's"),
    "HostbasedAcceptedAlgorithms": ("no effect", "logins are by your key, not by this machine's"),
    "EnableSSHKeysign": ("no effect", "logins are by your key, not by this machine's"),
}
_ROUTE: Words = {
    "HostName": ("honoured", ""),
    "Port": ("honoured", "unless the node says it"),
    "ProxyJump": ("honoured", "unless the node says its jump; one connection to a jump host serves all behind it"),
    "ProxyCommand": ("refused", "use ProxyJump, or Node(jump=), which takes its place"),
    "ProxyUseFdpass": ("no effect", "ProxyCommand is refused"),
    "AddressFamily": ("honoured", ""),
    "BindAddress": ("honoured", ""),
    "BindInterface": ("refused", "use BindAddress"),
    "CanonicalizeHostname": ("honoured", BY_SSH),
    "CanonicalDomains": ("honoured", BY_SSH),
    "CanonicalizeFallbackLocal": ("honoured", BY_SSH),
    "CanonicalizeMaxDots": ("honoured", BY_SSH),
    "CanonicalizePermittedCNAMEs": ("honoured", BY_SSH),
    "ConnectTimeout": ("no effect", LIMITS),
    "ConnectionAttempts": ("no effect", "tries are repeated until the deadline that Limits of the Pool say"),
    "ServerAliveInterval": ("no effect", LIMITS),
    "ServerAliveCountMax": ("no effect", LIMITS),
    "TCPKeepAlive": ("no effect", "SSH's own signs of life find a dead connection"),
    "IPQoS": ("no effect", "packets are not marked"),
}
_CRYPTOGRAPHY: Words = {
    "Ciphers": ("honoured", "nothing else is used; of these the fastest here comes first"),
    "KexAlgorithms": ("honoured", "nothing else is used"),
    "MACs": ("honoured", "nothing else is used"),
    "Compression": ("no effect", "what is large is compressed before it is sent"),
    "RekeyLimit": ("no effect", "keys are changed after 1 GiB or an hour"),
    "WarnWeakCrypto": ("no effect", "nothing is printed"),
}
_FILE: Words = {
    "Host": ("honoured", BY_SSH),
    "Match": ("honoured", BY_SSH),
    "Include": ("honoured", BY_SSH),
    "Tag": ("honoured", BY_SSH),
    "IgnoreUnknown": ("honoured", BY_SSH),
    "RefuseConnection": ("honoured", "ssh's own words are in the error"),
}
_SESSION: Words = {
    "ControlMaster": ("no effect", ITS_OWN),
    "ControlPath": ("no effect", ITS_OWN),
    "ControlPersist": ("no effect", ITS_OWN),
    "ChannelTimeout": ("no effect", ITS_OWN),
    "RemoteCommand": ("no effect", "what runs is said by the call"),
    "SessionType": ("no effect", "what runs is said by the call"),
    "ForkAfterAuthentication": ("no effect", "what runs is said by the call"),
    "StdinNull": ("no effect", "a Command says its input itself"),
    "SendEnv": ("no effect", NO_ENVIRONMENT),
    "SetEnv": ("no effect", NO_ENVIRONMENT),
    "RequestTTY": ("no effect", NO_TERMINAL),
    "EscapeChar": ("no effect", NO_TERMINAL),
    "EnableEscapeCommandline": ("no effect", NO_TERMINAL),
    "ObscureKeystrokeTiming": ("no effect", NO_TERMINAL),
    "ForwardAgent": ("no effect", "an agent is never forwarded: a node could use your keys"),
    "ForwardX11": ("no effect", NO_FORWARDING),
    "ForwardX11Timeout": ("no effect", NO_FORWARDING),
    "ForwardX11Trusted": ("no effect", NO_FORWARDING),
    "XAuthLocation": ("no effect", NO_FORWARDING),
    "LocalForward": ("no effect", NO_FORWARDING),
    "RemoteForward": ("no effect", NO_FORWARDING),
    "DynamicForward": ("no effect", NO_FORWARDING),
    "PermitRemoteOpen": ("no effect", NO_FORWARDING),
    "ClearAllForwardings": ("no effect", NO_FORWARDING),
    "ExitOnForwardFailure": ("no effect", NO_FORWARDING),
    "GatewayPorts": ("no effect", NO_FORWARDING),
    "StreamLocalBindMask": ("no effect", NO_FORWARDING),
    "StreamLocalBindUnlink": ("no effect", NO_FORWARDING),
    "Tunnel": ("no effect", NO_FORWARDING),
    "TunnelDevice": ("no effect", NO_FORWARDING),
    "LocalCommand": ("no effect", "no program is run here"),
    "PermitLocalCommand": ("no effect", "no program is run here"),
    "LogLevel": ("no effect", "what happens is told by events"),
    "LogVerbose": ("no effect", "what happens is told by events"),
    "SyslogFacility": ("no effect", "what happens is told by events"),
    "VersionAddendum": ("no effect", "nodes see asyncssh's version"),
}
_ENDED = (
    "AFSTokenPassing Cipher CompressionLevel FallBackToRsh GlobalKnownHostsFile2 KerberosAuthentication "
    "KerberosTGTPassing Protocol RhostsAuthentication RhostsRSAAuthentication RSAAuthentication UsePrivilegedPort "
    "UserKnownHostsFile2 UseRoaming UseRsh"
)
OLDER = {
    "ChallengeResponseAuthentication": "KbdInteractiveAuthentication",
    "DSAAuthentication": "PubkeyAuthentication",
    "HostbasedKeyTypes": "HostbasedAcceptedAlgorithms",
    "IdentityFile2": "IdentityFile",
    "KeepAlive": "TCPKeepAlive",
    "PubkeyAcceptedKeyTypes": "PubkeyAcceptedAlgorithms",
    "RSAMinSize": "RequiredRSASize",
    "SkeyAuthentication": "KbdInteractiveAuthentication",
    "SmartcardDevice": "PKCS11Provider",
    "TISAuthentication": "KbdInteractiveAuthentication",
}
"""Names that ssh still reads (RSAMinSize is Red Hat's), by what they are called now; older ones print them in -G."""


@attrs.frozen
class Keyword:
    """One keyword, as ssh_config(5) writes it; ``why`` completes "honoured: " and "no effect: ", or is empty."""

    name: str
    subject: Subject
    effect: Effect
    why: str


def _keywords() -> Iterator[Keyword]:
    """Yield every keyword, in the order of the documentation."""
    subjects: tuple[tuple[Subject, Words], ...] = (
        ("trust", _TRUST),
        ("login", _LOGIN),
        ("route", _ROUTE),
        ("cryptography", _CRYPTOGRAPHY),
        ("file", _FILE),
        ("session", _SESSION),
    )
    for subject, words in subjects:
        for name, (effect, why) in words.items():
            yield Keyword(name, subject, effect, why)
    for name in _ENDED.split():
        yield Keyword(name, "ended", "no effect", ENDED)


KEYWORDS = {keyword.name.lower(): keyword for keyword in _keywords()}
"""By their names in lower case, as `ssh -G` prints them."""
