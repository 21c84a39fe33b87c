"""The provider itself: an HTTP server on loopback with one state, spoken to in four dialects.

The shapes are those of the providers' documents. A fault is a name with how often it happens; what is done to a foreign
machine is kept as a crime. A "gap" is a list without any of ours, after one that showed them.
"""

import asyncio
import contextlib
import json
import operator
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from tests.support.rented.machines import Machine, Machines, planted

FAULTS = (
    *("lost create", "500 after create", "html", "phantom", "late port", "429", "end refused", "end untrue"),
    *("dearer", "no key", "other host key", "no capacity", "500", "gap", "429 to create"),
)
USD = 1.5
LATE_S = 0.5


class FakeProvider:
    """One account at one provider.

    ``stock``: what else Vast offers. ``lag_s``: its lists show what was so long ago. ``twist``: changes what it says.
    ``drips``: its lists never end.
    """

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.machines = Machines()
        self.faults: Counter[str] = Counter()
        self.lag_s = 0.0
        self.creates: list[str] = []
        self.crimes: list[str] = []
        self.joined: set[str] = set()
        self.shown: set[str] = set()
        self.stock: list[dict[str, Any]] = []
        self.twist: Callable[[Any], Any] | None = None
        self.drips = False
        self.keys: dict[str, dict[str, str]] = {}
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 22)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        for name in ("train-1", "ad-somebodyelse-abcdefgh-0-1000000000", "ad-me-abcdefgh-0-1000000000x"):
            self.machines.make(name, 9.0, foreign=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        self.machines.close()

    def took(self, fault: str) -> bool:
        """Whether this fault happens now."""
        if self.faults[fault] <= 0:
            return False
        self.faults[fault] -= 1
        return True

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer key":
            return web.json_response({"error": "who are you"}, status=401)
        body = json.loads(await request.read() or b"{}")
        words = [word for word in request.path.split("/") if word and word not in ("v0", "v1")]
        if self.drips and request.method == "GET" and words[0] != "catalog":
            return await drip(request)
        said: web.StreamResponse = await DIALECTS[self.dialect](self, request.method, words, body, request)
        if self.twist is not None and isinstance(said, web.Response) and said.content_type == "application/json":
            return web.json_response(self.twist(json.loads(said.text or "{}")), status=said.status)
        return said

    async def create(
        self, request: web.Request, name: str, keys: tuple[str, str], answer: Any, *, status: int = 200
    ) -> web.StreamResponse:
        """Make a machine, as the faults of the day want it; ``answer`` makes the right answer of its id."""
        if self.took("429 to create"):
            return web.Response(text="API requests too frequent endpoint threshold=4.5", status=429)
        self.creates.append(name)
        if self.took("no capacity"):
            return web.json_response({"detail": "there are no longer any instances available"}, status=400)
        if self.took("phantom"):
            return web.json_response(answer("m1"), status=status)
        usd = USD * 4 if self.took("dearer") else USD
        machine = self.machines.make(name, usd, late_s=LATE_S if self.took("late port") else 0.0)
        public, host = keys
        self.machines.boot(machine, "" if self.took("no key") else public, "" if self.took("other host key") else host)
        if self.took("lost create"):
            assert request.transport is not None
            request.transport.abort()
            await asyncio.sleep(0)
        if self.took("500 after create"):
            return web.json_response({"error": "internal"}, status=500)
        return web.json_response(answer(machine.id), status=status)

    def listed(self) -> list[Machine] | web.Response:
        """What the list shows, or what comes in its place."""
        if self.took("429"):
            return web.Response(text="slow down", status=429)
        if self.took("500"):
            return web.json_response({"error": "internal"}, status=500)
        if self.took("html"):
            return web.Response(text="<html>back soon</html>", content_type="text/html")
        at = time.monotonic() - self.lag_s
        listed = [one for one in self.machines.all.values() if one.foreign or one.lives(at)]
        ours = {one.id for one in listed if not one.foreign}
        if ours and ours <= self.shown and self.took("gap"):
            return [one for one in listed if one.foreign]
        self.shown |= ours
        return listed

    def ready(self, machine: Machine) -> bool:
        return time.monotonic() >= machine.ready_at

    def end(self, id_: str, ok: Any, *, status: int = 200) -> web.Response:
        machine = self.machines.all.get(id_)
        if machine is None:
            return web.json_response({"detail": "not found"}, status=404)
        if machine.foreign:
            self.crimes.append(machine.name)
        if self.took("end refused"):
            return web.json_response({"detail": "it is being provisioned"}, status=409)
        if not self.took("end untrue"):
            machine.ended_at = machine.ended_at or time.monotonic()
            machine.stop()
        return web.json_response(ok, status=status) if ok is not None else web.Response(status=status)


async def drip(request: web.Request) -> web.StreamResponse:
    """Say a space now and then, until the asker leaves."""
    said = web.StreamResponse(headers={"Content-Type": "application/json"})
    await said.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await said.write(b" ")
            await asyncio.sleep(0.05)
    return said


async def _runpod(fake: FakeProvider, method: str, words: list[str], body: Any, request: web.Request) -> Any:
    match method, words:
        case "GET", ["catalog", "gpus"]:
            centre = {"id": "EU-1", "name": "EU-1", "availability": "HIGH"}
            price = {"secure": USD / 2, "community": 0.3}
            gpu = {"id": "NVIDIA A", "name": "A", "price": price, "maxCount": {"secure": 8}, "dataCenters": [centre]}
            return web.json_response({"gpus": [gpu]})
        case "POST", ["pods"]:
            assert {"name", "image", "gpu", "disk", "ports", "cloud", "dataCenterIds", "args", "env"} >= set(body) - {
                "globalNetworking"
            }, "RunPod refuses unknown fields"
            fake.joined |= {body["name"]} if body.get("globalNetworking") else set()
            return await fake.create(request, body["name"], planted(body["env"]), lambda id_: {"id": id_}, status=201)
        case "GET", ["pods"]:
            found = fake.listed()
            if isinstance(found, web.Response):
                return found
            return web.json_response({"pods": [_runpod_pod(fake, one) for one in found]})
        case "DELETE", ["pods", id_]:
            return fake.end(id_, None, status=204)
    return web.json_response({"title": "no such path"}, status=404)


def _runpod_pod(fake: FakeProvider, one: Machine) -> dict[str, Any]:
    direct = {"host": one.address, "port": one.port, "username": "root"} if fake.ready(one) else None
    said = {"id": one.id, "name": one.name, "status": "RUNNING", "cost": one.usd_per_hour, "ssh": {"direct": direct}}
    if one.name not in fake.joined:
        return {**said, "globalNetworking": {"enabled": False}}
    return {**said, "globalNetworking": {"enabled": True, "ip": None if fake.took("alone") else one.address}}


async def _vast(fake: FakeProvider, method: str, words: list[str], body: Any, request: web.Request) -> Any:
    match method, words:
        case "POST", ["bundles"]:
            offer = {"gpu_name": "A", "num_gpus": 2, "dph_base": USD, "dph_total": USD, "storage_cost": 0.0}
            stock = [{**offer, "id": 7}, {**offer, "id": 8}, {**offer, "id": 9}, *fake.stock]
            return web.json_response({"offers": _vast_offers(stock, body)})
        case "PUT", ["asks", _]:
            assert body["env"]["-p 22:22"] == "1"
            return await fake.create(
                request, body["label"], planted(body["env"]), lambda id_: {"success": True, "new_contract": id_}
            )
        case "GET", ["instances"]:
            found = fake.listed()
            if isinstance(found, web.Response):
                return found
            return web.json_response({"instances": [_vast_one(fake, one) for one in found], "next_token": None})
        case "DELETE", ["instances", id_]:
            return fake.end(id_, {"success": True})
    return web.json_response({"error": "no such path"}, status=404)


def _vast_offers(stock: list[dict[str, Any]], body: Any) -> list[dict[str, Any]]:
    """What is asked for, as far as these offers say anything about it."""
    compares = {"eq": operator.eq, "gte": operator.ge, "lte": operator.le}
    asked = [(field, *one) for field, how in body.items() if isinstance(how, dict) for one in how.items()]
    found = [row for row in stock if all(compares[how](row.get(field, value), value) for field, how, value in asked)]
    [[key, _]] = body["order"]
    return sorted(found, key=lambda row: row[key])[: body["limit"]]


def _vast_one(fake: FakeProvider, one: Machine) -> dict[str, Any]:
    ports = {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(one.port)}]} if fake.ready(one) else None
    return {
        "id": one.id,
        "label": one.name,
        "actual_status": "running",
        "public_ipaddr": f" {one.address}\n",
        "ports": ports,
        "dph_total": one.usd_per_hour,
    }


async def _lambda(fake: FakeProvider, method: str, words: list[str], body: Any, request: web.Request) -> Any:
    match method, words:
        case "GET", ["instance-types"]:
            kind = {"name": "gpu_2x_a", "gpu_description": "A", "price_cents_per_hour": USD * 100, "specs": {"gpus": 2}}
            regions = [{"name": "us-1"}, {"name": "us-2"}]
            data = {"gpu_2x_a": {"instance_type": kind, "regions_with_capacity_available": regions}}
            return web.json_response({"data": data})
        case "POST", ["instance-operations", "launch"]:
            public = fake.keys[body["ssh_key_names"][0]]["public_key"]
            cloud = json.loads(body["user_data"].removeprefix("#cloud-config\n"))
            keys = public, cloud["ssh_keys"]["ed25519_private"]
            return await fake.create(request, body["name"], keys, lambda id_: {"data": {"instance_ids": [id_]}})
        case "GET", ["instances"]:
            found = fake.listed()
            if isinstance(found, web.Response):
                return found
            return web.json_response({"data": [_lambda_one(fake, one) for one in found]})
        case "POST", ["instance-operations", "terminate"]:
            return fake.end(body["instance_ids"][0], {"data": {"terminated_instances": []}})
        case _, ["ssh-keys", *rest]:
            return _keys(fake, method, rest, body, "public_key")
    return web.json_response({"error": {"code": "global/not-found", "message": "no"}}, status=404)


def _lambda_one(fake: FakeProvider, one: Machine) -> dict[str, Any]:
    kind = {"name": "gpu_2x_a", "price_cents_per_hour": one.usd_per_hour * 100, "specs": {"gpus": 2}}
    said = {"id": one.id, "name": one.name, "status": "active", "instance_type": kind}
    if not fake.ready(one):
        return {**said, "status": "booting"}
    private = {} if fake.took("alone") else {"private_ip": one.address}
    return {**said, "ip": one.address, **private}


async def _prime(fake: FakeProvider, method: str, words: list[str], body: Any, request: web.Request) -> Any:
    match method, words:
        case "GET", ["availability", "gpus"]:
            item = {"cloudId": "c", "gpuType": "A", "socket": "PCIe", "provider": "p", "gpuCount": 2, "region": "eu"}
            item |= {"prices": {"onDemand": USD, "currency": "USD"}, "stockStatus": "Available"}
            return web.json_response({"items": [item, {**item, "cloudId": "d"}], "totalCount": 2})
        case "POST", ["pods"]:
            pod = body["pod"]
            public = next(key["public_key"] for key in fake.keys.values() if key["id"] == pod["sshKeyId"])
            return await fake.create(request, pod["name"], (public, ""), lambda id_: {"id": id_})
        case "GET", ["pods"]:
            found = fake.listed()
            if isinstance(found, web.Response):
                return found
            return web.json_response({"total_count": len(found), "data": [_prime_pod(fake, one) for one in found]})
        case "DELETE", ["pods", id_]:
            return fake.end(id_, {"status": "TERMINATED"})
        case _, ["ssh_keys", *rest]:
            return _keys(fake, method, rest, body, "publicKey")
    return web.json_response({"detail": "no"}, status=404)


def _prime_pod(fake: FakeProvider, one: Machine) -> dict[str, Any]:
    said = {"id": one.id, "name": one.name, "status": "ACTIVE", "installationStatus": "FINISHED"}
    way = f"root@{one.address} -p {one.port}" if fake.ready(one) else [None]
    return {**said, "priceHr": one.usd_per_hour, "sshConnection": way}


def _keys(fake: FakeProvider, method: str, rest: list[str], body: Any, field: str) -> web.Response:
    if method == "POST":
        fake.keys[body["name"]] = {"id": f"k{len(fake.keys)}", "name": body["name"], "public_key": body[field]}
        return web.json_response(fake.keys[body["name"]])
    if method == "DELETE":
        fake.keys = {name: key for name, key in fake.keys.items() if key["id"] != rest[0]}
        return web.json_response({})
    return web.json_response({"data": list(fake.keys.values())})


DIALECTS = {"runpod": _runpod, "vast": _vast, "lambda": _lambda, "prime": _prime}
