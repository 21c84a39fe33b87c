"""Vast.ai, as its OpenAPI of 2026-08 and its own CLI say; tried against no real account."""

from __future__ import annotations

from typing import Any

import attrs

from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.providers.api import Api, api_key, is_number, number, part, rows, text
from asyncdeploy.sources.rent.providers.container import IMAGE, start_env, start_script
from asyncdeploy.sources.rent.want import Instance, Offer, Order, State, Want
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Secret

VARIABLE = "VAST_API_KEY"
MAX_PAGES = 400
"""Of 25 machines each."""
LIMIT = 500
"""Offers of one list."""
MAX_LISTS = 20
ENOUGH = 200
"""Offers that fit: a rental takes at most 64, the cheapest, and the next ones where these are gone."""
CENT = 0.01
"""Vast rounds."""
_HOURS_A_MONTH = 720


@checked_class
@attrs.frozen
class Vast:
    """Containers on machines that Vast.ai brokers; each stands alone, so ``together`` gets one machine at most.

    Where Vast has GPUs of exactly the name that is wanted, only those are offered.

    Args:
        api_key: None is what VAST_API_KEY says.
        verified: only machines that Vast has looked at, and that are up 9 times of 10.
        base_url: of another server that speaks this.
        spacing_s: between two requests; Vast wants 1 to 3 s, and more between two machines.
        create_s: the least time between two machines.
    """

    api_key: Secret | str | None = attrs.field(default=None, kw_only=True, repr=False)
    verified: bool = attrs.field(default=True, kw_only=True)
    base_url: str = attrs.field(default="https://console.vast.ai/api", kw_only=True)
    spacing_s: float = attrs.field(default=2.0, kw_only=True)
    create_s: float = attrs.field(default=4.5, kw_only=True)
    _api: Api = attrs.field(init=False, repr=False, eq=False)
    _creates: Api = attrs.field(init=False, repr=False, eq=False)

    name = "vast"
    console = "cloud.vast.ai/instances"
    plants_host_key = True

    def __attrs_post_init__(self) -> None:
        key = api_key(self.api_key, VARIABLE)
        for field, spacing_s in (("_api", self.spacing_s), ("_creates", self.create_s)):
            object.__setattr__(self, field, Api(self.name, self.base_url, key, VARIABLE, spacing_s))

    async def offers(self, want: Want) -> tuple[Offer, ...]:
        """As Provider says; the price has our disk in it."""
        exactly = {"gpu_name": {"eq": want.gpu.replace("_", " ").strip()}}
        return await self._offers(want, exactly) or await self._offers(want, {})

    async def _offers(self, want: Want, which: dict[str, Any]) -> tuple[Offer, ...]:
        """Return the cheapest that fit; each list begins at the price where the one before it ended."""
        found: dict[int, Offer] = {}
        known: set[int] = set()
        price = {"lte": want.usd_per_hour + CENT}
        for _ in range(MAX_LISTS):
            said = await self._api.repeat("POST", "/v0/bundles/", {**self._question(want), **which, "dph_total": price})
            if not isinstance(said.get("offers"), list):
                raise self._api.nonsense("a list of offers")
            new = {row["id"]: row for row in rows(said["offers"]) if isinstance(row.get("id"), int)}
            fitting = {id_: self._offer(row, want) for id_, row in new.items() if id_ not in known}
            found |= {id_: offer for id_, offer in fitting.items() if offer is not None}
            known |= set(new)
            prices = [usd for row in new.values() if (usd := number(row.get("dph_total"))) is not None]
            if not fitting or not prices or len(found) >= ENOUGH:
                break
            price["gte"] = max(prices)
        return tuple(found.values())

    def _question(self, want: Want) -> dict[str, Any]:
        ask: dict[str, Any] = {
            "type": "ondemand",
            "limit": LIMIT,
            "rentable": {"eq": True},
            "num_gpus": {"eq": want.gpus},
            "direct_port_count": {"gte": 1},
            "disk_space": {"gte": want.disk_gb},
            "order": [["dph_total", "asc"]],
            "allocated_storage": want.disk_gb,
        }
        return ask | {"verified": {"eq": True}, "reliability2": {"gte": 0.9}} if self.verified else ask

    def _offer(self, row: dict[str, Any], want: Want) -> Offer | None:
        base, storage = number(row.get("dph_base")), number(row.get("storage_cost")) or 0.0
        name, where = text(row.get("gpu_name")), text(row.get("geolocation"))
        if not base or not want.takes_gpu(name) or (want.regions and not any(each in where for each in want.regions)):
            return None
        return Offer(self.name, str(row["id"]), name, want.gpus, base + want.disk_gb * storage / _HOURS_A_MONTH)

    async def create(self, offer: Offer, order: Order) -> str:
        """As Provider says; its answer to a failure may name a machine all the same."""
        body = {
            "client_id": "me",
            "image": order.want.image or IMAGE,
            "disk": order.want.disk_gb,
            "label": order.name,
            "runtype": "args",
            "env": {"-p 22:22": "1", **start_env(order)},
            "args": ["sh", "-c", start_script()],
            "cancel_unavail": True,
        }
        said = await self._creates.once("PUT", f"/v0/asks/{offer.id}/", body)
        if said.get("new_contract") is None:
            raise self._api.nonsense("new_contract")
        return str(said["new_contract"])

    async def instances(self) -> tuple[Instance, ...]:
        """As Provider says."""
        found: list[Instance] = []
        after = ""
        for _ in range(MAX_PAGES):
            said = await self._api.get("/v1/instances/", {"limit": 25, **({"after_token": after} if after else {})})
            if not isinstance(said.get("instances"), list):
                raise self._api.nonsense("a list of instances")
            found += [_instance(one) for one in rows(said["instances"])]
            after = text(said.get("next_token"))
            if not after:
                return tuple(found)
        raise self._api.nonsense(f"an end after {MAX_PAGES} pages")

    async def end(self, instance: Instance) -> None:
        """As Provider says."""
        try:
            await self._api.repeat("DELETE", f"/v0/instances/{instance.id}/")
        except ProviderError as error:
            if error.status != 404 and "no_such_instance" not in error.message:
                raise

    async def tidy(self, label: str) -> None:
        """As Provider says: keys are in the containers alone."""


def _instance(one: dict[str, Any]) -> Instance:
    ports = rows(part(one, "ports", "22/tcp"))
    port, host = text(ports[0].get("HostPort")) if ports else "", text(one.get("public_ipaddr"))
    status, note = text(one.get("actual_status")), text(one.get("status_msg"))
    state: State = "ready" if status == "running" and host and is_number(port) else "booting"
    stopped = {text(one.get(key)) for key in ("cur_state", "next_state", "intended_status")} == {"stopped"}
    if "OCI runtime create failed" in note or stopped or status in ("exited", "offline"):
        state = "broken"
    return Instance(
        str(one.get("id", "")),
        text(one.get("label")),
        state,
        host,
        int(port) if is_number(port) else 22,
        usd_per_hour=number(one.get("dph_total")),
        note=note or status,
    )
