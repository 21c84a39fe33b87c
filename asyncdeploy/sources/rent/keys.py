"""A key of its own for each rental, and one for each of its hosts, made here."""

from __future__ import annotations

import base64
import hashlib

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@attrs.frozen
class KeyPair:
    """An ed25519 key: OpenSSH's private text, which never shows, and its public line."""

    public: str
    private: str = attrs.field(repr=False)


def new_key() -> KeyPair:
    """Return a new key."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(public.decode(), private.decode())


def fingerprint(public: str) -> str:
    """Return "SHA256:..." of a public line, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
