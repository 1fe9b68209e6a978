"""The admin port of an agent: health, readiness, metrics and status over HTTP.

Run by whoever supervises the workers; it knows nothing of them but the callables it is given.

- ``/healthz``: 200 while the process answers at all.
- ``/readyz``: 200 while requests are welcome, else 503 with the reason.
- ``/metrics``: Prometheus's text format.
- ``/status``: JSON for people and for ``dragoman race``.

The invariant: a page that fails answers 500 with one line and never takes the agent along; asking
for pages, however often, takes at most a small part of the loop's time (``Page``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from dragoman.agent.admin_door import AdminDoor
from dragoman.agent.listening import bound_socket, explain
from dragoman.errors import UsageError
from dragoman.observe.faults import log_fault
from dragoman.observe.metrics import Snapshot, render
from dragoman.registry import format_address

log = logging.getLogger("dragoman.admin")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Readiness = Callable[[], str | None]
"""None when ready, else the reason why not."""

# A page is shown again for so many times as long as it took to make, and at most for so long.
SPARED: Final = 10
STALE_S: Final = 0.5


class Page:
    """A page that is ``made`` when it is asked for, once for all who ask meanwhile, and shown again
    for a moment that goes by what it costs: agents with thousands of services make long ones."""

    def __init__(self, made: Callable[[], Awaitable[bytes]]) -> None:
        self._made = made
        self._making: asyncio.Task[bytes] | None = None
        self._until_s = 0.0

    async def text(self) -> bytes:
        """The page; raises what making it raised."""
        loop = asyncio.get_running_loop()
        if self._making is None or (self._making.done() and loop.time() >= self._until_s):
            self._making = loop.create_task(self._make(loop))
        # Whoever leaves does not take it from the others.
        return await asyncio.shield(self._making)

    async def _make(self, loop: asyncio.AbstractEventLoop) -> bytes:
        began_s = loop.time()
        self._until_s = 0.0
        text = await self._made()
        ended_s = loop.time()
        self._until_s = ended_s + min(STALE_S, SPARED * (ended_s - began_s))
        return text


class AdminServer:
    """Serves the admin pages on ``host:port`` until closed. Port 0 takes any free port.

    ``sock``, if it is given, listens there already.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        not_ready: Readiness,
        metrics: Callable[[], Awaitable[Snapshot]],
        status: Callable[[], Awaitable[object]],
        sock: socket.socket | None = None,
    ) -> None:
        self._host = host
        self.port = port
        self._not_ready = not_ready
        self._metrics = metrics
        self._status = status
        self._metrics_text = Page(self._make_metrics)
        self._status_text = Page(self._make_status)
        self._socket = sock
        self._door: AdminDoor | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises UsageError when that is impossible, for instance with the port in use."""
        application = web.Application(
            middlewares=[self._under_way, _one_line_errors], client_max_size=1024
        )
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_page),
                web.get("/status", self._status_page),
            ]
        )
        # Scrapers keep their connections open: closing does not wait long for them.
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        assert runner.server is not None
        try:
            sock = self._socket or bound_socket(self._host, self.port)
        except OSError as error:
            await runner.cleanup()
            raise UsageError(f"admin address {self.address}: {explain(error)}") from None
        self._runner = runner
        self.port = sock.getsockname()[1]
        self._door = AdminDoor(asyncio.get_running_loop(), sock, runner.server)
        self._door.start()

    @property
    def address(self) -> str:
        """``host:port``, with the real port once it listens."""
        return format_address(self._host, self.port)

    @property
    def sockets(self) -> list[socket.socket]:
        """The addresses that it listens on now."""
        return self._door.sockets if self._door is not None else []

    def close_door(self) -> None:
        """Take no more connections; those that are there go on."""
        if self._door is not None:
            self._door.close()

    async def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._door is not None:
            self._door.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @web.middleware
    async def _under_way(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        assert self._door is not None
        with self._door.request(request.protocol):
            return await handler(request)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._not_ready()
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{reason}\n")

    async def _metrics_page(self, request: web.Request) -> web.Response:
        return web.Response(
            body=await self._metrics_text.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _make_metrics(self) -> bytes:
        # Thousands of services take a good part of a second, which is not to be the loop's.
        return await asyncio.to_thread(render, await self._metrics())

    async def _status_page(self, request: web.Request) -> web.Response:
        return web.Response(body=await self._status_text.text(), content_type="application/json")

    async def _make_status(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(await self._status()), indent=2) + b"\n"


@web.middleware
async def _one_line_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=f"{error.reason}\n", headers=_allow(error))
    except Exception as error:
        log_fault(log, error, "admin page %s failed", request.path)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        return web.Response(status=500, text=f"{line}\n")


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
