"""A server on a loop in a thread of its own, for clients that block, and what it noted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from dragoman import rpc


async def slow(body: bytes) -> bytes:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        cancelled.append(bytes(body))
        raise
    return body


def fail(body: bytes) -> bytes:
    raise rpc.RemoteError(f"failed {body!r}", code=1234)


def odd_fails(body: bytes) -> bytes:
    if int(body) % 2:
        raise rpc.RemoteError("odd")
    return body


cancelled: list[bytes] = []
noted: list[bytes] = []
FUNCTIONS: dict[str, Any] = {
    "echo": lambda body: body,
    "slow": slow,
    "fail": fail,
    "odd_fails": odd_fails,
    "note": lambda body: noted.append(body) or b"",
}


@contextmanager
def served(handler: Any = FUNCTIONS, address: str = "127.0.0.1:0", **options: Any) -> Iterator[Any]:
    """A server on a loop in a thread of its own; gives its address and a way to close it."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    server = run(rpc.serve(handler, address, **options))
    server.run = run
    try:
        yield server
    finally:
        run(server.close(drain_ms=0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
