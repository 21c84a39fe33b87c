"""What was seen of one handshake: words, offers, keys that were tried, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping

import asyncssh
import attrs
from asyncssh.packet import PacketDecodeError, SSHPacket

from asyncdeploy.connect.ssh.handshake.greeting import Greeting
from asyncdeploy.values.errors import HostKeyError

MAX_WORDS = 16 * 1024
"""Bytes kept of a banner, of which the end is shown: the rest is law."""
TOO_MANY = "authentication failures"
"""In the goodbye of sshd, which stops after MaxAuthTries: six."""
MAX_METHODS = 16
"""Login methods that a server may still want: there are five."""

Names = tuple[bytes, ...]

_KINDS = ("key exchange", "host key", "cipher", "cipher", "MAC", "MAC", "compression", "compression")
"""What the lists of a KEXINIT packet are about, in their order (RFC 4253, 7.1)."""
_SEALED = (b"-gcm@openssh.com", b"chacha20-poly1305@openssh.com")
"""Ciphers that need no MAC of their own."""


@attrs.define
class Try:
    """One login method or key that was tried.

    Attributes:
        method: "publickey", "keyboard-interactive" or "none".
        key: what the key is called, "" for other methods.
        accepted: the server knows the key, and asked for a signature; of one that was signed unasked, that it did
            not refuse it.
        unsigned: why there was none, "" if it was signed.
        signing: the signature has been asked for and is not there yet.
        partial: it counted, and something else is wanted beside it.
        unasked: the signature was sent before the server had said that it knows the key.
    """

    method: str
    key: str = ""
    unasked: bool = False
    accepted: bool = False
    unsigned: str = ""
    signing: bool = False
    partial: bool = False


@attrs.define
class Seen:
    """What was seen of one handshake.

    Attributes:
        names: what the keys are called that may be offered, by their public halves.
        untried: those that were not offered yet.
        verdict: why the host key was not trusted.
        key: the plain host key that was.
        shown_key: the host key as it came, in wire format.
        login_began: the node's key was accepted, ours were offered.
        greeting: the server's first words.
        kexinit: its KEXINIT packet, which lists what it can do.
        tries: what was tried to log in, in order.
        wanted: the methods that it would take after the last try.
        words: what it said to people: banner, instructions.
        asked: what it wanted a person to type.
        goodbye: why it closed the connection, if it said so.
    """

    names: Mapping[bytes, str] = attrs.field(factory=dict)
    untried: dict[bytes, str] = attrs.field(init=False, factory=dict)
    verdict: HostKeyError | None = None
    key: asyncssh.SSHKey | None = None
    shown_key: bytes = b""
    login_began: bool = False
    greeting: Greeting = attrs.field(factory=Greeting)
    kexinit: bytes = b""
    tries: list[Try] = attrs.field(factory=list)
    wanted: tuple[str, ...] = ()
    words: str = ""
    asked: tuple[str, ...] = ()
    goodbye: str = ""

    def __attrs_post_init__(self) -> None:
        self.untried = dict(self.names)

    def begin(self, method: bytes, args: tuple[bytes, ...], *, signed: bool) -> Try:
        """Note that a method is tried; a signature belongs to the key that the server has just said yes to, if any."""
        if signed and self.tries and self.tries[-1].method == "publickey":
            self.tries[-1].accepted = self.tries[-1].signing = True
            return self.tries[-1]
        tried = Try(method.decode("ascii", "replace"), unasked=signed, accepted=signed)
        if method == b"publickey" and len(args) == 3:
            blob = args[2][4:]
            tried.key = self.names.get(blob, "a key")
            self.untried.pop(blob, None)
        self.tries.append(tried)
        return tried

    def say(self, text: str) -> None:
        """Keep what the server says to people."""
        self.words = (self.words + text + "\n")[-MAX_WORDS:]

    def note_refusal(self, payload: bytes) -> None:
        """Keep which methods are left after a try, and whether it counted."""
        try:
            packet = _body(payload)
            methods, partial = packet.get_namelist(), packet.get_boolean()
        except PacketDecodeError:
            return
        self.wanted = tuple(method.decode("ascii", "backslashreplace") for method in methods[:MAX_METHODS])
        if not self.tries:
            return
        last = self.tries[-1]
        last.partial = partial
        if last.unasked and not partial:
            last.accepted = False
            if "publickey" not in self.wanted:  # it takes no keys at all: that was none
                self.tries.pop()
                self.untried = {blob: name for blob, name in self.names.items() if name == last.key} | self.untried

    def note_goodbye(self, payload: bytes) -> None:
        """Keep why the server closes the connection."""
        try:
            packet = _body(payload)
            packet.get_uint32()
            self.goodbye = packet.get_string()[:MAX_WORDS].decode("utf-8", "replace")
            if TOO_MANY in self.goodbye and self.tries and self.tries[-1].unasked:
                self.tries[-1].accepted = False
        except PacketDecodeError:
            return


def read_offers(payload: bytes) -> tuple[Names, ...]:
    """Return the lists of a KEXINIT packet, () if it cannot be read."""
    try:
        packet = _body(payload)
        packet.get_bytes(16)  # its cookie
        return tuple(tuple(packet.get_namelist()) for _ in _KINDS)
    except PacketDecodeError:
        return ()


def nothing_in_common(ours: bytes, theirs: bytes) -> tuple[str, Names, Names] | None:
    """Return the first kind of algorithm that no one name stands for on both sides, with our names and theirs.

    Args:
        ours, theirs: KEXINIT packets.
    """
    our_lists, their_lists = read_offers(ours), read_offers(theirs)
    for place, (kind, mine, its) in enumerate(zip(_KINDS, our_lists, their_lists, strict=False)):
        chosen = next((name for name in mine if name in its), None)
        if chosen is None and not (kind == "MAC" and _needs_no_mac(our_lists[place - 2], their_lists[place - 2])):
            return kind, mine, its
    return None


def _needs_no_mac(ours: Names, theirs: Names) -> bool:
    chosen = next((name for name in ours if name in theirs), b"")
    return chosen.endswith(_SEALED)


def _body(payload: bytes) -> SSHPacket:
    packet = SSHPacket(payload)
    packet.get_byte()  # its type
    return packet
