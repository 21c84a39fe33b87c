"""One rental in the making: machines are asked for, booted and proven, or given back, and the next offer is tried."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.sources.rent.errors import NotGivenBack, ProviderError, RentFailed
from asyncdeploy.sources.rent.giving_back import LEAST_S, LOOKS, Patience, give_back, not_given_back, usable_ids
from asyncdeploy.sources.rent.kept import keep
from asyncdeploy.sources.rent.keys import KeyPair, fingerprint, new_key
from asyncdeploy.sources.rent.ledger import Entry, Ledger
from asyncdeploy.sources.rent.names import RentedName, label_of
from asyncdeploy.sources.rent.offers import ask_all, plans
from asyncdeploy.sources.rent.provider import Provider
from asyncdeploy.sources.rent.proving import leaves, prove
from asyncdeploy.sources.rent.rental import Rental, known_hosts_lines
from asyncdeploy.sources.rent.want import Instance, Offer, Order, Want
from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.threads import run_in_thread

CENT = 0.01
"""An hour: providers round."""
HOPELESS = ("auth", "balance")
"""Reasons after which no other offer of the same provider is tried."""


class Failed(Exception):
    """A plan did not become nodes; the text says why."""


@attrs.define
class Booking:
    """What is known while a rental is made, and what ends it."""

    providers: Mapping[str, Provider]
    want: Want
    owner: str
    until: int
    boot_s: float
    patience: Patience
    ledger: Ledger
    key: KeyPair = attrs.field(factory=new_key)
    attempts: list[str] = attrs.field(factory=list)

    async def make(self) -> Rental:
        """Return the rental.

        Raises:
            RentFailed: no offer became nodes; all was given back.
            ProviderError: no provider takes our key.
            NotGivenBack: a machine of a plan that failed could not be given back, so no other plan was tried.

        On cancellation, and when anything else goes wrong, what was asked for is ended; what could not be proven gone
        by then is a note on the error.
        """
        try:
            await run_in_thread(self.ledger.write_key, self.key.private)
            return await self._make()
        except BaseException as error:
            await self.end(error)
            raise

    async def _make(self) -> Rental:
        offers, errors = await ask_all(self.providers, self.want)
        self.attempts += [f"{error.node}: {_words(error)}" for error in errors]
        if [error.reason for error in errors] == ["auth"] * len(self.providers):
            for error in errors[1:]:
                errors[0].add_note(error.describe())
            raise errors[0]
        hopeless: set[str] = set()
        for plan in plans(offers, self.want):
            if hopeless & {offer.provider for offer in plan}:
                continue
            try:
                return await self._try(plan)
            except ProviderError as error:
                self.attempts.append(f"{plan[0]}: {_words(error)}")
                hopeless |= {error.node} if error.reason in HOPELESS else set()
            except Failed as error:
                self.attempts.append(f"{plan[0]}: {error}")
            left = await give_back(self.providers, self._entries(), self.patience, [self.ledger])
            if left is not None:
                raise left
        raise self._failed(offers)

    def _failed(self, offers: tuple[Offer, ...]) -> RentFailed:
        want = self.want
        if want.is_joined:
            for name in sorted({offer.provider for offer in offers if not offer.place}):
                self.attempts.append(f"{name}: does not say which of its machines share a private network")
        wish = f"{want.nodes} x {want.gpus} {want.gpu} for at most ${want.usd_per_hour:.2f} an hour together"
        why = f"{len(offers)} offers, none became nodes" if self.attempts else "no offer fits"
        hint = "find_offers shows what there is; a higher usd_per_hour, other regions or together=False let more in"
        return RentFailed("", f"{wish}: {why}", hint, "\n".join(self.attempts[-10:]), tuple(self.attempts))

    def _entries(self) -> list[Entry]:
        return list(self.ledger.entries.values())

    async def _try(self, plan: tuple[Offer, ...]) -> Rental:
        names, hosts = [], [new_key() for _ in plan]
        for offer, host in zip(plan, hosts, strict=True):
            names.append(await self._ask_for(offer, host))
        end = asyncio.get_running_loop().time() + self.boot_s
        there = await self._booted(names, end)
        nodes = tuple(self._node(one, number) for number, one in enumerate(there))
        planted = [self.providers[offer.provider].plants_host_key for offer in plan]
        keys = [host.public if sure else None for host, sure in zip(hosts, planted, strict=True)]
        try:
            seen = await prove(nodes, keys, end)
        except ExceptionGroup as group:
            raise Failed("; ".join(str(error) for error in leaves(group))) from group
        taken = [node.name for node, key in zip(nodes, keys, strict=True) if key is None]
        notes = [f"host keys taken as they came, once: {', '.join(taken)}"] if taken else []
        unsaid = [node.name for node, one in zip(nodes, there, strict=True) if one.usd_per_hour is None]
        if unsaid:
            notes.append(f"nobody says what it costs, its offer's price is taken: {', '.join(unsaid)}")
        usd = sum(one.usd_per_hour or offer.usd_per_hour for one, offer in zip(there, plan, strict=True))
        pins = tuple(sorted((name, fingerprint(key)) for name, key in seen))
        rental = Rental(self.ledger.rental, nodes, pins, usd, self.until, tuple(notes), known_hosts_lines(nodes, seen))
        await run_in_thread(keep, rental, self.ledger.path.parent)
        return rental

    async def _ask_for(self, offer: Offer, host: KeyPair) -> str:
        """Send the request that costs money, once, and return the machine's name."""
        name = str(RentedName(self.owner, self.ledger.rental, len(self.ledger.entries), self.until))
        order = Order(name, self.want, self.key.public, host.public, host.private)
        await run_in_thread(_write_ask, self.ledger, name, offer)
        try:
            made = await self.providers[offer.provider].create(offer, order)
        except ProviderError as error:
            if error.is_definite:
                self.ledger.entries[name].gone = True
                await run_in_thread(_write, self.ledger, "gone", name, "")
            if error.is_definite or error.made:
                raise
            return name  # nobody knows: its name is looked for
        for id_ in usable_ids(made):
            await run_in_thread(_write, self.ledger, "made", name, id_)
        return name

    async def _booted(self, names: list[str], end: float) -> list[Instance]:
        """Return the machines when their providers call them ready, at no more than the price."""
        last = "no word of it"
        while True:
            listed: list[Instance] = []
            try:
                async with asyncio.timeout(max(LEAST_S, end - asyncio.get_running_loop().time())):
                    for provider in {self.ledger.entries[name].provider for name in names}:
                        listed += await self.providers[provider].instances()
                there = self._look(names, listed)
                ready = [one for one in there if one is not None and one.state == "ready"]
                alone = [one.name for one in ready if self.want.is_joined and not one.address]
                if len(ready) == len(names) and not alone:
                    return ready
                last = f"{len(names) - len(ready)} of {len(names)} not ready"
                if alone:
                    last += f"; {', '.join(alone)} has no address in a private network, which together=True asks for"
            except ProviderError as error:
                last = error.message
            except TimeoutError:
                last = "its list did not come in time"
            if asyncio.get_running_loop().time() >= end:
                raise Failed(f"not ready after {self.boot_s:.0f} s: {last}")
            await asyncio.sleep(min(self.patience.poll_s, max(0.05, end - asyncio.get_running_loop().time())))

    def _look(self, names: list[str], listed: list[Instance]) -> list[Instance | None]:
        there: list[Instance | None] = []
        for name in names:
            entry = self.ledger.entries[name]
            found = next((one for one in listed if one.name == name and one.state != "gone"), None)
            if found is not None:
                entry.see(found)
                if found.state in ("broken", "ending"):
                    raise Failed(f"{name} is {found.state}{f': {found.note}' if found.note else ''}")
            elif entry.shown:
                entry.absent += 1
                if entry.absent >= LOOKS:
                    raise Failed(f"{name} has ended by itself")
            elif time.time() - entry.asked_at > self.patience.settle_s:
                raise Failed(f"{name} never came")
            there.append(found)
        cost = sum(one.usd_per_hour or 0.0 for one in there if one is not None)
        if cost > self.want.usd_per_hour + CENT:
            raise Failed(f"dearer than offered: ${cost:.2f} an hour, at most ${self.want.usd_per_hour:.2f} was wanted")
        return there

    def _node(self, one: Instance, number: int) -> Node:
        try:
            return Node(
                one.host,
                user=one.user,
                port=one.port,
                name=f"{self.ledger.rental}-{number}",
                address=one.address or None,
                slots=self.want.gpus,
                key_path=self.ledger.key_path,
            )
        except ValueError as error:
            raise Failed(f"{one.name} has no usable address: {error}") from None

    async def end(self, error: BaseException | None) -> None:
        """Give everything back.

        Args:
            error: the caller's own error, which gets a note about what was not given back.

        Raises:
            NotGivenBack: without an error of the caller's: what could not be proven gone.
        """
        left: NotGivenBack | None = None
        try:
            await finish(self._end(), self.patience.end_s + 60)
        except asyncio.CancelledError as cancelled:
            error = error if error is not None else cancelled
            raise
        finally:
            left = not_given_back(self.providers, self._entries(), {})
            self.ledger.close()
            if left is not None and error is not None and not isinstance(error, NotGivenBack):
                error.add_note(left.describe())
        if left is not None and error is None:
            raise left

    async def _end(self) -> None:
        left = await give_back(self.providers, self._entries(), self.patience, [self.ledger])
        if left is None:
            await settle(self.providers, self.ledger)


async def settle(providers: Mapping[str, Provider], ledger: Ledger) -> None:
    """Take away the keys of a rental of which all is gone, and then its ledger.

    It stays for the next reap where one of its providers was not given, or did not take them away.
    """
    is_tidy = True
    for name, label in sorted({(entry.provider, label_of(entry.name)) for entry in ledger.entries.values()}):
        try:
            if name in providers:
                await providers[name].tidy(label)
            else:
                is_tidy = False
        except ProviderError:
            is_tidy = False  # costs nothing
    if is_tidy:
        await run_in_thread(ledger.remove)


def _words(error: ProviderError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message


def _write_ask(ledger: Ledger, name: str, offer: Offer) -> None:
    ledger.write("ask", {"name": name, "provider": offer.provider, "offer": str(offer)})


def _write(ledger: Ledger, what: str, name: str, made: str) -> None:
    try:
        ledger.write(what, {"name": name, "id": made})
    except OSError:
        # The line before the request holds the name, by which all is found again.
        ledger.entries[name].ids += [made] if made else []
