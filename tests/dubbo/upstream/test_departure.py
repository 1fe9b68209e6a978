"""A provider that says it is about to stop is let go with its last reply, and not before."""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest

from dragoman import dubbo, rpc
from dragoman.dubbo.upstream.departure import Departure
from dragoman.dubbo.upstream.egress import Egress
from dragoman.dubbo.upstream.link import DubboLink
from dragoman.flow.credits import CreditPool
from dragoman.rpc.server_session import ServerSession
from tests.dubbo.fake import HOST, FakeProvider, Frame
from tests.waiting import until


@dubbo.service("com.example.Echo")
class Echo:
    async def same(self, value: int) -> int:
        return value


READONLY = struct.pack(">HBBQI", 0xDABB, 0xA2, 0, 0, 2) + b"\x01R"


def test_it_is_let_go_with_its_last_reply_and_come_back_to_when_it_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        gate = asyncio.Event()

        async def answer(asked: Frame) -> bytes:
            await gate.wait()
            return asked.reply(b'1\n"done"\n')

        provider = await FakeProvider(answer).start()

        def look() -> None:
            if link.stopping and link.idle:
                departure.begin()

        link = DubboLink(loop, HOST, provider.port, look)
        departure = Departure(link)
        pool = CreditPool(5)
        egress = Egress(loop, link, pool)
        sessions: set[ServerSession] = set()
        server = await loop.create_server(
            lambda: ServerSession(loop, egress, pool, sessions), HOST, 0
        )
        link.start()
        await until(lambda: link.usable, 30.0)
        async with await rpc.connect(f"{HOST}:{server.sockets[0].getsockname()[1]}") as client:
            asked = client.call("json", b'a.B\0m\0\0\0{"args":["x"]}', timeout_ms=60_000)
            await until(lambda: provider.requests, 30.0)
            (writer,) = provider.writers
            writer.write(READONLY)
            await until(lambda: link.stopping, 30.0)
            # It still owes a reply.
            assert not departure.under_way
            assert len(link.connections) == 1
            gate.set()
            assert await asked == b'"done"'
            await until(lambda: departure.under_way, 30.0)
            await until(lambda: not link.connections, 30.0)
            assert link.reason == "the provider is about to stop"
            await until(writer.is_closing, 30.0)
            # It accepts still, but nothing is sent there.
            seen = len(provider.requests)
            await until(lambda: provider.connections > 2, 30.0)
            assert departure.under_way
            await provider.close()
            await until(lambda: not departure.under_way, 30.0)
            again = await FakeProvider(answer).start(provider.port)
            await until(lambda: link.usable, 30.0)
            assert len(provider.requests) == seen
            await again.close()
        server.close()
        for session in list(sessions):
            session.close()
        await departure.stop()
        await link.close()

    with caplog.at_level(logging.INFO, "dragoman.dubbo"):
        asyncio.run(scenario())
    leaving = [each for each in caplog.records if "closed here" in each.message]
    assert leaving
    assert {each.levelname for each in leaving} == {"INFO"}


def test_a_provider_that_stops_in_order_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        leaving = await dubbo.serve(Echo(), 0)
        staying = await dubbo.serve(Echo(), 0)
        listed = f"dubbo://{leaving.address},{staying.address}"
        async with dubbo.Client(listed) as client:
            echo = client.service(Echo)
            await client.ready(echo)
            assert await asyncio.gather(*(echo.same(i) for i in range(20))) == list(range(20))
            await leaving.close()
            assert await echo.same(1) == 1
        await staying.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert any("is about to stop" in each.message for each in caplog.records)
    # That it is gone although it is still listed is one.
    warned = [each.message for each in caplog.records if each.levelno > logging.INFO]
    orderly = ("closed here", "about to stop", "goodbye")
    assert [each for each in warned if any(words in each for words in orderly)] == []
