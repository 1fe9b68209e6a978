"""A peer: ``aiohttp``, a POST that is echoed, what a Python team has at hand without an RPC.

HTTP/1.1 carries one request at a time on a connection, so ``--connections`` does not apply: the
client keeps up to 100 connections, as is its default. The invariant: a reply that is not 200 is an
error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp import web

from dragoman.bench.rpc.contestant import HOST, AsyncContestant

BODY_BYTES_MAX = 64 * 2**20


class HttpClient:
    """See ``Connection``."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/echo"
        self._session = aiohttp.ClientSession(raise_for_status=True)

    async def call(self, _method: str, body: bytes, /) -> bytes:
        """One call."""
        async with self._session.post(self._url, data=body) as response:
            return await response.read()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


class PeerHttp(AsyncContestant):
    """See the module."""

    name = "http"
    title = "aiohttp, HTTP/1.1"
    styles = frozenset({"await", "lone"})
    single = True

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_post("/echo", _echo)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0, backlog=1024).start()
        host, port = runner.addresses[0][:2]
        ready(f"{host}:{port}")
        await asyncio.Event().wait()

    async def connect(self, address: str) -> HttpClient:
        """See ``AsyncContestant``."""
        return HttpClient(address)
