"""What a handshake that came to nothing means: asyncssh's exceptions, and what was seen, as one of our errors."""

from __future__ import annotations

from collections.abc import Sequence

import asyncssh
import attrs

from asyncdeploy.connect.ssh.handshake.reasons import connect_error
from asyncdeploy.connect.ssh.handshake.seen import TOO_MANY, Seen, Try, nothing_in_common
from asyncdeploy.values.errors import AuthError, DeployError
from asyncdeploy.values.words import last_lines, one_line

MAX_TRIED = 12
"""Keys that an error names: a person with more of them knows which he means."""
MAX_LISTED = 300
"""Characters of a list of algorithms."""


@attrs.frozen
class Asked:
    """What was to be reached.

    Attributes:
        node: the node's name.
        where: its host and port in words.
        user: who was to log in.
        problems: keys that could not be offered, and why.
        ours: our KEXINIT packet.
    """

    node: str
    where: str
    user: str
    problems: tuple[str, ...] = ()
    ours: bytes = b""


def explain(asked: Asked, seen: Seen, error: Exception) -> DeployError:
    """Return why there is no login.

    Args:
        asked: what was to be reached.
        seen: what was seen until then.
        error: what ended it, from asyncssh, the system or a deadline.
    """
    if seen.greeting.is_foreign:
        return _not_ssh(asked, seen)
    if not seen.greeting.version:
        return _nothing_said(asked, error)
    if _is_refusal(seen, error):
        return refused_login(asked, seen, error)
    if isinstance(error, TimeoutError):
        return _too_slow(asked, seen)
    return _no_handshake(asked, seen, error)


def _not_ssh(asked: Asked, seen: Seen) -> DeployError:
    if refusal := seen.greeting.refusal:
        return connect_error(
            asked.node, "throttled", f"{asked.where}: {refusal}", "wait a little, or connect to fewer at once"
        )
    said = seen.greeting.shown()
    return connect_error(asked.node, "protocol", f"what listens at {asked.where} does not speak SSH: it said {said}")


def _nothing_said(asked: Asked, error: Exception) -> DeployError:
    if isinstance(error, TimeoutError):
        message = f"{asked.where} accepts connections but does not speak SSH: it said nothing"
        hint = "sshd speaks first: is this its port, and is the machine busy, frozen or still booting?"
        return connect_error(asked.node, "timeout", message, hint)
    hint = (
        "sshd does that when too many connect at once (MaxStartups), or to an address that it refuses; so does a port "
    )
    hint += "behind which nothing runs (a proxy, docker)"
    return connect_error(asked.node, "throttled", f"{asked.where} closed the connection without a word", hint)


def _is_refusal(seen: Seen, error: Exception) -> bool:
    if isinstance(error, asyncssh.PermissionDenied):
        return True
    # sshd says nothing to a program when an account may not log in although its key is right: it closes (PAM).
    was_closed = isinstance(error, asyncssh.DisconnectError | OSError) and not isinstance(error, TimeoutError)
    return seen.login_began and was_closed and bool(seen.goodbye or any(each.accepted for each in seen.tries))


def _too_slow(asked: Asked, seen: Seen) -> DeployError:
    evidence = _words(seen)
    if signing := next((each.key for each in seen.tries if each.signing), ""):
        message = f"login at {asked.where}: the signature of {signing} did not come in time"
        return AuthError(
            asked.node, message, "does the ssh-agent ask a person to confirm, or wait for a touch?", evidence
        )
    if not seen.login_began:
        return connect_error(asked.node, "timeout", f"{asked.where} did not finish the key exchange in time")
    message = f"{asked.where} did not answer the login as {asked.user!r} in time"
    error = connect_error(asked.node, "timeout", message)
    return attrs.evolve(
        error, evidence=evidence, hint="what it says may be meant for a person" if evidence else error.hint
    )


def _no_handshake(asked: Asked, seen: Seen, error: Exception) -> DeployError:
    said = one_line(seen.goodbye or str(error) or type(error).__name__)
    if asked.ours and asked.ours == seen.kexinit:
        message = f"what listens at {asked.where} does not speak SSH: it says again what it is told"
        return connect_error(asked.node, "protocol", message)
    if lacking := nothing_in_common(asked.ours, seen.kexinit):
        kind, ours, theirs = lacking
        message = (
            f"{asked.where} and we have no {kind} in common: it offers {_listed(theirs)}; we offer {_listed(ours)}"
        )
        return connect_error(
            asked.node, "protocol", message, "its sshd is very old, or allows very little: see its sshd_config"
        )
    if isinstance(error, asyncssh.ConnectionLost | OSError):
        if seen.login_began:
            return connect_error(asked.node, "protocol", f"{asked.where} broke the connection during login: {said}")
        message = f"{asked.where} broke the connection during the key exchange"
        return connect_error(asked.node, "throttled", message, "its sshd's log says why, if it ended it")
    version = seen.greeting.version
    if isinstance(error, asyncssh.ProtocolNotSupported) or not version.isascii():
        message = f"{asked.where} speaks another SSH than ours: it said {seen.greeting.shown()}"
        return connect_error(asked.node, "protocol", message, "SSH-2.0- and a name in ASCII were expected")
    message = f"{asked.where} does not keep to the SSH protocol: {said}"
    return connect_error(
        asked.node, "protocol", message, "is the line sound, and does nothing change what goes over it?"
    )


def refused_login(asked: Asked, seen: Seen, error: Exception) -> AuthError:
    """Return why nobody was let in: what was tried, what would still be wanted, what was said."""
    keys = [each for each in seen.tries if each.key]
    parts = [f"login as {asked.user!r} at {asked.where} was refused", *_tried(asked, seen, keys)]
    if any(each.partial for each in seen.tries) and seen.wanted:
        parts.append(f"{' or '.join(seen.wanted)} is still wanted")
    elif seen.wanted and isinstance(error, asyncssh.PermissionDenied):
        parts.append(f"it would take {' or '.join(seen.wanted)}")
    if seen.asked:
        parts.append("it asks " + ", ".join(f"'{one_line(prompt, 80)}'" for prompt in seen.asked[:3]))
    if seen.goodbye:
        parts.append(f"it said '{one_line(seen.goodbye, 200)}'")
    hint = _hint(asked, seen, keys, error)
    return AuthError(asked.node, "; ".join(parts), hint, _words(seen))


def _tried(asked: Asked, seen: Seen, keys: Sequence[Try]) -> list[str]:
    """Return what was offered and what became of it, what was not, and what could not be."""
    parts = []
    if keys:
        rest = [f"{len(keys) - MAX_TRIED} more keys"] if len(keys) > MAX_TRIED else []
        parts.append("tried " + ", ".join([*map(_told, keys[:MAX_TRIED]), *rest]))
    if untried := list(seen.untried.values()):
        parts.append(f"not tried: {', '.join(untried[:MAX_TRIED])}")
    if asked.problems:
        parts.append(f"not usable: {', '.join(asked.problems[:MAX_TRIED])}")
    return parts or ["no private key was found to log in with"]


def _told(each: Try) -> str:
    if each.unsigned:
        return f"{each.key} (accepted there, but not signed here: {one_line(each.unsigned, 100)})"
    if each.partial:
        return f"{each.key} (accepted)"
    return f"{each.key} (known there, but not enough)" if each.accepted else each.key


def _hint(asked: Asked, seen: Seen, keys: Sequence[Try], error: Exception) -> str:
    if any(each.unsigned for each in keys):
        return "look at the ssh-agent (`ssh-add -l`): is it locked, must a person confirm? or give the node a key_path"
    if seen.asked or any(each.partial for each in seen.tries):
        return "we log in by keys alone: let sshd ask this user or address for no more (Match, AuthenticationMethods)"
    if TOO_MANY in (seen.goodbye or str(error)) and seen.untried:
        return "sshd stops after a few keys: give the node a key_path, or set IdentitiesOnly in ssh_config"
    if any(each.accepted for each in keys):
        why = "PermitRootLogin" if asked.user == "root" else "expired, locked"
        return f"may {asked.user} log in at all ({why}, no logins while it boots)? sshd's log there says why"
    if seen.wanted and "publickey" not in seen.wanted and not keys:
        return "sshd there takes no keys (PubkeyAuthentication)"
    if not keys:
        return "give the node a key_path, or start an ssh-agent"
    hint = f"is the public key in ~{asked.user}/.ssh/authorized_keys there, and may {asked.user} log in from here "
    return hint + ("(PermitRootLogin)?" if asked.user == "root" else "(AllowUsers, a locked account)?")


def _words(seen: Seen) -> str:
    """Return the end of what the server said to people."""
    return last_lines(seen.words)


def _listed(names: Sequence[bytes]) -> str:
    return one_line(b", ".join(names).decode("ascii", "backslashreplace"), MAX_LISTED) or "none"
