"""Iterating over the replies of many calls, with back-pressure (``Client.map``)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragoman.rpc.client import Body, Client


async def replies_in_order(
    client: Client,
    method: str,
    bodies: Iterable[Body] | AsyncIterable[Body],
    in_flight: int,
    timeout_ms: Any,
) -> AsyncGenerator[bytes, None]:
    """The replies to ``bodies`` in their order; at most ``in_flight`` calls are under way."""
    under_way: deque[asyncio.Future[bytes]] = deque()
    try:
        if isinstance(bodies, AsyncIterable):
            async for body in bodies:
                if len(under_way) == in_flight:
                    yield await under_way.popleft()
                under_way.append(client.call(method, body, timeout_ms=timeout_ms))
        else:
            for body in bodies:
                if len(under_way) == in_flight:
                    yield await under_way.popleft()
                under_way.append(client.call(method, body, timeout_ms=timeout_ms))
        while under_way:
            yield await under_way.popleft()
    finally:
        for call in under_way:
            if call.done() and not call.cancelled():
                # Looked at, so that the loop does not complain that nobody did.
                call.exception()
            call.cancel()
