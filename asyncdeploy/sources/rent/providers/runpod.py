"""RunPod, REST v2, as its documents of 2026-08 say; tried against no real account."""

from __future__ import annotations

from typing import Any

import attrs

from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.providers.api import Api, api_key, number, part, rows, text
from asyncdeploy.sources.rent.providers.container import IMAGE, start_env, start_line
from asyncdeploy.sources.rent.want import Instance, Offer, Order, State, Want
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Secret

VARIABLE = "RUNPOD_API_KEY"
MAX_PAGES = 100
_STATES: dict[str, State] = {"ERROR": "broken", "EXITED": "broken", "TERMINATED": "gone"}


@checked_class
@attrs.frozen
class RunPod:
    """Pods of RunPod.

    Args:
        api_key: None is what RUNPOD_API_KEY says.
        community: machines of strangers, which are cheaper, in place of RunPod's own data centres.
        base_url: of another server that speaks this.
        spacing_s: between two requests; RunPod allows 60 a minute.
    """

    api_key: Secret | str | None = attrs.field(default=None, kw_only=True, repr=False)
    community: bool = attrs.field(default=False, kw_only=True)
    base_url: str = attrs.field(default="https://api.runpod.io/v2", kw_only=True)
    spacing_s: float = attrs.field(default=1.0, kw_only=True)
    _api: Api = attrs.field(init=False, repr=False, eq=False)

    name = "runpod"
    console = "console.runpod.io/pods"
    plants_host_key = True

    def __attrs_post_init__(self) -> None:
        key = api_key(self.api_key, VARIABLE)
        object.__setattr__(self, "_api", Api(self.name, self.base_url, key, VARIABLE, self.spacing_s))

    async def offers(self, want: Want) -> tuple[Offer, ...]:
        """As Provider says; the price is that of a GPU, and of the whole machine here."""
        said = await self._api.get("/catalog/gpus", {"include": "AVAILABILITY", "product": "POD", "count": want.gpus})
        found = said.get("gpus") if "gpus" in said else said.get("items")
        if not isinstance(found, list):
            raise self._api.nonsense("a list of GPUs")
        kind = "community" if self.community else "secure"
        offers = []
        for gpu in rows(found):
            price, most = number(part(gpu, "price", kind)), number(part(gpu, "maxCount", kind))
            name = text(gpu.get("name")) or text(gpu.get("id"))
            if not price or (most is not None and most < want.gpus) or not want.takes_gpu(name):
                continue
            for centre in rows(gpu.get("dataCenters")):
                where = text(centre.get("id"))
                stock = text(centre.get("availability"))
                if where and stock not in ("", "NONE") and (not want.regions or where in want.regions):
                    id_ = f"{text(gpu.get('id'))}@{where}"
                    offers.append(Offer(self.name, id_, name, want.gpus, price * want.gpus, want.nodes, where))
        return tuple(offers)

    async def create(self, offer: Offer, order: Order) -> str:
        """As Provider says."""
        gpu, _, where = offer.id.rpartition("@")
        body: dict[str, Any] = {
            "name": order.name,
            "image": order.want.image or IMAGE,
            "gpu": {"id": gpu, "count": offer.gpus},
            "disk": order.want.disk_gb,
            "ports": ["22/tcp"],
            "cloud": "COMMUNITY" if self.community else "SECURE",
            "dataCenterIds": [where],
            "args": start_line(),
            "env": start_env(order),
        }
        if order.want.is_joined:
            body["globalNetworking"] = True
        said = await self._api.once("POST", "/pods", body)
        if not text(said.get("id")):
            raise self._api.nonsense("the id of a pod")
        return text(said["id"])

    async def instances(self) -> tuple[Instance, ...]:
        """As Provider says; pods of clusters are not listed, and never made here."""
        found: list[Instance] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            said = await self._api.get("/pods", {"cursor": cursor} if cursor else {})
            if not isinstance(said.get("pods"), list):
                raise self._api.nonsense("a list of pods")
            found += [self._instance(pod) for pod in rows(said["pods"])]
            cursor = text(part(said, "pagination", "nextCursor"))
            if not part(said, "pagination", "hasNextPage") or not cursor:
                return tuple(found)
        raise self._api.nonsense(f"an end after {MAX_PAGES} pages")

    def _instance(self, pod: dict[str, Any]) -> Instance:
        direct, status = part(pod, "ssh", "direct"), text(pod.get("status"))
        host, port = text(part(direct, "host")), part(direct, "port")
        ready = status == "RUNNING" and host and isinstance(port, int)
        return Instance(
            text(pod.get("id")),
            text(pod.get("name")),
            _STATES.get(status, "ready" if ready else "booting"),
            host,
            port if isinstance(port, int) else 22,
            text(part(direct, "username")) or "root",
            text(part(pod, "globalNetworking", "ip")),
            number(pod.get("cost")),
            status,
        )

    async def end(self, instance: Instance) -> None:
        """As Provider says."""
        try:
            await self._api.repeat("DELETE", f"/pods/{instance.id}")
        except ProviderError as error:
            if error.status != 404:
                raise

    async def tidy(self, label: str) -> None:
        """As Provider says: keys are in the pods alone."""
