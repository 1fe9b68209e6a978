"""Agents that are told to stop: what is in flight is answered, idle clients go, and they end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

import aiohttp
import pytest

from dragoman.demo.javahash import java_hash
from tests.faults.chain import start
from tests.faults.conftest import Mesh
from tests.faults.http import client, form, form_body, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        async with client(port):
            return False
    except OSError:
        return True


def test_a_consumer_agent_told_to_stop_answers_what_is_in_flight(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.consumer_agent("stopping")
        await agent.start()
        await agent.settled(1, "slow")
        slow = "x-dragoman-group: slow"
        async with (
            client(agent.port) as one,
            client(agent.port) as pipelined,
            client(agent.port) as idle,
            client(agent.port) as partial,
        ):
            assert is_hash(await idle.ask(form("a")), "a")
            one.send(form("b", slow))
            pipelined.send(form("c", slow) + form("d", slow))
            partial.send(form("e", slow)[:-1])

            async def there() -> bool:
                return await agent.metric("dragoman_http_in_progress") == 3

            await until(there)
            began_s = time.monotonic()
            agent.signal(signal.SIGTERM)
            await until(lambda: refuses(agent.port))
            partial.send(form("e", slow)[-1:])
            answers = [await one.response(), await pipelined.response()]
            answers += [await pipelined.response(), await partial.response()]
            for text, answer in zip("bcde", answers, strict=True):
                assert is_hash(answer, text)
            # Each connection's last response says so, and none before it.
            assert [answer.closes for answer in answers] == [True, False, True, True]
            # This one was idle: its client may have sent before it could know.
            answer = await idle.ask(form("f"))
            assert is_hash(answer, "f") and answer.closes
            for each in (one, pipelined, partial, idle):
                await each.ends()
            assert agent.runs
        # Its clients have closed: nothing keeps it.
        assert await agent.ended() == 0
        assert time.monotonic() - began_s < 2.0 * load_factor()

    asyncio.run(scenario())


def test_a_draining_consumer_agent_lets_silent_connections_go(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.consumer_agent("leaving", "--drain-ms", "2000")
        await agent.start()
        await agent.settled(2)
        async with client(agent.port) as idle, client(agent.port) as half:
            assert is_hash(await idle.ask(form("a")), "a")
            half.send(form("b")[:-1])

            async def there() -> bool:
                return await agent.metric("dragoman_http_connections") == 2

            await until(there)
            began_s = time.monotonic()
            agent.signal(signal.SIGTERM)
            await idle.ends()
            assert time.monotonic() - began_s > 0.4
            answer = await half.response()
            assert (answer.status, answer.error, answer.closes) == (503, "unavailable", True)
            await half.ends()
            # Neither client closes its end: that keeps it no longer than the drain.
            assert await agent.ended() == 0

    asyncio.run(scenario())


def test_a_consumer_agent_told_to_stop_fails_no_keep_alive_client(mesh: Mesh) -> None:
    """Clients with connection pools: what they have sent is answered, and no connection is cut
    under them. That nobody listens any more they are told by a refusal."""

    async def scenario() -> None:
        ended: Counter[str] = Counter()

        async def caller(session: aiohttp.ClientSession, url: str) -> None:
            while True:
                try:
                    async with session.post(url, data=form_body("x"), headers=FORM) as response:
                        assert await response.text() == str(java_hash("x"))
                        ended[str(response.status)] += 1
                except aiohttp.ClientConnectorError:
                    return
                except (aiohttp.ClientError, OSError) as error:
                    ended[f"{type(error).__name__}: {error}"] += 1

        for _ in range(2):
            agent = mesh.chain.consumer_agent("pooled")
            await agent.start()
            await agent.settled(2)
            url = f"http://127.0.0.1:{agent.port}/"
            connector = aiohttp.TCPConnector(limit=64)
            async with aiohttp.ClientSession(connector=connector) as session:
                callers = [asyncio.ensure_future(caller(session, url)) for _ in range(64)]
                await until(lambda: ended["200"] > 500, 15.0)
                agent.signal(signal.SIGTERM)
                await asyncio.gather(*callers)
            assert await agent.ended() == 0
            assert set(ended) == {"200"}, ended
            ended.clear()

    asyncio.run(scenario())


def test_a_second_signal_stops_at_once(mesh: Mesh) -> None:
    async def scenario() -> None:
        agent = mesh.chain.consumer_agent("hurried")
        await agent.start()
        await agent.settled(1, "slow")
        async with client(agent.port) as one:
            one.send(form("x", "x-dragoman-group: slow"))
            await asyncio.sleep(0.05)
            agent.signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
            agent.signal(signal.SIGTERM)
            assert await agent.ended(0.3) == 1

    asyncio.run(scenario())


def test_a_draining_provider_agent_takes_nobody_back(mesh: Mesh) -> None:
    """Without a registry to say that it is gone: an idle caller lets go and would come back while
    another's slow call keeps the agent alive."""

    async def scenario() -> None:
        draining = mesh.slow.agent
        addresses = ",".join(f"127.0.0.1:{each.port}" for each in (draining, mesh.first.agent))
        consumers = [
            mesh.chain.consumer_agent(f"static-consumer{i}", registry=f"static://{addresses}")
            for i in range(2)
        ]
        await start(*consumers)
        async with load(consumers[0].port, 8) as busy:
            await busy.answered(8)
            began_s = time.monotonic()
            stopping = asyncio.ensure_future(draining.stop())
            # The second consumer's agent has nothing there: it lets go at once, and would be back.
            await asyncio.sleep(0.2)
            async with load(consumers[1].port, 8) as later:
                await later.answered(32)
                assert set(await later.stop()) == {"ok"}
            assert await stopping == 0
            assert time.monotonic() - began_s < 3.0 * load_factor()
            assert set(await busy.stop()) == {"ok"}
        for program in consumers:
            program.kill()
        await draining.start()
        await mesh.agent.settled(1, "slow")

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_provider_agent_with_a_hung_provider_still_ends_within_10_s(mesh: Mesh) -> None:
    async def scenario() -> None:
        pair = mesh.chain.pair("frozen", (), ("--group", "frozen"))
        await pair.start()
        await mesh.agent.settled(1, "frozen")
        async with client(mesh.agent.port) as one:
            assert is_hash(await one.ask(form("a", "x-dragoman-group: frozen")), "a")
            pair.provider.pause()
            one.send(form("b", "x-dragoman-group: frozen"))
            await asyncio.sleep(0.2)
            began_s = time.monotonic()
            pair.agent.signal(signal.SIGTERM)
            assert (await one.response()).status == 504
            await pair.agent.ended(12.0)
            assert time.monotonic() - began_s < 10.0 * load_factor()
        pair.provider.kill()

    asyncio.run(scenario())
