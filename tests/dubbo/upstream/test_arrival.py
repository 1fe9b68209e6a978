"""Frames whose length is wrong, or whose end never comes: the connection ends, and is made anew."""

from __future__ import annotations

import asyncio
import struct

import pytest
from dragoman.dubbo.server.connection import Connected

from dragoman.dubbo.upstream.link import DubboLink
from dragoman.errors import DeadlineError, DragomanError
from dragoman.testing import SimulatedLoop, simulate
from tests.dubbo.fake import HOST, OK, Frame, frame, way

BODY = b"a.B\0m\0\0\0{}"
REPLY = b'1\n"OK"\n'
MIB = 1 << 20


def header(id: int, length: int, *, flags: int = 6, status: int = OK) -> bytes:
    """A frame's header alone."""
    return struct.pack(">HBBQI", 0xDABB, flags, status, id, length)


@pytest.mark.parametrize("length", [8 * MIB, 64 * 1024])
def test_replies_behind_a_wrong_but_plausible_length_are_found_and_the_link_is_made_anew(
    length: int,
) -> None:
    bad = True

    def answer(asked: Frame) -> bytes:
        nonlocal bad
        if bad:
            bad = False
            return header(asked.id, length) + bytes(80)
        return asked.reply(REPLY)

    async def scenario() -> None:
        async with way(answer) as one:
            ends: list[object] = []
            for _ in range(4):
                try:
                    ends.append(await one.call("json", BODY, timeout_ms=200))
                except DragomanError as error:
                    ends.append(type(error))
                    # The next connection comes by itself.
                    async with asyncio.timeout(20):
                        while not one.egress.link.usable:
                            await asyncio.sleep(0.001)
            # The first had no reply; the second was swallowed, which shows the length to be wrong.
            assert ends == [DeadlineError, DeadlineError, b'"OK"', b'"OK"']
            assert one.provider.connections == 2

    asyncio.run(scenario())


def test_calls_lost_in_a_row_behind_a_frame_that_does_not_grow_end_the_connection() -> None:
    silent = False

    def answer(asked: Frame) -> bytes | None:
        nonlocal silent
        if silent:
            return None
        silent = True
        return header(asked.id, 8 * MIB) + bytes(80)

    async def scenario() -> None:
        async with way(answer) as one:
            lost = 0
            async with asyncio.timeout(30):
                while one.provider.connections == 1:
                    try:
                        await one.call("json", BODY, timeout_ms=300)
                    except DeadlineError:
                        lost += 1
                    except DragomanError:
                        await asyncio.sleep(0.001)
            # Neither the frame's deadline nor its rate would have said so by now.
            assert lost <= 8
            one.provider.answer = lambda asked: asked.reply(REPLY)
            async with asyncio.timeout(20):
                while not one.egress.link.usable:
                    await asyncio.sleep(0.001)
            assert await one.call("json", BODY) == b'"OK"'

    asyncio.run(scenario())


def test_a_large_reply_that_comes_slowly_passes_whatever_is_lost_behind_it() -> None:
    text = b'1\n"' + b"x" * 400_000 + b'"\n'

    async def slowly(asked: Frame) -> bytes | None:
        whole = asked.reply(text)
        for i in range(0, len(whole), 8000):
            writer.write(whole[i : i + 8000])
            await asyncio.sleep(0.03)
        return None

    async def scenario() -> None:
        nonlocal writer
        async with way(slowly) as one:
            writer = one.provider.writers[0]
            large = asyncio.ensure_future(one.call("json", BODY, timeout_ms=60_000))
            while len(one.provider.requests) == 0:
                await asyncio.sleep(0.001)
            one.provider.answer = lambda asked: None
            for _ in range(5):
                with pytest.raises(DeadlineError):
                    await one.call("json", BODY, timeout_ms=250)
            assert await large == text[2:-1]
            assert one.provider.connections == 1
            # What was never answered is not waited for.
            for request in one.provider.requests[1:]:
                writer.write(request.reply(REPLY))

    writer: asyncio.StreamWriter
    asyncio.run(scenario())


class Raw(asyncio.Protocol):
    """The other end, which sends what a test wants."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def test_half_a_reply_ends_a_link_and_a_slow_one_does_not() -> None:
    async def work(loop: SimulatedLoop) -> None:
        providers: list[Raw] = []

        def accept() -> Raw:
            providers.append(Raw())
            return providers[-1]

        loop.network.listen(HOST, 1, accept)
        link = DubboLink(loop, HOST, 1, lambda: None)
        link.start()
        await asyncio.sleep(0.1)
        transport = providers[0].transport
        assert transport is not None
        # 4 MiB at 40 KiB a second, which takes longer than the deadline of a short frame.
        slow = frame(7, bytes(4 * MIB))
        for i in range(0, len(slow), 20480):
            transport.write(slow[i : i + 20480])
            await asyncio.sleep(0.5)
        assert not providers[0].lost and link.unknown_replies == 1
        transport.write(header(8, 4 * MIB) + bytes(80))
        await asyncio.sleep(4)
        assert not providers[0].lost
        await asyncio.sleep(4)
        assert providers[0].lost and len(providers) == 2 and link.usable
        assert link.protocol_errors == 1
        await link.close()

    simulate(1, work)


def test_a_frame_that_trickles_has_a_deadline() -> None:
    async def work(loop: SimulatedLoop) -> None:
        providers: list[Raw] = []

        def accept() -> Raw:
            providers.append(Raw())
            return providers[-1]

        loop.network.listen(HOST, 1, accept)
        link = DubboLink(loop, HOST, 1, lambda: None)
        link.start()
        await asyncio.sleep(0.1)
        transport = providers[0].transport
        assert transport is not None
        transport.write(header(8, MIB))
        seconds = 0
        while not providers[0].lost:
            # Above the rate that each window wants, below what the whole does.
            transport.write(bytes(20000))
            await asyncio.sleep(1)
            seconds += 1
            assert seconds < 60
        assert 10 + MIB // 32768 <= seconds <= 14 + MIB // 32768
        await link.close()

    simulate(1, work)


HEAD = header(1, MIB, flags=0xC2)


@pytest.mark.parametrize("sent", [b"\xda", HEAD[:15], HEAD])
def test_half_a_request_ends_its_connection_at_a_served_provider(sent: bytes) -> None:
    async def work(loop: SimulatedLoop) -> None:
        provider = Connected(loop, 8 * MIB, 600.0, 10)
        loop.network.listen(HOST, 1, provider.connection)
        _, client = await loop.create_connection(Raw, HOST, 1)
        client.transport.write(sent)
        await asyncio.sleep(4)
        assert not client.lost
        await asyncio.sleep(4)
        assert client.lost and provider.open_connections == 0

    simulate(1, work)
