"""Bodies of HTTP replies, read whole and bounded.

The clients of registries that speak HTTP call this (``gateway``, ``nacos_client``). The invariant:
a body is all that was sent, or an error; what is too long is not gathered, and its connection not
used again.
"""

from __future__ import annotations

from typing import Final

import aiohttp

# A list of 100,000 endpoints.
REPLY_BYTES_MAX: Final = 64 << 20


class TooLongError(aiohttp.ClientError):
    """A server sent more than any answer should have."""


async def read_body(reply: aiohttp.ClientResponse) -> bytes:
    """The whole body, at most REPLY_BYTES_MAX. Raises TooLongError, and aiohttp's own."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in reply.content.iter_any():
            size += len(piece)
            if size > REPLY_BYTES_MAX:
                raise TooLongError(f"reply over {REPLY_BYTES_MAX} bytes")
            pieces.append(piece)
    except BaseException:
        reply.close()
        raise
    reply.release()
    return b"".join(pieces)
