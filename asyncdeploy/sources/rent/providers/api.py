"""One way to ask any provider: Api. All answers are bounded, by http.MAX_ANSWER, and take up to 30 times their bytes.

What may be repeated is; what costs money only after HTTP 429, with which a provider says that it did nothing.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

from asyncdeploy.nodes.names import shown
from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.providers.http import NoAnswer, request
from asyncdeploy.values.command import Secret
from asyncdeploy.values.errors import ToolMissing
from asyncdeploy.values.words import one_line

ASK_S = 60.0
"""One request: a create takes some seconds, 30 at worst."""
TRIES = 4
"""Of a question that may be repeated."""
MAX_WAIT_S = 30.0
"""Between two of them, whatever Retry-After says: the caller's own deadline comes first."""
MAX_PRICE = 1e9
"""An hour."""
MAX_TEXT = 2000
"""Characters of a field; names have some dozens, a state's message some hundreds."""
MAX_DIGITS = 9
"""Of a port, or of seconds to wait."""
MAX_SAID = 300
"""Characters of a provider's own words in an error."""

_REASONS = {400: "refused", 401: "auth", 402: "balance", 403: "auth", 404: "refused", 408: "unreachable"}
_REASONS |= {409: "refused", 410: "refused", 422: "refused", 429: "throttled"}
_CAPACITY = ("capacity", "no longer any instances", "no_such_ask", "out of stock", "not available", "unavailable")
_QUOTA = ("quota", "limit exceeded", "spending limit")


class Api:
    """A provider's HTTP: who asks, where, and how often at most."""

    def __init__(self, name: str, base_url: str, key: Secret, variable: str, spacing_s: float) -> None:
        if importlib.util.find_spec("aiohttp") is None:
            raise ToolMissing(
                "", f"{name}: aiohttp is needed to ask it", "pip install 'asyncdeploy[rent]'", tool="aiohttp"
            )
        self.name = name
        self._base_url = _checked_url(name, base_url)
        self._key = key
        self._variable = variable
        self._spacing_s = spacing_s
        self._free_at = 0.0

    async def get(self, path: str, params: Mapping[str, str | int] = MappingProxyType({})) -> Any:
        """Ask, again where the answer did not come."""
        return await self._repeat("GET", path, None, params)

    async def repeat(self, method: Literal["POST", "PUT", "DELETE"], path: str, body: Any = None) -> Any:
        """Do what may be done twice, again where the answer did not come."""
        return await self._repeat(method, path, body, {})

    async def once(self, method: Literal["POST", "PUT"], path: str, body: Any) -> Any:
        """Do what costs money: sent once, and again only where it came too early for the provider to look at it.

        Raises:
            ProviderError: it was refused; or nobody knows (unreachable, protocol).
        """
        return await self._repeat(method, path, body, {}, again=("throttled",))

    async def _repeat(
        self,
        method: str,
        path: str,
        body: Any,
        params: Mapping[str, str | int],
        again: Sequence[str] = ("unreachable", "throttled", "protocol"),
    ) -> Any:
        for attempt in range(1, TRIES + 1):
            try:
                return await self._ask(method, path, body, params)
            except ProviderError as error:
                if attempt == TRIES or error.reason not in again or (method in ("POST", "PUT") and error.made):
                    raise
                after = getattr(error, "retry_after_s", None)
                wait_s = self._spacing_s * 2**attempt if after is None else after
            await asyncio.sleep(min(MAX_WAIT_S, wait_s))
        raise AssertionError("unreached")

    async def _ask(self, method: str, path: str, body: Any, params: Mapping[str, str | int]) -> Any:
        if not self._key.value:
            hint = f"set {self._variable}, or give api_key"
            raise ProviderError(self.name, "no API key", hint, reason="auth")
        await self._turn()
        headers = {"Authorization": f"Bearer {self._key.value}", "Accept": "application/json"}
        try:
            answer = await request(
                method, self._base_url + path, body=body, params=params, headers=headers, within_s=ASK_S
            )
        except NoAnswer as error:
            words = one_line(str(error), MAX_SAID)
            raise ProviderError(self.name, f"{method} {path}: no answer ({words})", reason="unreachable") from None
        return self._judge(f"{method} {path}", answer.status, answer.retry_after, answer.data)

    async def _turn(self) -> None:
        """Keep the distance between two requests that the provider asks for."""
        now = asyncio.get_running_loop().time()
        mine, self._free_at = max(now, self._free_at), max(now, self._free_at) + self._spacing_s
        if mine > now:
            await asyncio.sleep(mine - now)

    def _judge(self, what: str, status: int, after: str | None, data: bytes) -> Any:
        if 200 <= status < 300 and not data.strip():
            return {}
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            said = None
        if 200 <= status < 300 and isinstance(said, dict) and said.get("success") is not False:
            return said
        reason = _REASONS.get(status, "unreachable" if status >= 500 else "protocol")
        words = self._words(said if said is not None else data)
        if 200 <= status < 300:  # an error in the clothes of a success, or no JSON
            reason = "refused" if isinstance(said, dict) else "protocol"
        if reason in ("refused", "auth") and any(word in words.lower() for word in _CAPACITY):
            reason = "no capacity"
        elif reason == "refused" and any(word in words.lower() for word in _QUOTA):
            reason = "quota"
        contract = said.get("new_contract") if isinstance(said, dict) else None
        error = ProviderError(
            self.name,
            f"{what}: HTTP {status}, {reason}{f': {words}' if words else ''}",
            hint=f"is {self._variable} right?" if reason == "auth" else "",
            reason=reason,
            status=status,
            made=() if contract is None else (str(contract),),
        )
        if after is not None and is_number(after):
            error.retry_after_s = float(after)  # type: ignore[attr-defined]
        raise error

    def _words(self, said: Any) -> str:
        """Return what a provider says is wrong, without our own key in it."""
        if isinstance(said, bytes):
            text = one_line(said, MAX_SAID)
        elif isinstance(said, dict):
            found = [said.get(key) for key in ("error", "title", "detail", "message", "msg", "errors") if said.get(key)]
            text = "; ".join(each if isinstance(each, str) else json.dumps(each) for each in found)
        else:
            text = json.dumps(said)
        return one_line(text.replace(self._key.value or "\0", "***"), MAX_SAID)

    def nonsense(self, what: str) -> ProviderError:
        """Return the error for an answer that is not what the provider's documents say."""
        return ProviderError(self.name, f"{what} was expected in its answer, and is not there", reason="protocol")


def _checked_url(name: str, url: str) -> str:
    parts = urlsplit(url)
    try:
        loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = False
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)) or parts.query:
        raise ValueError(f"{name} base_url: an https:// address was expected, got {shown(url)}")
    return url.rstrip("/")


def api_key(given: Secret | str | None, variable: str) -> Secret:
    """Return the key that was given, or what the provider's usual variable says."""
    return given if isinstance(given, Secret) else Secret(given or os.environ.get(variable) or None)


def number(value: Any) -> float | None:
    """Return a price that somebody said; None for what is none. One that nobody pays stays above all limits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(min(value, MAX_PRICE))


def is_number(said: str) -> bool:
    """Return whether a text is a whole number; "\u00b2" is a digit to Python, and no number."""
    return said.isascii() and said.isdigit() and len(said) <= MAX_DIGITS


def text(value: Any) -> str:
    """Return a text that somebody said, its beginning if it is long; "" for what is none.

    White space stands around addresses at times; what is no letter is written out, for people see it on a terminal.
    """
    return one_line(value.strip(), MAX_TEXT) if isinstance(value, str) else ""


def rows(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list that somebody said."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def part(value: Any, *path: str) -> Any:
    """Return what stands at the end of a path of keys; None where it breaks off."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
