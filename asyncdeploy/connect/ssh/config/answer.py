"""What `ssh -G` answers, as data: only what names a machine, the way to it, its key and ours.

Nothing else is taken over: no agent forwarding, no environment, no terminal, no sharing of connections.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from asyncdeploy.connect.ssh.config.homes import account_home, expand_home, find_home, homes
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS, OLDER
from asyncdeploy.values.regex import regex

GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
RSA_BITS = 1024
"""OpenSSH's RequiredRSASize."""
USUAL_KEYS = ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")
"""What OpenSSH calls the keys that it looks for by itself, in its order."""

_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
_VARIABLE = regex(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_OLDER = {old.lower(): new.lower() for old, new in OLDER.items()}
_ADDING = frozenset({"identityfile", "certificatefile", "revokedhostkeys"})
"""Of these every line counts; of all others the first."""


@attrs.frozen
class Trust:
    """Whose keys are trusted.

    Attributes:
        alias: HostKeyAlias.
        user_files, global_files: known_hosts files, the first one takes new keys; None is what ssh has by itself.
        revoked_files: keys that stand in them are never trusted.
        is_strict: StrictHostKeyChecking is yes.
        checks_address: CheckHostIP.
        algorithms, ca_algorithms: HostKeyAlgorithms and CASignatureAlgorithms; None is OpenSSH's own.
        rsa_bits: the least size of an RSA key.
        idle: words that would let ssh in, and do not here, as they are written.
    """

    alias: str | None = None
    user_files: tuple[Path, ...] | None = None
    global_files: tuple[Path, ...] | None = None
    revoked_files: tuple[Path, ...] = ()
    is_strict: bool = False
    checks_address: bool = False
    algorithms: tuple[str, ...] | None = None
    ca_algorithms: tuple[str, ...] | None = None
    rsa_bits: int = RSA_BITS
    idle: tuple[str, ...] = ()


@attrs.frozen
class Keys:
    """What we log in with.

    Attributes:
        paths: private keys.
        certificate_paths: certificates for them.
        only: IdentitiesOnly.
        agent: the ssh-agent's socket, "none"; None is $SSH_AUTH_SOCK.
        algorithms: PubkeyAcceptedAlgorithms; None is ours.
        refusing: words that want no login by key, as they are written; none is offered then.
        idle: words by which ssh might get in, and we do not, as they are written.
    """

    paths: tuple[Path, ...] = ()
    certificate_paths: tuple[Path, ...] = ()
    only: bool = False
    agent: str | None = None
    algorithms: tuple[str, ...] | None = None
    refusing: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


@attrs.frozen
class Cryptography:
    """Ciphers, KexAlgorithms and MACs; None is ours."""

    ciphers: tuple[str, ...] | None = None
    exchanges: tuple[str, ...] | None = None
    macs: tuple[str, ...] | None = None


@attrs.frozen
class SshConfig:
    """How ssh would reach a host; None is left to our own defaults.

    Attributes:
        family, bind: AddressFamily and BindAddress.
        refused: (keyword, value) of each word that is said and that we do not do.
        by_name: another host may be reached otherwise.
    """

    host: str | None = None
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    family: int = socket.AF_UNSPEC
    bind: str | None = None
    trust: Trust = attrs.field(factory=Trust)
    keys: Keys = attrs.field(factory=Keys)
    cryptography: Cryptography = attrs.field(factory=Cryptography)
    refused: tuple[tuple[str, str], ...] = ()
    by_name: bool = False


Answer = Mapping[str, tuple[str, ...]]
"""Keywords, in lower case and by their present names, with their values."""


def read_answer(text: str) -> Answer:
    """Read the output of ``ssh -G``: "keyword value" lines, of which the first counts, or all of some keywords.

    What it prints is bounded where it is run; as objects it takes 25 times that.
    """
    said: dict[str, list[str]] = {}
    for line in text.split("\n"):
        word, _, value = line.partition(" ")
        keyword = _OLDER.get(word.lower(), word.lower())  # OpenSSH prints "canonicalizePermittedcnames"
        if value and (keyword not in said or keyword in _ADDING):
            said.setdefault(keyword, []).append(value)
    return {keyword: tuple(values) for keyword, values in said.items()}


def to_config(answer: Answer, written: Iterable[str]) -> SshConfig:
    """Take out of ssh's answer what we go by.

    Args:
        answer: with its tokens and variables expanded.
        written: the keywords that may stand in the files. Of others, lists of algorithms are ssh's own defaults, and
            ours count.

    Raises:
        ValueError: a value is not what it should be.
    """
    lists = frozenset(written)

    def names(keyword: str) -> tuple[str, ...] | None:
        value = _first(answer, keyword)
        return tuple(value.split(",")) if value and keyword in lists else None

    port, family = _first(answer, "port") or "0", _first(answer, "addressfamily") or "any"
    if not port.isdecimal() or family not in _FAMILIES:
        raise ValueError(f"a number as Port and a known AddressFamily were expected, got {port!r} and {family!r}")
    return SshConfig(
        host=answer.get("hostname", (None,))[0],  # a host and a user may be called "none"
        user=answer.get("user", (None,))[0],
        port=int(port) or None,
        jump=_first(answer, "proxyjump"),
        family=_FAMILIES[family],
        bind=_first(answer, "bindaddress"),
        trust=attrs.evolve(
            _trust(answer), algorithms=names("hostkeyalgorithms"), ca_algorithms=names("casignaturealgorithms")
        ),
        keys=attrs.evolve(_keys(answer), algorithms=names("pubkeyacceptedalgorithms")),
        cryptography=Cryptography(names("ciphers"), names("kexalgorithms"), names("macs")),
        refused=tuple(_refused(answer)),
    )


def usual_keys() -> tuple[Path, ...]:
    """Return the private keys that ssh looks for by itself."""
    return tuple(home / ".ssh" / f"id_{kind}" for kind in USUAL_KEYS for home in homes())


def unsaid_keys() -> Keys:
    """Return what there is to log in with where nothing is said of it."""
    return Keys(tuple(filter(_is_there, usual_keys())))


def _is_there(key: Path) -> bool:
    """Return whether a private key lies there, or a public one whose other half an agent may hold."""
    return os.path.isfile(key) or os.path.isfile(f"{key}.pub")  # noqa: PTH113 - which say no to what they may not see


def split_files(value: str) -> tuple[Path, ...]:
    """Return the files of a line, on which ssh prints names with spaces without quotes.

    Raises:
        ValueError: it cannot be told where a name ends.
    """
    names: list[str] = []
    for word in value.split(" "):
        if names and not word.startswith(("/", "~")):
            names[-1] += f" {word}"
        else:
            names.append(word)
    for name in names:
        if " " in name and not os.path.exists(expand_home(name)):  # noqa: PTH110 - which says no to what it may not see
            raise ValueError(f"absolute names of files were expected, or such with spaces that exist, got {value!r}")
    return tuple(expand_home(name) for name in names)


def _first(answer: Answer, keyword: str) -> str | None:
    """Return a value; "none" is none."""
    value = answer.get(keyword, ("none",))[0]
    return None if value.lower() == "none" else value


def _trust(answer: Answer) -> Trust:
    home, bits = account_home(), _first(answer, "requiredrsasize") or ""
    files = {}
    for keyword, usual in (
        ("userknownhostsfile", (home / ".ssh" / "known_hosts", home / ".ssh" / "known_hosts2")),
        ("globalknownhostsfile", tuple(map(Path, GLOBAL_FILES))),
    ):
        said = answer.get(keyword)
        found = None if said is None else () if said[0].lower() == "none" else split_files(said[0])
        files[keyword] = None if found == usual else found
    revoked = [value for value in answer.get("revokedhostkeys", ()) if value.lower() != "none"]
    strict = _first(answer, "stricthostkeychecking")
    return Trust(
        alias=answer.get("hostkeyalias", (None,))[0],  # "none" is one
        user_files=files["userknownhostsfile"],
        global_files=files["globalknownhostsfile"],
        revoked_files=tuple(path for value in revoked for path in split_files(value)),
        is_strict=strict in ("yes", "true"),
        checks_address=_first(answer, "checkhostip") == "yes",
        rsa_bits=int(bits) if bits.isdecimal() else RSA_BITS,
        idle=tuple(
            f"{KEYWORDS[keyword].name} {shown}"
            for keyword, values, shown in (
                ("stricthostkeychecking", ("no", "off", "false"), "no"),
                ("verifyhostkeydns", ("yes", "true", "ask"), "yes"),
                ("nohostauthenticationforlocalhost", ("yes", "true"), "yes"),
            )
            if _first(answer, keyword) in values
        ),
    )


def _keys(answer: Answer) -> Keys:
    paths, certificates = (
        tuple(find_home(value) for value in answer.get(keyword, ()) if value.lower() != "none")
        for keyword in ("identityfile", "certificatefile")
    )
    usual = usual_keys()
    idle = [
        f"{KEYWORDS[keyword].name} {value}"
        for keyword, by_itself in (("pkcs11provider", None), ("securitykeyprovider", "internal"))
        if (value := _first(answer, keyword)) not in (None, by_itself)
    ]
    methods = answer.get("preferredauthentications", ("publickey",))[0].split(",")
    refusing = []
    if _first(answer, "pubkeyauthentication") in ("no", "false"):
        refusing.append("PubkeyAuthentication no")
    if "publickey" not in methods:
        refusing.append(f"PreferredAuthentications {','.join(methods)}")
    return Keys(
        paths=tuple(path for path in paths if path not in usual or _is_there(path)),
        certificate_paths=certificates,
        only=_first(answer, "identitiesonly") == "yes",
        agent=_agent(answer.get("identityagent", ("SSH_AUTH_SOCK",))[0]),
        refusing=tuple(refusing),
        idle=tuple(idle),
    )


def _agent(said: str) -> str | None:
    if said.lower() == "none":
        return "none"
    if said == "SSH_AUTH_SOCK":
        return None
    if variable := _VARIABLE.fullmatch(said):
        return os.environ.get(variable[1]) or "none"
    if said.startswith("$"):
        raise ValueError(f"IdentityAgent: a path or $VARIABLE was expected, got {said!r}")
    return str(find_home(said))


def _refused(answer: Answer) -> Iterable[tuple[str, str]]:
    for keyword, values in answer.items():
        known = KEYWORDS.get(keyword)
        if known is not None and known.effect == "refused" and values[0].lower() != "none":
            yield known.name, values[0]
