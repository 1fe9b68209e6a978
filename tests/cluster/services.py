"""Callers and servers for tests of a service on the simulated network."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from dragoman.cluster.options import Options
from dragoman.cluster.service import Service
from dragoman.errors import (
    DragomanError,
)
from dragoman.registry.registration import Registration
from dragoman.testing import SimulatedLoop
from dragoman.testing.mesh import Server
from dragoman.testing.services import ServiceRequest, submit
from dragoman.testing.sessions import IncomingRequest


def registration(
    host: str, *, weight: int = 1, port: int = 1, interface: str = "a.B"
) -> Registration:
    return Registration(interface=interface, host=host, port=port, weight=weight)


class Callers:
    """A service and how its requests ended: ``ends[number]`` holds what each got.

    Services with the same ``options`` share the servers that they have in common.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        name: str = "a.B",
        *,
        options: Options | None = None,
        **settings: Any,
    ) -> None:
        self.loop = loop
        self.service = Service(loop, name.encode(), options or Options(seed=loop.seed, **settings))
        self.ends: dict[int, list[bytes | DragomanError]] = {}
        self.ended_s: dict[int, float] = {}

    def submit(
        self, number: int, body: bytes | None = None, timeout_ms: int = 5000, method: bytes = b"m"
    ) -> ServiceRequest:
        ends = self.ends.setdefault(number, [])

        def end(result: bytes | DragomanError) -> None:
            ends.append(result)
            self.ended_s[number] = self.loop.time()

        body = b"%d" % number if body is None else body
        return submit(self.service, method, body, end, end, timeout_ms=timeout_ms)

    def end(self, number: int) -> bytes | DragomanError:
        (end,) = self.ends[number]
        return end

    def error(self, number: int) -> DragomanError:
        end = self.end(number)
        assert isinstance(end, DragomanError), end
        return end

    def kinds(self) -> Counter[str]:
        """How many ended how; fails if any ended not at all or twice."""
        assert all(len(ends) == 1 for ends in self.ends.values())
        return Counter(
            "ok" if isinstance(ends[0], bytes) else type(ends[0]).__name__
            for ends in self.ends.values()
        )

    def endpoint(self, host: str) -> dict[str, Any]:
        """An endpoint's status."""
        (found,) = [
            e for e in self.service.status()["endpoints"] if e["address"].startswith(f"{host}:")
        ]
        return found


def servers(loop: SimulatedLoop, hosts: str, **options: Any) -> dict[str, Server]:
    """A server on each host, named by one letter."""
    return {host: Server(loop, address=(host, 1), **options) for host in hosts}


async def ready(
    loop: SimulatedLoop, hosts: str, weights: list[int] | None = None, **options: Any
) -> Callers:
    """Callers with sessions to all of ``hosts``."""
    callers = Callers(loop, **options)
    weights = weights or [1] * len(hosts)
    callers.service.update(
        [registration(host, weight=weight) for host, weight in zip(hosts, weights, strict=True)]
    )
    await asyncio.sleep(0.1)
    return callers


def answer(server: Server, error: Exception | None = None) -> None:
    """Have ``server`` answer everything with ``error``, or never (None)."""

    def work(request: IncomingRequest) -> None:
        server.requests.append(request)
        if error is not None:
            request.fail(error)

    server.work = work
