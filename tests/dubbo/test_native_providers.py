"""What one loop has of providers that it speaks Dubbo to itself: made, shared, let go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dragoman.dubbo.native import Providers
from dragoman.errors import UsageError
from dragoman.registry import Registration

from .fake import HOST


def registered(port: int, serialization: str = "hessian2") -> Registration:
    return Registration(
        interface="a.B", host=HOST, port=port, protocol="dubbo", serialization=serialization
    )


class User:
    """What wants to be told of a provider's comings and goings, and is not interested."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self.egress = SimpleNamespace(limit_max=0)
        self.busy = False

    def look(self) -> None:
        """Nothing."""


def test_a_provider_that_cannot_be_spoken_to_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        providers = Providers(asyncio.get_running_loop())

        def unused(*_: Any) -> Any:
            raise AssertionError("there is no session to such a provider")

        for port in range(20880, 20890):
            with pytest.raises(UsageError):
                providers.link(registered(port, "kryo"), unused, unused)
        assert providers.status() == []
        await providers.close()

    asyncio.run(scenario())


def test_what_was_let_go_is_closed_with_the_rest() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            ended.set()

        server = await asyncio.start_server(serve, HOST, 0)
        registration = registered(server.sockets[0].getsockname()[1])
        providers = Providers(asyncio.get_running_loop())
        provider = providers.at(registration)
        user: Any = User(registration)
        provider.add(user)
        async with asyncio.timeout(30):
            while not provider.link.connections:
                await asyncio.sleep(0.005)
        (connection,) = provider.link.connections
        provider.remove(user)
        await providers.close()
        assert connection.closed
        async with asyncio.timeout(30):
            await ended.wait()
        server.close()

    asyncio.run(scenario())
