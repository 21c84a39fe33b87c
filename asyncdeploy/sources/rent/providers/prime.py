"""Prime Intellect, as its OpenAPI and its own CLI say; tried against no real account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.giving_back import usable_ids
from asyncdeploy.sources.rent.names import label_of
from asyncdeploy.sources.rent.providers.api import Api, api_key, number, part, rows, text
from asyncdeploy.sources.rent.want import Instance, Offer, Order, State, Want
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Secret

VARIABLE = "PRIME_API_KEY"
IMAGE = "ubuntu_22_cuda_12"
MAX_PAGES = 100
"""Of 100 each."""
_STATES: dict[str, State] = {"ERROR": "broken", "STOPPED": "broken", "DELETING": "ending", "TERMINATED": "gone"}


@checked_class
@attrs.frozen
class PrimeIntellect:
    """Machines of other providers that Prime Intellect resells; each stands alone, its host key is taken as it comes.

    Args:
        api_key: None is what PRIME_API_KEY says.
        base_url: of another server that speaks this.
        spacing_s: between two requests; what Prime allows is not published.
    """

    api_key: Secret | str | None = attrs.field(default=None, kw_only=True, repr=False)
    base_url: str = attrs.field(default="https://api.primeintellect.ai/api/v1", kw_only=True)
    spacing_s: float = attrs.field(default=1.0, kw_only=True)
    _api: Api = attrs.field(init=False, repr=False, eq=False)

    name = "prime"
    console = "app.primeintellect.ai/dashboard/instances"
    plants_host_key = False

    def __attrs_post_init__(self) -> None:
        key = api_key(self.api_key, VARIABLE)
        object.__setattr__(self, "_api", Api(self.name, self.base_url, key, VARIABLE, self.spacing_s))

    async def offers(self, want: Want) -> tuple[Offer, ...]:
        """As Provider says; spot machines and those that charge hours at once are left out."""
        offers = []
        for one in await self._pages("/availability/gpus", "items", {"gpu_count": want.gpus}):
            usd, name = number(part(one, "prices", "onDemand")), text(one.get("gpuType"))
            in_dollars = text(part(one, "prices", "currency")) in ("", "USD")
            ours = in_dollars and not one.get("isSpot") and not one.get("prepaidTime")
            if not usd or not ours or one.get("gpuCount") != want.gpus or not want.takes_gpu(name):
                continue
            where = text(one.get("region"))
            if one.get("stockStatus") == "Unavailable" or (want.regions and where not in want.regions):
                continue
            disk = part(one, "disk")
            if part(disk, "defaultIncludedInPrice") is False:
                usd += want.disk_gb * (number(part(disk, "pricePerUnit")) or 0.0)
            keys = ("cloudId", "gpuType", "socket", "dataCenter", "country", "security", "provider")
            id_ = json.dumps({key: text(one.get(key)) for key in keys if text(one.get(key))}, sort_keys=True)
            offers.append(Offer(self.name, id_, name, want.gpus, usd))
        return tuple(offers)

    async def create(self, offer: Offer, order: Order) -> str:
        """As Provider says; ``maxPrice`` is checked by Prime itself."""
        chosen = json.loads(offer.id)
        pod = {
            "name": order.name,
            "cloudId": chosen.get("cloudId"),
            "gpuType": chosen.get("gpuType"),
            "socket": chosen.get("socket"),
            "dataCenterId": chosen.get("dataCenter"),
            "country": chosen.get("country"),
            "security": chosen.get("security"),
            "gpuCount": offer.gpus,
            "diskSize": order.want.disk_gb,
            "maxPrice": order.want.usd_per_hour / order.want.nodes,
            "image": order.want.image or IMAGE,
            "sshKeyId": await self._key(label_of(order.name), order.public_key),
        }
        body = {"pod": pod, "provider": {"type": chosen.get("provider")}}
        said = await self._api.once("POST", "/pods/", body)
        if not text(said.get("id")):
            raise self._api.nonsense("the id of a pod")
        return text(said["id"])

    async def instances(self) -> tuple[Instance, ...]:
        """As Provider says; ended ones stand in another list."""
        return tuple(_instance(pod) for pod in await self._pages("/pods/", "data"))

    async def end(self, instance: Instance) -> None:
        """As Provider says."""
        try:
            await self._api.repeat("DELETE", f"/pods/{instance.id}")
        except ProviderError as error:
            if error.status != 404:
                raise

    async def tidy(self, label: str) -> None:
        """As Provider says."""
        for key in await self._pages("/ssh_keys/", "data"):
            if key.get("name") == label:
                for id_ in usable_ids(text(key.get("id"))):
                    await self._api.repeat("DELETE", f"/ssh_keys/{id_}")

    async def _key(self, label: str, public_key: str) -> str:
        for key in await self._pages("/ssh_keys/", "data"):
            if key.get("name") == label:
                return text(key.get("id"))
        said = await self._api.once("POST", "/ssh_keys/", {"name": label, "publicKey": public_key})
        if not text(said.get("id")):
            raise self._api.nonsense("the id of a key")
        return text(said["id"])

    async def _pages(
        self, path: str, field: str, params: Mapping[str, str | int] = MappingProxyType({})
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in range(MAX_PAGES):
            by_page = {"page": page + 1, "page_size": 100} if field == "items" else {"offset": len(found), "limit": 100}
            said = await self._api.get(path, {**params, **by_page})
            if not isinstance(said.get(field), list):
                raise self._api.nonsense(f"a list under {field!r}")
            found += rows(said[field])
            if len(said[field]) < 100:
                return found
        raise self._api.nonsense(f"an end after {MAX_PAGES} pages")


def _instance(pod: dict[str, Any]) -> Instance:
    status, said = text(pod.get("status")), pod.get("sshConnection")
    line = text(said[0] if isinstance(said, list) and said else said)
    node = _read(line)
    ready = status == "ACTIVE" and pod.get("installationStatus") == "FINISHED" and node is not None
    broken = pod.get("installationStatus") in ("ERROR", "TERMINATED")
    return Instance(
        text(pod.get("id")),
        text(pod.get("name")),
        _STATES.get(status, "broken" if broken else "ready" if ready else "booting"),
        node.host if node else "",
        (node.port or 22) if node else 22,
        (node.user or "root") if node else "root",
        usd_per_hour=number(pod.get("priceHr")),
        note=text(pod.get("installationFailure")) or status,
    )


def _read(line: str) -> Node | None:
    """Read "root@1.2.3.4 -p 22"."""
    if not line:
        return None
    try:
        return Node.parse(line if line.startswith("ssh ") else f"ssh {line}")
    except ValueError:
        return None
