"""What is said of a host key that is not trusted, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from asyncdeploy.connect.ssh.config.homes import homes
from asyncdeploy.connect.ssh.known_hosts.entries import Entry, fingerprint
from asyncdeploy.connect.ssh.known_hosts.identity import Identity
from asyncdeploy.values.errors import HostKeyError
from asyncdeploy.values.regex import regex

_PLAIN = regex(r"[A-Za-z0-9._:@%+=/\[\]-]+")  # what sed takes as it is


def unknown_error(who: Identity, offered: bytes, file: Path | None, lacking: str = "") -> HostKeyError:
    """The node was never seen.

    Args:
        who: the node.
        offered: its key.
        file: where the key would have to stand; None is nowhere.
        lacking: what is wrong with its certificate.
    """
    shown = fingerprint(offered)
    hint = "compare the fingerprint with the provider's, then "
    hint += f"`{_scan(who, file)}`" if file is not None else "give HostKeys a file of its own"
    if file is None:
        hint += ", for ssh_config says UserKnownHostsFile none"
    elif who.trust.is_strict:
        hint += "; HostKeys.accept_new() does not take it, for ssh_config says StrictHostKeyChecking yes"
    else:
        hint += "; or use HostKeys.accept_new(), on the command line --accept-new"
    message = f"the host key of {who.where} is not known: {shown}{_ending(lacking)}"
    return HostKeyError(who.node, message, hint + _idle(who), reason="unknown", offered=shown)


def changed_error(
    who: Identity, offered: bytes, known: Sequence[Entry], own: Iterable[Path], lacking: str = ""
) -> HostKeyError:
    """The node showed another key than the ones that are known.

    Args:
        who: the node.
        offered: its key.
        known: those that are known.
        own: the user's files, which HostKeys.forget goes through.
        lacking: what is wrong with its certificate.
    """
    shown, expected = fingerprint(offered), tuple(entry.fingerprint for entry in known)
    source = known[0].source
    message = f"the host key has changed: it showed {shown}, {source} has {' or '.join(expected)}{_ending(lacking)}"
    hint = "someone may be in between; if the machine was made anew or its address given to another, "
    files = {str(file) for file in own}
    kept = [name for entry in known if (name := entry.source.rpartition(":")[0]) not in files or entry.by_pattern]
    if not kept:
        hint += f"HostKeys.forget(node) takes the old key out; at a shell delete {_lines_of(known)}"
    else:
        hint += f"take the old key out of {' and '.join(dict.fromkeys(kept))}"
    if who.borrowed:  # and so this was recorded by OpenSSH, which does not tell the ways apart
        hint += f"; if {who.borrowed} there is another machine, give this one a HostKeyAlias in ssh_config"
    hint += _idle(who)
    return HostKeyError(who.node, message, hint, reason="changed", offered=shown, expected=expected, source=source)


def _lines_of(known: Sequence[Entry]) -> str:
    """Return where keys stand, for people: "lines 3 and 4 of ~/.ssh/known_hosts"."""
    lines: dict[str, list[str]] = {}
    for entry in known:
        file, _, number = entry.source.rpartition(":")
        lines.setdefault(file, []).append(number)
    said = [f"line{'s' * (len(each) > 1)} {' and '.join(each)} of {file}" for file, each in lines.items()]
    return " and ".join(said)


def address_error(who: Identity, offered: bytes, address: str, known: Sequence[Entry]) -> HostKeyError:
    """The node's key is trusted, and its IP address is known with another."""
    shown, expected = fingerprint(offered), tuple(entry.fingerprint for entry in known)
    source = known[0].source
    message = f"the IP address {address} has another host key: it showed {shown}, {source} has {' or '.join(expected)}"
    hint = "ssh_config says CheckHostIP: DNS may lie, or the address was given to another machine; "
    hint += f"then take the old key out of {source.rpartition(':')[0]}"
    return HostKeyError(who.node, message, hint, reason="changed", offered=shown, expected=expected, source=source)


def pin_error(who: Identity, offered: Sequence[str], pins: Sequence[str]) -> HostKeyError:
    """No key that the node showed is pinned.

    Args:
        who: the node.
        offered: the fingerprints of all keys that it has.
        pins: those that were expected.
    """
    showed = " and ".join(offered)
    if not pins:
        hint = f'add {who.node!r}: "{offered[0]}" to HostKeys.pinned if that is the node\'s key'
        return HostKeyError(who.node, f"no host key is pinned; it showed {showed}", hint, offered=offered[0])
    keys = "the host key is not the pinned one" if len(offered) == 1 else "none of its host keys is the pinned one"
    message = f"{keys}: it showed {showed}, pinned is {' or '.join(pins)}"
    return HostKeyError(
        who.node,
        message,
        "someone may be in between; if the machine was made anew, pin its new key",
        reason="changed",
        offered=offered[0],
        expected=tuple(pins),
        source="HostKeys.pinned",
    )


def revoked_error(who: Identity, offered: bytes, source: str) -> HostKeyError:
    """The node showed a key that must not be trusted any more."""
    shown = fingerprint(offered)
    hint = "it was marked as revoked there: this machine must get a new one"
    message = f"the host key is revoked: {shown}, {source}"
    return HostKeyError(who.node, message, hint, reason="revoked", offered=shown, source=source)


def unfit_error(who: Identity, offered: bytes, why: str, hint: str = "") -> HostKeyError:
    """The node's key is of no use, whoever it is."""
    shown = fingerprint(offered)
    return HostKeyError(who.node, f"the host key {shown} is not taken: {why}", hint, reason="unknown", offered=shown)


def _scan(who: Identity, file: Path) -> str:
    """Return the command that adds the node's keys to a file, under the name by which they are looked up."""
    port = "" if who.port == 22 else f" -p {who.port}"
    scan, name = f"ssh-keyscan{port} {shlex.quote(who.host)}", who.where
    if who.way:
        scan = f"ssh {who.gate or who.way[-1]} {scan}"
    if who.trust.alias or who.way:
        if not _PLAIN.fullmatch(name):
            return f"{scan}`, to be recorded as `{name}"
        scan += f" | sed 's,^[^ ]*,{name},'"
    return f"{scan} >> {_short(file)}"


def _short(file: Path) -> str:
    for home in homes():
        if file.is_relative_to(home) and home != Path("/"):
            return f"~/{shlex.quote(str(file.relative_to(home)))}"
    return shlex.quote(str(file))


def _ending(lacking: str) -> str:
    return f" ({lacking})" if lacking else ""


def _idle(who: Identity) -> str:
    return f" (ssh_config's {', '.join(who.trust.idle)} has no effect here)" if who.trust.idle else ""
