"""Lambda Cloud, as its OpenAPI v1.10 says; tried against no real account."""

from __future__ import annotations

import json
from typing import Any

import attrs

from asyncdeploy.sources.rent.giving_back import usable_ids
from asyncdeploy.sources.rent.names import label_of
from asyncdeploy.sources.rent.providers.api import Api, api_key, number, part, rows, text
from asyncdeploy.sources.rent.want import Instance, Offer, Order, State, Want
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Secret

VARIABLE = "LAMBDA_API_KEY"
_STATES: dict[str, State] = {"terminated": "gone", "terminating": "ending", "preempted": "gone", "unhealthy": "broken"}


@checked_class
@attrs.frozen
class LambdaCloud:
    """Virtual machines of Lambda Cloud.

    Args:
        api_key: None is what LAMBDA_API_KEY says.
        base_url: of another server that speaks this.
        user / port: who logs in and where sshd listens on its images.
        spacing_s: between two requests; Lambda allows one a second, and a launch every 12 s.
        launch_s: the least time between two launches.
    """

    api_key: Secret | str | None = attrs.field(default=None, kw_only=True, repr=False)
    base_url: str = attrs.field(default="https://cloud.lambda.ai/api/v1", kw_only=True)
    user: str = attrs.field(default="ubuntu", kw_only=True)
    port: int = attrs.field(default=22, kw_only=True)
    spacing_s: float = attrs.field(default=1.1, kw_only=True)
    launch_s: float = attrs.field(default=12.0, kw_only=True)
    _api: Api = attrs.field(init=False, repr=False, eq=False)
    _launches: Api = attrs.field(init=False, repr=False, eq=False)

    name = "lambda"
    console = "cloud.lambda.ai/instances"
    plants_host_key = True

    def __attrs_post_init__(self) -> None:
        key = api_key(self.api_key, VARIABLE)
        for field, spacing_s in (("_api", self.spacing_s), ("_launches", self.launch_s)):
            object.__setattr__(self, field, Api(self.name, self.base_url, key, VARIABLE, spacing_s))

    async def offers(self, want: Want) -> tuple[Offer, ...]:
        """As Provider says; prices come in cents."""
        kinds = (await self._api.get("/instance-types")).get("data")
        if not isinstance(kinds, dict):
            raise self._api.nonsense("instance types")
        offers = []
        for name, kind in kinds.items():
            cents = number(part(kind, "instance_type", "price_cents_per_hour"))
            gpu = text(part(kind, "instance_type", "gpu_description")) or name
            is_wanted = part(kind, "instance_type", "specs", "gpus") == want.gpus and want.takes_gpu(gpu)
            if not cents or not is_wanted or text(name) != name:
                continue
            for region in rows(part(kind, "regions_with_capacity_available")):
                where = text(region.get("name"))
                if where and (not want.regions or where in want.regions):
                    id_ = f"{name}@{where}"
                    offers.append(Offer(self.name, id_, gpu, want.gpus, cents / 100, want.nodes, where))
        return tuple(offers)

    async def create(self, offer: Offer, order: Order) -> str:
        """As Provider says; the one key that Lambda wants is the rental's, and goes with it."""
        label = label_of(order.name)
        if not any(key.get("name") == label for key in await self._keys()):
            await self._api.once("POST", "/ssh-keys", {"name": label, "public_key": order.public_key})
        kind, _, region = offer.id.rpartition("@")
        body: dict[str, Any] = {
            "name": order.name,
            "instance_type_name": kind,
            "region_name": region,
            "ssh_key_names": [label],
            "user_data": _user_data(order),
        }
        if order.want.image:
            body["image"] = {"family": order.want.image}
        ids = part(await self._launches.once("POST", "/instance-operations/launch", body), "data", "instance_ids")
        if not isinstance(ids, list) or len(ids) != 1 or not text(ids[0]):
            raise self._api.nonsense("the id of one instance")
        return text(ids[0])

    async def instances(self) -> tuple[Instance, ...]:
        """As Provider says."""
        said = await self._api.get("/instances")
        if not isinstance(said.get("data"), list):
            raise self._api.nonsense("a list of instances")
        return tuple(self._instance(one) for one in rows(said["data"]))

    def _instance(self, one: dict[str, Any]) -> Instance:
        status, host = text(one.get("status")), text(one.get("ip"))
        cents = number(part(one, "instance_type", "price_cents_per_hour"))
        return Instance(
            text(one.get("id")),
            text(one.get("name")),
            _STATES.get(status, "ready" if status == "active" and host else "booting"),
            host,
            self.port,
            self.user,
            text(one.get("private_ip")),
            None if cents is None else cents / 100,
            status,
        )

    async def end(self, instance: Instance) -> None:
        """As Provider says."""
        await self._api.repeat("POST", "/instance-operations/terminate", {"instance_ids": [instance.id]})

    async def tidy(self, label: str) -> None:
        """As Provider says."""
        for key in await self._keys():
            if key.get("name") == label:
                for id_ in usable_ids(text(key.get("id"))):
                    await self._api.repeat("DELETE", f"/ssh-keys/{id_}")

    async def _keys(self) -> list[dict[str, Any]]:
        return rows((await self._api.get("/ssh-keys")).get("data"))


def _user_data(order: Order) -> str:
    """Return what cloud-init does at the first boot; JSON is YAML."""
    keys = {"ed25519_private": order.host_private_key, "ed25519_public": order.host_public_key}
    return "#cloud-config\n" + json.dumps({"ssh_keys": keys, "ssh_deletekeys": True})
