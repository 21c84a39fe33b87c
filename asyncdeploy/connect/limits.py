"""How much a pool does at once and for how long it tries: Limits."""

from __future__ import annotations

from typing import Any

import attrs

from asyncdeploy.values.arguments import checked_class


def _check_number(_: Limits, field: attrs.Attribute[Any], value: object) -> None:
    whole = field.type in ("int", int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not 0 < value <= 1_000_000:
        what = "a whole number from 1" if whole else "a number of seconds above 0"
        raise ValueError(f"Limits {field.name}: {what} was expected, got {value!r}")


@checked_class
@attrs.frozen(kw_only=True)
class Limits:
    """How much a pool does at once and for how long it tries.

    Args:
        connects_per_endpoint: handshakes at once with one sshd or through one jump host; sshd drops from 10 on
            (MaxStartups).
        connects_at_once: handshakes at once in all; beyond it the client's own CPU is the limit.
        channels_per_connection: channels at once over one connection; sshd frees slots late: of 10 at a time 30 % were
            refused, of 4 none.
        connections_per_node: a second one is made when all channels of the first are taken.
        connect_timeout_s: for TCP, and again for handshake and login; above the two resends of a lost SYN (3 s, 7 s).
        connect_deadline_s: for all tries of one node together; a booting sshd needs up to a minute.
        keepalive_s: silence before a sign of life is asked for; three unanswered ones mean dead.

    Raises:
        ValueError: a value is not a positive number.
    """

    connects_per_endpoint: int = attrs.field(default=8, validator=_check_number)
    connects_at_once: int = attrs.field(default=128, validator=_check_number)
    channels_per_connection: int = attrs.field(default=4, validator=_check_number)
    connections_per_node: int = attrs.field(default=2, validator=_check_number)
    connect_timeout_s: float = attrs.field(default=15.0, validator=_check_number)
    connect_deadline_s: float = attrs.field(default=60.0, validator=_check_number)
    keepalive_s: float = attrs.field(default=15.0, validator=_check_number)
