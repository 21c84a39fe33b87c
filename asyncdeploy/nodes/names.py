"""What a host, a user and a name may look like: the whitelist that keeps commands out of addresses."""

from __future__ import annotations

import ipaddress

from asyncdeploy.values.regex import regex

MAX_SHOWN = 200
"""Characters of a bad text that an error repeats: enough to find it, too few to flood a terminal."""

_HOST = regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")  # 253: the longest name in DNS
_IPV4_LIKE = regex(r"[0-9]+(\.[0-9]+){3}")
_NUMBERS = regex(r"(0[xX][0-9A-Fa-f]*|[0-9]+)(\.(0[xX][0-9A-Fa-f]*|[0-9]+))*")  # "1" is 0.0.0.1 to a resolver
_ZONE = regex(r"[A-Za-z0-9._-]{1,64}")
# "@": logins of Entra ID and AD are user@company.com
_USER = regex(r"(?=.{1,128}\Z)[A-Za-z0-9._][A-Za-z0-9._-]*(@[A-Za-z0-9._-]+)*")
_NAME = regex(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,199}")  # 200: with a rank and a suffix it still fits a file's 255
_PASSWORD = regex(r"([^\s:/@]+):(?!//)([^\s,]+)@|(\bsshpass\s+-p\s*)\S+")

_NO_SHELL = {
    "ssh.runpod.io": "that proxy has no exec and no SFTP; take RunPod's line under 'SSH over exposed TCP'",
}


def shown(value: object) -> str:
    """Return a bad value as an error may show it: its repr, shortened; in text a password is hidden."""
    if isinstance(value, str):
        start = value[: 10 * MAX_SHOWN]  # the pattern's time grows with the square of this; no login is longer
        hidden = _PASSWORD.sub(lambda found: f"{found[3]}***" if found[3] else f"{found[1]}:***@", start)
        return repr(hidden if len(hidden) <= MAX_SHOWN else f"{hidden[:MAX_SHOWN]}...")
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def is_ipv4(text: str) -> bool:
    """Return whether text is written as an IPv4 address is, four numbers with dots."""
    return _IPV4_LIKE.fullmatch(text) is not None


def is_ipv6(text: str) -> bool:
    """Return whether text is an IPv6 address without brackets, with or without a zone ("fe80::1%eth0")."""
    address, percent, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None


def check_host(field: str, value: object) -> None:
    """Refuse what is no host name, alias or address."""
    if not isinstance(value, str) or not (_HOST.fullmatch(value) or is_ipv6(value)):
        raise ValueError(
            f"Node {field}: a host name of letters, digits and ._- or an IP address was expected, got {shown(value)}"
        )
    if is_ipv4(value):
        try:
            ipaddress.IPv4Address(value)
        except ValueError as error:
            raise ValueError(f"Node {field}: an IPv4 address was expected, got {value!r}: {error}") from None
    elif _NUMBERS.fullmatch(value):
        raise ValueError(
            f"Node {field}: a host name or four numbers of an IPv4 address were expected, got {value!r}; a port is "
            "written behind a colon, gpu1:22"
        )
    if hint := _NO_SHELL.get(value.lower().rstrip(".")):
        raise ValueError(f"Node {field}: a machine's own sshd was expected, got {value!r}: {hint}")


def check_user(value: object) -> None:
    """Refuse what is no login name."""
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise ValueError(f"Node user: a login name of letters, digits and ._-@ was expected, got {shown(value)}")


def check_name(value: object) -> None:
    """Refuse what cannot be a folder's name everywhere."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value in (".", ".."):
        raise ValueError(
            "Node name: a name fit for a folder was expected, of at most 200 letters, digits and ._-, "
            f"got {shown(value)}"
        )


def check_count(field: str, value: object, *, at_most: int | None = None) -> None:
    """Refuse what is no whole number from 1 (to ``at_most``)."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 1 or (at_most is not None and value > at_most):  # type: ignore[operator]
        limits = "from 1" if at_most is None else f"from 1 to {at_most}"
        raise ValueError(f"Node {field}: a whole number {limits} was expected, got {shown(value)}")


def default_name(host: str, port: int | None) -> str:
    """Return what a node is called when nobody named it; no ":" or "%", which not every folder's name may hold."""
    name = host.replace(":", "_").replace("%", "-")
    return name if port in (None, 22) else f"{name}-{port}"


def same_host(host: str) -> str:
    """Return a form of the host in which two spellings of it are equal."""
    address, percent, zone = host.partition("%")
    return f"{ipaddress.IPv6Address(address)}{percent}{zone}" if is_ipv6(host) else host.lower().rstrip(".")
