"""What can go wrong with money in it: ProviderError, RentFailed, NotGivenBack."""

from __future__ import annotations

import attrs

from asyncdeploy.values.errors import DeployError

DEFINITE = ("auth", "balance", "quota", "no capacity", "refused", "throttled")
"""Reasons with which a provider says that it did nothing."""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class ProviderError(DeployError):
    """A provider did not do what it was asked to; ``node`` is the provider's name.

    Attributes:
        reason: auth, balance, quota, no capacity, refused, throttled, unreachable, protocol. After the last two nobody
            knows whether it was done.
        status: of HTTP, 0 where no answer came.
        made: ids that the answer names although it failed.
    """

    reason: str = "protocol"
    status: int = 0
    made: tuple[str, ...] = ()

    @property
    def is_definite(self) -> bool:
        """Whether it is sure that nothing was made."""
        return self.reason in DEFINITE and not self.made


@attrs.define(slots=False, eq=False, str=False, repr=False)
class RentFailed(DeployError):
    """No offer became nodes; what was rented meanwhile was given back.

    Attributes:
        attempts: one line each: the offer, and why not.
    """

    attempts: tuple[str, ...] = ()


@attrs.define(slots=False, eq=False, str=False, repr=False)
class NotGivenBack(DeployError):
    """Machines that still cost money, or may: each is named. ``reap_rentals`` tries again.

    Attributes:
        instances: "provider name (id)" each.
        usd_per_hour: what they cost together, as far as it is known.
    """

    instances: tuple[str, ...] = ()
    usd_per_hour: float = 0.0
