"""A rule for host keys at work: which key a node is asked for, and whether the one that it shows is trusted.

A node is known under its own name and under its address. The name comes first: a machine of another key under a known
name is refused wherever it lives, and so is another machine at an address that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asyncssh import SSHKey

from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.connect.ssh.known_hosts.algorithms import SIGNATURES, host_key_algorithms, kind_of, without
from asyncdeploy.connect.ssh.known_hosts.entries import address_name, fingerprint
from asyncdeploy.connect.ssh.known_hosts.files import Known, KnownFiles
from asyncdeploy.connect.ssh.known_hosts.identity import Identity, is_loopback
from asyncdeploy.connect.ssh.known_hosts.shown_key import ShownKey, rsa_bits
from asyncdeploy.connect.ssh.known_hosts.verdicts import (
    address_error,
    changed_error,
    pin_error,
    revoked_error,
    unfit_error,
    unknown_error,
)
from asyncdeploy.values.errors import HostKeyError

NO_CERTIFICATE = "it has no certificate"


class HostKeyChecker:
    """A rule at work."""

    def __init__(self, rule: HostKeys) -> None:
        self.rule = rule
        self._files = KnownFiles(rule.files_of)
        self._pinned_kinds: dict[str, str] = {}

    async def load(self, who: Identity, peer: str = "") -> list[str]:
        """Read what is needed to judge the key of a node, at this IP address, off the loop; return what to tell."""
        return await self._files.load(who, *([address_name(peer, who.port)] if peer else []))

    def algorithms(self, who: Identity) -> tuple[str, ...]:
        """Return which kinds of keys to ask a node for, in order."""
        known = self._files.of(who)
        kinds = {kind_of(entry.kind) for entry in known.keys}
        kinds |= {self._pinned_kinds[pin] for pin in self._pins(who) if pin in self._pinned_kinds}
        return host_key_algorithms(kinds, certified=bool(known.authorities), allowed=who.trust.algorithms)

    def algorithms_left(self, who: Identity, algorithms: Iterable[str], shown: Sequence[ShownKey]) -> tuple[str, ...]:
        """Return what to ask a node for once more, after none of the keys that it showed was the right one.

        A pin does not tell its kind, so all are asked for. Of keys in files the kind is known, and was asked for first,
        unless the node had a certificate to show.
        """
        rest = without(algorithms, {each.kind for each in shown})
        if self._is_pinned(who):
            return rest if self._pins(who) else ()
        kinds = {kind_of(entry.kind) for entry in self._files.of(who).keys}
        if shown[-1].certificate is None or shown[-1].kind in kinds:
            return ()
        return tuple(name for name in rest if kind_of(name) in kinds)

    def refusal(self, who: Identity, shown: Sequence[ShownKey], last: HostKeyError) -> HostKeyError:
        """Return why none of the keys that a node showed is trusted."""
        if not self._is_pinned(who) or len(shown) < 2 or last.reason != "changed":
            return last
        return pin_error(who, [fingerprint(each.plain.public_data) for each in shown], self._pins(who))

    def judge(self, who: Identity, shown: ShownKey, peer: str = "") -> HostKeyError | None:
        """Return why this key is not trusted; None if it is. A new one that the rule accepts is remembered at once.

        Args:
            who: the node.
            shown: its key.
            peer: the IP address at which it was reached; "" is not known.
        """
        if error := self._refuse(who, shown):
            return error
        if self._is_pinned(who):
            return self._judge_pin(who, shown)
        known, data = self._files.of(who), shown.plain.public_data
        if known.unread:
            return unfit_error(
                who, data, f"a known_hosts file cannot be read, and it may say otherwise: {known.unread}"
            )
        for entry in known.revoked:
            if entry.key in (data, shown.authority):
                return revoked_error(who, data, entry.source)
        lacking = self._why_not_certified(who, shown, known)
        if not lacking:
            return None
        # As OpenSSH does: the key is judged as if there was no certificate.
        return self._judge_plain(who, shown, known, lacking) or self._judge_address(who, data, peer)

    def is_certified(self, who: Identity, shown: ShownKey) -> bool:
        """Return whether a key is trusted for its certificate, so that it needs not be recorded."""
        return not self._is_pinned(who) and not self._why_not_certified(who, shown, self._files.of(who))

    def _why_not_certified(self, who: Identity, shown: ShownKey, known: Known) -> str:
        if shown.certificate is None:
            return NO_CERTIFICATE
        if shown.authority not in [entry.key for entry in known.authorities]:
            return "its certificate is signed by nobody who is known for it"
        return shown.why_not_good(who.principal, who.trust.ca_algorithms or SIGNATURES)

    def _refuse(self, who: Identity, shown: ShownKey) -> HostKeyError | None:
        """Return what no rule overlooks: RevokedHostKeys, RequiredRSASize, HostKeyAlgorithms."""
        data, trust = shown.plain.public_data, who.trust
        for path in trust.revoked_files:
            why = self._files.why_revoked(path, shown)
            if why == "revoked":
                return revoked_error(who, data, str(path))
            if why:
                message = (
                    f"RevokedHostKeys {path} of ssh_config cannot be read, and without it no key is trusted: {why}"
                )
                return unfit_error(who, data, message, "mend that file, or take the word out of ssh_config")
        if (bits := rsa_bits(data)) is not None and bits < trust.rsa_bits:
            return unfit_error(who, data, f"an RSA key of at least {trust.rsa_bits} bits was expected, it has {bits}")
        if trust.algorithms is not None and shown.kind not in map(kind_of, trust.algorithms):
            return unfit_error(who, data, f"{shown.kind} is not among the HostKeyAlgorithms of ssh_config")
        return None

    def _judge_plain(self, who: Identity, shown: ShownKey, known: Known, lacking: str) -> HostKeyError | None:
        data, target = shown.plain.public_data, self.rule.target_of(who.trust)
        if any(entry.key == data for entry in known.keys):
            return None
        if lacking == NO_CERTIFICATE and not known.authorities:
            lacking = ""  # as most machines
        if known.pins:
            return changed_error(who, data, known.pins, self.rule.user_files_of(who.trust), lacking)
        if target is None or who.trust.is_strict:  # nowhere to record it is a reason for OpenSSH too
            return unknown_error(who, data, next(iter(self.rule.files_of(who.trust)), None), lacking)
        self._files.accept(who, shown.plain)
        return None

    def _judge_address(self, who: Identity, data: bytes, peer: str) -> HostKeyError | None:
        """Return whether the IP address is known with other keys, where ssh_config says CheckHostIP."""
        if not who.trust.checks_address or not peer or who.way or peer == who.host or is_loopback(peer):
            return None
        name = address_name(peer, who.port)
        found = [entry for entry in self._files.find(who, name) if not entry.marker]
        return address_error(who, data, name, found) if found and data not in [entry.key for entry in found] else None

    def _judge_pin(self, who: Identity, shown: ShownKey) -> HostKeyError | None:
        pins, offered = self._pins(who), fingerprint(shown.plain.public_data)
        if offered in pins:
            self._pinned_kinds[offered] = shown.kind
            return None
        return pin_error(who, [offered], pins)

    def _is_pinned(self, who: Identity) -> bool:
        return self.rule.mode == "pinned" or bool(self._pins(who))

    def _pins(self, who: Identity) -> tuple[str, ...]:
        for wanted in (who.node, *who.every_name, address_name(who.host, who.port)):
            if found := tuple(pin for name, pin in self.rule.pins if name == wanted):
                return found  # as in files, the first name that is known alone counts
        return ()

    async def record(self, who: Identity, key: SSHKey) -> HostKeyError | None:
        """Write a key down under those of the node's names that have none, if the rule does that; off the loop.

        Returns:
            An error if another process recorded another key meanwhile.

        Raises:
            OSError: the file cannot be written.
        """
        target = None if self._is_pinned(who) else self.rule.target_of(who.trust)
        others = await self._files.record(who, key, target) if target is not None else []
        return changed_error(who, key.public_data, others, self.rule.user_files_of(who.trust)) if others else None
