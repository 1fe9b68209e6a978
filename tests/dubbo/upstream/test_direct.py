"""Providers without an agent, called from the consumer agent's own process: as with an agent."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.chain import HOST, Chain, Program, chain, start
from tests.faults.http import Client, Response, call, client, form, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

QUICK = "x-dragoman-timeout-ms: 150"


def listed(*endpoints: tuple[Program, str]) -> str:
    """A static list of providers that are spoken to in Dubbo."""
    return "static://" + ",".join(
        f"{HOST}:{program.port}?protocol=dubbo{fields}" for program, fields in endpoints
    )


def said(answer: Response) -> tuple[int, str]:
    return answer.status, answer.error


async def ready(agent: Program, endpoints: int, service: str = "*") -> None:
    """Wait until every worker of ``agent`` has so many usable endpoints."""

    async def are() -> bool:
        services = [each for each in await agent.services() if each["service"] == service]
        usable = [
            [
                one
                for one in each["endpoints"]
                if one["state"] == "ready" and not one["breaker_open"]
            ]
            for each in services
        ]
        return bool(usable) and all(len(each) == endpoints for each in usable)

    await until(are, 10.0, lambda: f"no {endpoints} endpoints: {agent.tail()}")


def counts(program: Program) -> dict[str, int]:
    """What a demo provider that has ended says of itself."""
    return {name: int(n) for name, n in re.findall(r'"(\w+)": (\d+)[,}]', program.tail())}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Chain]:
    """A chain for this test alone, without an etcd."""
    with chain(tmp_path) as made:
        yield made


def test_forms_and_json_calls_are_answered(own: Chain) -> None:
    async def scenario() -> None:
        provider = own.provider("one", "--delay-ms", "1")
        agent = own.consumer_agent("agent", registry=listed((provider, "")))
        await start(provider, agent)
        await ready(agent, 1)
        async with client(agent.port) as one:
            for i in range(50):
                assert is_hash(await one.ask(form(str(i))), str(i))
            answer = await one.ask(call("hash", b'{"args":["hello"]}'))
            assert (answer.status, answer.body) == (200, b"99162322")
            large = "x" * 2_000_000
            assert is_hash(await one.ask(form(large)), large)
            one.send(b"".join(form(str(i)) for i in range(300)))
            for i in range(300):
                assert is_hash(await one.response(), str(i))
        (service,) = await agent.services()
        (endpoint,) = service["endpoints"]
        assert endpoint["native"]["limit"] == endpoint["credits"] == 200
        assert endpoint["native"]["connections"] == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_provider_never_has_more_than_its_limit(own: Chain, workers: int) -> None:
    async def scenario() -> None:
        providers = [own.provider(f"p{i}", "--delay-ms", "10", "--limit", "21") for i in range(2)]
        agent = own.consumer_agent(
            "agent",
            *("--workers", str(workers)),
            registry=listed(*((each, "&limit=21") for each in providers)),
        )
        await start(*providers, agent)
        await ready(agent, 2)
        async with load(agent.port, 80) as callers:
            await callers.answered(1500)
            assert set(await callers.stop()) == {"ok"}
        for each in providers:
            assert await each.stop() == 0
            assert counts(each)["rejected"] == 0
            assert 18 <= counts(each)["in_flight_max"] <= 21

    asyncio.run(scenario())


def test_services_of_one_provider_share_its_connection_and_its_limit(own: Chain) -> None:
    async def scenario() -> None:
        provider = own.provider("one", "--delay-ms", "20", "--limit", "8")
        at = f"{HOST}:{provider.port}?protocol=dubbo&limit=8"
        agent = own.consumer_agent("agent", registry=f"static://{at},{at}&interface=com.example.IB")
        await start(provider, agent)
        await ready(agent, 1)
        await ready(agent, 1, "com.example.IB")
        async with load(agent.port, 16) as callers, client(agent.port) as other:
            await callers.answered(100)
            for _ in range(10):
                # The demo provider does not have it, which it says in a place of the pool.
                body = call("hash", b'{"args":["x"]}', interface="com.example.IB")
                assert (await other.ask(body)).status in (404, 500)
            assert set(await callers.stop()) == {"ok"}
        (worker,) = (await agent.status())["workers"]
        (shared,) = worker["providers"]
        assert shared["connections"] == 1
        assert shared["credits"]["limit"] == shared["credits"]["granted"] == 8
        assert shared["credits"]["holders"] == 2
        await provider.stop()
        assert counts(provider)["rejected"] == 0

    asyncio.run(scenario())


def test_a_provider_that_stops_in_order_fails_no_call_and_is_used_again(own: Chain) -> None:
    async def scenario() -> None:
        providers = [own.provider(f"p{i}", "--delay-ms", "20") for i in range(2)]
        agent = own.consumer_agent("agent", registry=listed(*((each, "") for each in providers)))
        await start(*providers, agent)
        await ready(agent, 2)
        async with load(agent.port, 60) as callers:
            for each in providers:
                await callers.answered(300)
                assert await each.stop() == 0
                await callers.answered(300)
                await each.start()
                await ready(agent, 2)
            assert set(await callers.stop()) == {"ok"}
        assert "is about to stop" in agent.text()

    asyncio.run(scenario())


def test_a_provider_that_dies_fails_what_was_there_and_is_used_again(own: Chain) -> None:
    async def scenario() -> None:
        limit = 20
        providers = [
            own.provider(f"p{i}", "--delay-ms", "20", "--limit", str(limit)) for i in range(2)
        ]
        agent = own.consumer_agent(
            "agent", registry=listed(*((each, f"&limit={limit}") for each in providers))
        )
        await start(*providers, agent)
        await ready(agent, 2)
        async with load(agent.port, 30) as callers:
            await callers.answered(300)
            providers[0].kill()
            await callers.answered(300)
            assert set(callers.failed) <= {"502 upstream-lost"}
            assert sum(callers.failed.values()) <= limit
            failures = sum(callers.failed.values())
            await providers[0].start()
            began_s = time.monotonic()
            await ready(agent, 2)
            assert time.monotonic() - began_s < 1.5 * load_factor()
            await callers.answered(300)
            await callers.stop()
            assert sum(callers.failed.values()) == failures

    asyncio.run(scenario())


def test_all_gone_is_503_at_once(own: Chain) -> None:
    async def scenario() -> None:
        provider = own.provider("one", "--delay-ms", "1")
        agent = own.consumer_agent("agent", registry=listed((provider, "")))
        await start(provider, agent)
        await ready(agent, 1)
        provider.kill()
        async with client(agent.port) as one:
            await until(lambda: "lost" in agent.text())
            began_s = time.monotonic()
            for _ in range(20):
                assert said(await one.ask(form("x"))) == (503, "unavailable")
            assert time.monotonic() - began_s < 0.5 * load_factor()

    asyncio.run(scenario())


class Faulty:
    """A provider with a fault from its second call on, with an agent's process to itself."""

    def __init__(self, own: Chain, fault: str, *options: str) -> None:
        self.provider = own.provider(
            fault, "--delay-ms", "1", "--fault", fault, "--fault-after", "1", *options
        )
        self.agent = own.consumer_agent("agent", registry=listed((self.provider, "&limit=8")))

    async def start(self) -> None:
        await start(self.provider, self.agent)
        await ready(self.agent, 1)


async def first_is_fine(one: Client) -> None:
    assert is_hash(await one.ask(form("first")), "first")


def test_garbage_is_502_and_then_the_provider_is_set_aside(own: Chain) -> None:
    async def scenario() -> None:
        faulty = Faulty(own, "garbage")
        await faulty.start()
        async with client(faulty.agent.port) as one:
            await first_is_fine(one)
            answers = []
            for _ in range(12):
                answers.append(said(await one.ask(form("x"))))
                await asyncio.sleep(0.06)
        assert answers[0][0] == 502
        assert {status for status, _ in answers} <= {502, 503}
        assert answers[-1] == (503, "unavailable")
        assert "broke the protocol" in faulty.agent.text()

    asyncio.run(scenario())


def test_what_is_never_answered_is_504_and_later_calls_are_fine(own: Chain) -> None:
    async def scenario() -> None:
        faulty = Faulty(own, "never", "--fault-until", "5")
        await faulty.start()
        async with client(faulty.agent.port) as one:
            await first_is_fine(one)
            for _ in range(4):
                assert said(await one.ask(form("x", QUICK))) == (504, "deadline")
            for i in range(50):
                assert is_hash(await one.ask(form(str(i))), str(i))
        (service,) = await faulty.agent.services()
        # Their places stay taken as long as the provider may still be at work.
        assert service["endpoints"][0]["native"]["in_progress"] == 4

    asyncio.run(scenario())


def test_a_provider_that_hangs_is_504_and_then_set_aside(own: Chain) -> None:
    async def scenario() -> None:
        faulty = Faulty(own, "hang")
        await faulty.start()
        async with client(faulty.agent.port) as one:
            await first_is_fine(one)
            answers = [said(await one.ask(form("x", QUICK))) for _ in range(8)]
        assert answers[0] == (504, "deadline")
        assert answers[-1] == (503, "unavailable")

    asyncio.run(scenario())


def test_a_rejected_call_goes_to_another_provider_or_is_503(own: Chain) -> None:
    async def scenario() -> None:
        until = ("--fault-after", "1", "--fault-until", "5")
        moody = own.provider("moody", "--delay-ms", "1", "--fault", "reject", *until)
        steady = own.provider("steady", "--delay-ms", "1")
        both = own.consumer_agent("both", registry=listed((moody, ""), (steady, "")))
        await start(moody, steady, both)
        await ready(both, 2)
        async with load(both.port, 4) as callers:
            await callers.answered(100)
            assert set(await callers.stop()) == {"ok"}
        (service,) = await both.services()
        # Some may have been put to the same provider again.
        rejections = sum(each["native"]["rejections"] for each in service["endpoints"])
        assert 0 < service["retried"] <= rejections
        faulty = Faulty(own, "reject")
        await faulty.start()
        async with client(faulty.agent.port) as one:
            await first_is_fine(one)
            for _ in range(10):
                assert said(await one.ask(form("x"))) == (503, "overload")

    asyncio.run(scenario())


def test_agents_that_share_a_provider_come_to_terms(own: Chain) -> None:
    """Each believes to have 40 places; there are 40 for both. What is turned away in between goes
    to the other provider, which has plenty."""

    async def scenario() -> None:
        small = own.provider("small", "--delay-ms", "20", "--limit", "40")
        large = own.provider("large", "--delay-ms", "20", "--limit", "400")
        where = listed((small, "&limit=40"), (large, "&limit=200"))
        agents = [own.consumer_agent(f"agent{i}", registry=where) for i in range(2)]
        await start(small, large, *agents)
        for agent in agents:
            await ready(agent, 2)
        async with load(agents[0].port, 150) as one, load(agents[1].port, 150) as other:
            await asyncio.gather(one.answered(6000, 90.0), other.answered(6000, 90.0))
            assert set(await one.stop()) == set(await other.stop()) == {"ok"}
        rejected = replies = 0
        for agent in agents:
            (service,) = await agent.services()
            for endpoint in service["endpoints"]:
                rejected += endpoint["native"]["rejections"]
                if endpoint["address"].endswith(f":{small.port}"):
                    # Its limit rises and falls: what comes of it is that few calls are rejected.
                    assert endpoint["native"]["limit"] <= 40
                    # On a busy machine one may have nearly all of the places.
                    replies += endpoint["replies"]
        await small.stop()
        assert counts(small)["rejected"] == rejected
        assert rejected < 400
        assert replies > 100

    asyncio.run(scenario())


def test_a_protocol_that_is_not_spoken_is_named(own: Chain) -> None:
    async def scenario() -> None:
        provider = own.provider("one", "--delay-ms", "1")
        tri = f"{HOST}:{own.port('tri')}?protocol=tri"
        agent = own.consumer_agent("agent", registry=f"static://{tri}")
        kryo = listed((provider, "&serialization=kryo"))
        other = own.consumer_agent("other", registry=kryo)
        mixed = own.consumer_agent("mixed", registry=f"{listed((provider, ''))},{tri}")
        await start(provider, agent, other, mixed)
        await ready(mixed, 1)
        async with client(agent.port) as one:
            answer = await one.ask(form("x"))
            assert said(answer) == (503, "unavailable")
            assert b"tri is not spoken here" in answer.body
        async with client(other.port) as one:
            answer = await one.ask(form("x"))
            assert said(answer) == (503, "unavailable")
            assert b"kryo" in answer.body
        async with client(mixed.port) as one:
            assert is_hash(await one.ask(form("x")), "x")
        (service,) = await mixed.services()
        (unusable,) = service["unusable"]
        assert unusable["reason"] == "tri is not spoken here"

    asyncio.run(scenario())


def test_a_provider_that_breaks_the_protocol_is_called_so(own: Chain) -> None:
    async def scenario() -> None:
        provider = own.provider("one", "--fault", "garbage")
        agent = own.consumer_agent("agent", registry=listed((provider, "")))
        await start(provider, agent)
        await ready(agent, 1)
        async with client(agent.port) as one:
            assert said(await one.ask(form("x"))) == (502, "upstream-protocol")

    asyncio.run(scenario())
