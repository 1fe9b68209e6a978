"""Both agents on one loop, between the doubles: their provider, and a registry that fails."""

from __future__ import annotations

import asyncio

import uvloop

from dragoman.agent.config import ConsumerConfig, ProviderConfig
from dragoman.agent.consumer import ConsumerAgent
from dragoman.agent.provider import ProviderAgent
from dragoman.registry import Registration
from dragoman.registry.memory import MemoryRegistry
from dragoman.testing import DubboProvider, FailingRegistry, answers
from tests.faults.http import call, client
from tests.waiting import until

INTERFACE = "com.example.Hello"
HOST = "127.0.0.1"


def test_calls_go_on_while_the_registry_does_not_and_agents_leave_it_open() -> None:
    async def scenario() -> None:
        consumed = FailingRegistry()
        provided = consumed.another()
        async with DubboProvider(INTERFACE, {"hash": len}) as provider:
            behind = ProviderAgent(
                ProviderConfig(
                    interface=(INTERFACE,),
                    listen=f"{HOST}:0",
                    provider=provider.address,
                    admin="",
                    serialization="hessian2",
                ),
                registry=provided,
            )
            before = ConsumerAgent(ConsumerConfig(listen=f"{HOST}:0", admin=""), registry=consumed)
            await behind.start()
            await before.start()
            async with client(before.port) as one:

                async def ask(text: str) -> tuple[int, bytes]:
                    one.send(call("hash", b'{"args":["%s"]}' % text.encode(), interface=INTERFACE))
                    response = await one.response()
                    return response.status, response.body

                async def answered(body: bytes) -> bool:
                    """With ``body``, or if it is empty that nobody serves this."""
                    status, found = await ask("x")
                    return (status, found) == (200, body) if body else status == 503

                await until(lambda: answered(b"1"), 10.0)
                provided.hang()
                consumed.refuse()
                assert await ask("four") == (200, b"4")
                provider.answer("hash", answers.BUSY, 17)
                assert await ask("again") == (200, b"17")
                consumed.come_back()
                provided.come_back()
                provided.lose_lease()

                await until(lambda: answered(b""), 10.0)
                provided.come_back()
                await until(lambda: answered(b"17"), 10.0)

            await before.drain()
            await behind.drain()
        assert await consumed.services() == {}
        assert consumed.statistics().watches == 0
        for each in (provided, consumed):
            await each.close()

    uvloop.run(scenario())


def test_an_agent_that_has_drained_connects_to_nobody_that_a_long_list_names_still() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[asyncio.BaseTransport] = []

        class Server(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.append(transport)

        server = await loop.create_server(Server, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        registry = MemoryRegistry("drained")
        agent = ConsumerAgent(
            ConsumerConfig(listen=f"{HOST}:0", admin="", drain_ms=1), registry=registry
        )
        await agent.start()
        await until(lambda: agent.ready_reason() is None)
        for number in range(1000):
            await registry.register(Registration(interface=f"i{number}", host=HOST, port=port))
        await agent.drain()
        told = len(agent.directory.services)
        await asyncio.sleep(0.3)
        assert len(agent.directory.services) == told
        await until(lambda: all(transport.is_closing() for transport in accepted))
        await registry.close()
        server.close()
        MemoryRegistry.forget("drained")

    uvloop.run(scenario())
