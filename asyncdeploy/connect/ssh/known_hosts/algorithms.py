"""Which kinds of host keys a node is asked for, and in which order: the one that is known must be the one it shows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from asyncssh.public_key import get_certificate_algs, get_public_key_algs

PLAIN = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""OpenSSH's own order; what it does not ask for by itself follows (SHA-1 last, for very old machines)."""
OLD = ("ssh-ed448", "ssh-rsa")
_CERTIFIED = "-cert-v01@openssh.com"
CERTIFIED = tuple(name.removesuffix("@openssh.com") + _CERTIFIED for name in PLAIN)
SIGNATURES = PLAIN
"""By which an authority may sign a certificate, where ssh_config does not say."""

_KNOWN = frozenset(name.decode() for name in (*get_public_key_algs(), *get_certificate_algs()))


def plain_of(algorithm: str) -> str:
    """Return the algorithm by which the key of a certificate signs; another one as it is."""
    plain = algorithm.removesuffix(_CERTIFIED)
    return f"{plain}@openssh.com" if plain != algorithm and plain.startswith("sk-") else plain


def kind_of(algorithm: str) -> str:
    """Return the kind of key that an algorithm is for: "rsa-sha2-512" signs by a key of the kind "ssh-rsa"."""
    plain = plain_of(algorithm)
    return "ssh-rsa" if plain.startswith(("rsa-sha2-", "ssh-rsa")) else plain


def is_certified(algorithm: str) -> bool:
    """Return whether an algorithm is for a key with a certificate."""
    return algorithm.endswith(_CERTIFIED)


def host_key_algorithms(
    known: Collection[str], *, certified: bool, allowed: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return what to ask for, in order.

    Args:
        known: the kinds of the keys that are known; they come first.
        certified: whether an authority is known; then a certificate comes before all.
        allowed: HostKeyAlgorithms; None is OpenSSH's own.
    """
    every = [name for name in allowed or (*CERTIFIED, *PLAIN, *OLD) if name in _KNOWN]
    plain = [name for name in every if not is_certified(name)]
    first = [name for name in plain if kind_of(name) in known]
    return tuple(dict.fromkeys([*(filter(is_certified, every) if certified else ()), *first, *plain]))


def without(algorithms: Iterable[str], kinds: Collection[str]) -> tuple[str, ...]:
    """Return what is left to ask for when these kinds of keys were shown, and were not the right ones."""
    return tuple(name for name in algorithms if not is_certified(name) and kind_of(name) not in kinds)
