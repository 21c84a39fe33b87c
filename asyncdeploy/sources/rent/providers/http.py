"""One HTTP request, by aiohttp: sent once, never redirected, its answer bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import aiohttp  # of the extra "rent": who rents nothing needs none of it

MAX_ANSWER = 16 << 20
"""Bytes: a list of some thousand machines."""


class NoAnswer(Exception):
    """None came, or none that may be read; whether the request arrived nobody knows."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    retry_after: str | None
    data: bytes


async def request(
    method: str, url: str, *, body: Any, params: Mapping[str, str | int], headers: Mapping[str, str], within_s: float
) -> Answer:
    """Send a request once.

    Args:
        method, url, body, params, headers: what is sent; ``body`` as JSON, None for none.
        within_s: for all of it.

    Raises:
        NoAnswer: the connection broke, the time was up, or the answer is longer than MAX_ANSWER.
    """
    import aiohttp

    async def with_headers(made: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        made.headers.update(headers)  # no earlier: a ~/.netrc that has a word for this host would clash with our key
        return await handler(made)

    timeout = aiohttp.ClientTimeout(total=within_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True, middlewares=(with_headers, _sent_once)) as session,
            session.request(
                method,
                url,
                json=body,
                params=params,
                allow_redirects=False,  # the key goes nowhere else
            ) as answer,
        ):
            return Answer(answer.status, answer.headers.get("Retry-After"), await _read(answer))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from None


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request a second time: it does so with a PUT, by which Vast rents a machine."""
    import aiohttp

    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from None


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for part in answer.content.iter_chunked(1 << 16):
        data += part
        if len(data) > MAX_ANSWER:
            raise ValueError(f"an answer of at most {MAX_ANSWER} bytes was expected")
    return bytes(data)
