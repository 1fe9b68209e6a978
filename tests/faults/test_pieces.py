"""Both inner hops through a bad network: single bytes, silence, resets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.faults.chain import Program
from tests.faults.conftest import Mesh
from tests.faults.http import client, form, is_hash
from tests.faults.load import load
from tests.faults.proxy import Proxy, proxy
from tests.load_factor import load_factor
from tests.waiting import until


@dataclass
class Path:
    """consumer agent -> ``mesh`` -> provider agent -> ``dubbo`` -> provider."""

    consumer: Program
    agent: Program
    mesh: Proxy
    dubbo: Proxy


class Parts:
    """The programs of the path; the proxies are of each test's own loop, on the same ports."""

    def __init__(self, mesh: Mesh) -> None:
        chain = mesh.chain
        self.provider_port = chain.port("first-provider")
        self.mesh_port, self.dubbo_port = chain.port("mesh-proxy"), chain.port("dubbo-proxy")
        options = ("--group", "pieces", "--limit", "50")
        self.agent = chain.provider_agent("pieces-agent", self.dubbo_port, *options)
        static = f"static://127.0.0.1:{self.mesh_port}"
        self.consumer = chain.consumer_agent(
            "pieces-consumer", "--timeout-ms", "1000", registry=static
        )
        self.agent.launch()
        self.consumer.launch()


@pytest.fixture(scope="module")
def parts(mesh: Mesh) -> Iterator[Parts]:
    made = Parts(mesh)
    yield made
    made.agent.kill()
    made.consumer.kill()


@asynccontextmanager
async def path(parts: Parts, *, piece_bytes: int = 0) -> AsyncIterator[Path]:
    async with (
        proxy(parts.provider_port, piece_bytes=piece_bytes, port=parts.dubbo_port) as dubbo,
        proxy(parts.agent.port, piece_bytes=piece_bytes, port=parts.mesh_port) as mesh,
    ):
        await parts.agent.wait_ready()
        await parts.consumer.wait_ready()
        await until(lambda: served(parts), 10.0)
        yield Path(parts.consumer, parts.agent, mesh, dubbo)


async def served(parts: Parts) -> bool:
    async with client(parts.consumer.port) as one:
        return is_hash(await one.ask(form("x")), "x")


def test_frames_come_in_single_bytes(parts: Parts) -> None:
    async def scenario() -> None:
        async with path(parts, piece_bytes=1) as way:
            async with load(way.consumer.port, 5) as callers:
                await callers.answered(100)
                assert set(await callers.stop()) == {"ok"}
            async with client(way.consumer.port) as one:
                text = 'ü"\n漢😀' * 50
                assert (await one.ask(form(text, method="echo"))).body.decode() == text
                assert (await one.ask(form("no", method="fail"))).status == 500

    asyncio.run(scenario())


def test_frames_come_in_odd_pieces(parts: Parts) -> None:
    async def scenario() -> None:
        async with path(parts, piece_bytes=7) as way, client(way.consumer.port) as one:
            text = "x" * 20_000
            assert (await one.ask(form(text, method="echo"))).body.decode() == text
            way.mesh.piece_bytes = way.dubbo.piece_bytes = 4093
            text = "ü" * (1 << 19)
            assert (await one.ask(form(text, method="echo"))).body.decode() == text

    asyncio.run(scenario())


@pytest.mark.parametrize("hop", ["mesh", "dubbo"])
def test_a_reset_fails_what_was_there_and_no_more(parts: Parts, hop: str) -> None:
    async def scenario() -> None:
        async with path(parts) as way, load(way.consumer.port, 20) as callers:
            await callers.answered(100)
            assert not callers.failed
            reset_s = time.monotonic()
            getattr(way, hop).reset_all()
            while not callers.failed:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.9)
            await callers.answered(100)
            outcomes = await callers.stop()
            in_flight = outcomes["502 upstream-lost"]
            assert in_flight <= 20
            # Until the link is up again there is nobody to go to: that is said, not waited for.
            assert set(outcomes) <= {"ok", "502 upstream-lost", "503 unavailable"}
            assert callers.failures[-1][0] - reset_s < 1.0 * load_factor()

    asyncio.run(scenario())


@pytest.mark.parametrize("hop", ["mesh", pytest.param("dubbo", marks=pytest.mark.slow)])
def test_a_hop_that_falls_silent_is_noticed_and_used_again(parts: Parts, hop: str) -> None:
    async def scenario() -> None:
        async with path(parts) as way:
            held: Proxy = getattr(way, hop)
            async with load(way.consumer.port, 10) as callers:
                await callers.answered(50)
                held.hold()
                began_s = time.monotonic()
                # The callers are all there, and have their answer at the deadline of 1 s.
                await until(lambda: callers.failed["503 unavailable"] > 0, 2.0)
                assert time.monotonic() - began_s < 1.7 * load_factor()
                await asyncio.sleep(0.6)
                assert set(callers.failed) <= {"503 unavailable", "504 deadline"}
                assert 10 <= callers.failed["504 deadline"] <= 14
                held.release()
                released_s = time.monotonic()
                await callers.answered(1)
                assert time.monotonic() - released_s < 1.5 * load_factor()
                await callers.answered(50)
                await asyncio.sleep(0.2)
                before = callers.failed.total()
                await callers.answered(50)
                await callers.stop()
                assert callers.failed.total() == before
                assert callers.outcomes["wrong"] == 0

    asyncio.run(scenario())
