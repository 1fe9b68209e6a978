"""What a provider is asked in: by its registration, by what it answers; and until that is known its
agent is not ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dragoman import dubbo
from dragoman.agent.config import ProviderConfig
from dragoman.agent.provider import ProviderAgent
from dragoman.registry import Registration
from dragoman.registry.memory import MemoryRegistry
from dragoman.registry.url import open_registry
from tests.dubbo.fake import HOST, FakeProvider
from tests.dubbo.upstream.test_finding import NAMES, Behave, answers, refuses, usable
from tests.faults.chain import INTERFACE, Chain, chain, start
from tests.faults.http import exchange
from tests.waiting import until


async def asked_in(
    behave: Behave, registry: str, said: str, host: str = HOST, protocol: str = "dubbo"
) -> tuple[str, list[str], str]:
    """What an agent asks its provider in, in the end and to find that out, and why."""
    provider = await FakeProvider(behave).start()
    others = open_registry(registry)
    assert isinstance(others, MemoryRegistry)
    registration = Registration(
        interface="a.B", host=host, port=provider.port, protocol=protocol, serialization=said
    )
    await others.register(registration)
    config = ProviderConfig(
        interface=("a.B",),
        listen=f"{HOST}:0",
        provider=f"{HOST}:{provider.port}",
        registry=registry,
        admin="",
    )
    agent = ProviderAgent(config)
    await agent.start()
    try:
        await usable(agent.link)
        names = [NAMES[each.serialization] for each in provider.requests]
        return agent.egress.serialization, names, agent._why_spoken()
    finally:
        await agent.drain()
        await provider.close()


def test_what_the_providers_registration_says_is_asked_first() -> None:
    async def scenario() -> None:
        found = await asked_in(answers("fastjson"), "memory://said-1", "fastjson", "localhost")
        why = "asked in fastjson: it answers $echo in it"
        assert found == ("fastjson", ["fastjson"], why)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("said", "host", "protocol"),
    [
        ("fastjson", HOST, "dubbo"),  # it says what it does not speak
        ("kryo", HOST, "dubbo"),
        ("fastjson2", "192.0.2.7", "dubbo"),  # another's
        ("fastjson2", HOST, "mesh"),
    ],
)
def test_a_registration_that_is_wrong_or_of_another_keeps_nothing_from_being_found(
    said: str, host: str, protocol: str
) -> None:
    async def scenario() -> None:
        name = f"memory://said-{said}-{host}-{protocol}"
        spoken, asked, _ = await asked_in(refuses(answers("hessian2")), name, said, host, protocol)
        first = ["fastjson"] if said == "fastjson" else []
        assert (spoken, asked) == ("hessian2", [*first, "hessian2"])

    asyncio.run(scenario())


def test_an_agent_is_not_ready_before_it_has_asked_and_then_says_why(tmp_path: Path) -> None:
    async def scenario(own: Chain) -> None:
        provider = await FakeProvider(answers()).start()
        agent = own.provider_agent(
            *("agent", provider.port, "--serialization", "auto"), registry="memory://alone"
        )
        agent.launch()
        seen = set()

        async def is_ready() -> bool:
            try:
                answer = await exchange(agent.admin, "GET", "/readyz")
            except (OSError, EOFError):
                return False
            seen.add((answer.status, answer.body.decode().strip()))
            return answer.status == 200

        await until(is_ready, 30.0, agent.tail)
        assert len(provider.requests) >= 3  # each was tried
        reason = "what the provider speaks is being found out"
        assert (503, reason) in seen, seen
        (worker,) = (await agent.status())["workers"]
        assert worker["serialization"] == "hessian2"
        assert worker["serialization_why"].startswith("asked in hessian2: $echo told nothing (")
        assert await agent.stop() == 0
        await provider.close()

    with chain(tmp_path) as own:
        asyncio.run(scenario(own))


@pytest.mark.parametrize("serialization", ["fastjson", "hessian2"])
def test_a_provider_that_is_named_is_found_out_before_the_first_call(
    tmp_path: Path, serialization: str
) -> None:
    """``dubbo://host:port`` says nothing of what is spoken there."""

    async def scenario(own: Chain) -> None:
        provider = own.provider("demo", "--delay-ms", "1", "--serialization", serialization)
        await start(provider)
        async with dubbo.Client(f"dubbo://{HOST}:{provider.port}") as client:
            hello = client.service(INTERFACE)
            assert await hello.hash("abc") == 96354

    with chain(tmp_path) as own:
        asyncio.run(scenario(own))
