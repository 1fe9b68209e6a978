"""What one loop has of providers that it speaks Dubbo to itself: made, shared, let go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from dragoman.cluster.dialing import BURSTS, DEAD, RATES
from dragoman.dubbo.upstream.direct import DirectProviders
from dragoman.errors import UsageError
from dragoman.registry import Registration
from tests.dubbo.fake import HOST
from tests.waiting import until


def registered(port: int, serialization: str = "hessian2") -> Registration:
    return Registration(
        interface="a.B", host=HOST, port=port, protocol="dubbo", serialization=serialization
    )


class User:
    """What wants to be told of a provider's comings and goings, and is not interested."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self.egress = SimpleNamespace(limit_max=0)
        self.limit = 0

    def look(self) -> None:
        """Nothing."""


def test_a_provider_that_cannot_be_spoken_to_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        providers = DirectProviders(asyncio.get_running_loop())

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
        providers = DirectProviders(asyncio.get_running_loop())
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


def links(providers: DirectProviders, registrations: list[Registration]) -> list[list[str]]:
    """Links to all of them, started; what each is told, in time, of why it has no session."""
    told: list[list[str]] = []

    def unused() -> Any:
        raise AssertionError("there is no session to a dead provider")

    for registration in registrations:
        said: list[str] = []
        told.append(said)
        providers.link(registration, unused, said.append).start()
    return told


def attempts(providers: DirectProviders) -> int:
    return sum(link.attempts for each in providers._providers.values() for link in each.link.links)


def test_a_thousand_services_of_a_dead_provider_hear_once_why() -> None:
    async def scenario() -> None:
        providers = DirectProviders(asyncio.get_running_loop())
        told = links(providers, [registered(1) for _ in range(1000)])
        await until(lambda: attempts(providers) >= 4 and all(told), 30.0)
        assert {len(each) for each in told} == {1}
        (provider,) = providers._providers.values()
        # Nobody has needed what a session takes.
        assert not any(user.egress for user in provider._users)
        await providers.close()

    asyncio.run(scenario())


def test_dead_providers_are_tried_within_the_budget_of_the_loop() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        providers = DirectProviders(loop)
        dead = [
            Registration(interface="a.B", host=f"127.9.0.{n}", port=1, protocol="dubbo")
            for n in range(1, 251)
        ]
        told = links(providers, dead)
        await until(lambda: all(told), 30.0)
        before, began_s = attempts(providers), loop.time()
        await asyncio.sleep(1.5)
        most = BURSTS[DEAD] + RATES[DEAD] * (loop.time() - began_s)
        assert attempts(providers) - before <= most + 1
        await providers.close()

    asyncio.run(scenario())


def test_the_limit_is_the_highest_that_is_said_now() -> None:
    async def scenario() -> None:
        providers = DirectProviders(asyncio.get_running_loop())
        users: list[Any] = [
            User(msgspec.structs.replace(registered(1), limit=limit)) for limit in (7, 30, 30, 9)
        ]
        provider = providers.at(users[0].registration)
        for each in users:
            provider.add(each)
        await until(lambda: provider.pool.limit == 30, 30.0)
        provider.remove(users[1])
        provider.limited(users[3], 11)
        await asyncio.sleep(0.05)
        assert provider.pool.limit == 30
        provider.remove(users[2])
        await until(lambda: provider.pool.limit == 11, 30.0)
        assert {each.egress.limit_max for each in (users[0], users[3])} == {11}
        await providers.close()

    asyncio.run(scenario())
