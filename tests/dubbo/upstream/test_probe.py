"""``$echo`` as a probe of the provider's pool; heartbeats; what a provider says of itself."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.errors import UnavailableError
from tests.dubbo.fake import POOL_EXHAUSTED, Frame, Way, frame, way
from tests.waiting import until

BODY = b"a.B\0m\0\0\0{}"
REPLIES = {"fastjson": b'1\n"OK"\n', "hessian2": b"\x91\x02OK"}
HEARTBEAT = 0x80 | 0x40 | 0x20
ONE_WAY_EVENT = 0x80 | 0x20


@pytest.mark.parametrize("serialization", REPLIES)
def test_a_provider_that_hangs_gets_nothing_until_it_answers_again(serialization: str) -> None:
    hangs = False

    def answer(asked: Frame) -> bytes | None:
        return None if hangs else asked.reply(REPLIES[serialization])

    async def scenario() -> None:
        nonlocal hangs
        async with way(answer, serialization=serialization) as one:
            one.egress.probe("a.B", 20)
            # A busy machine may be late for a probe, but the next one is answered.
            await until(lambda: len(one.provider.requests) > 2 and not one.egress.silent, 30.0)
            assert b"$echo" in one.provider.requests[0].body
            hangs = True
            await until(lambda: one.egress.silent, 30.0)
            asked = len(one.provider.requests)
            with pytest.raises(UnavailableError, match="probe") as caught:
                await one.call("json", BODY)
            assert caught.value.retry_safe
            await until(lambda: len(one.provider.requests) > asked + 2, 30.0)
            hangs = False
            await until(lambda: not one.egress.silent, 30.0)
            assert await one.call("json", BODY) == b'"OK"'
            one.egress.stop()
            asked = len(one.provider.requests)
            await asyncio.sleep(0.06)
            assert len(one.provider.requests) == asked

    asyncio.run(scenario())


def test_a_full_pool_answers_too_and_a_limit_in_use_is_not_probed() -> None:
    async def scenario() -> None:
        async def answer(asked: Frame) -> bytes:
            if b"$echo" in asked.body:
                return asked.reply(b'"full"\n', status=POOL_EXHAUSTED)
            await asyncio.sleep(0.1)
            return asked.reply(b"2\n")

        async with way(answer, limit=1) as one:
            one.egress.probe("a.B", 10)
            await until(lambda: len(one.provider.requests) > 2 and not one.egress.silent, 30.0)
            call = asyncio.ensure_future(one.call("json", BODY))
            await until(lambda: b"$echo" not in one.provider.requests[-1].body, 30.0)
            asked = len(one.provider.requests)
            await call
            assert len(one.provider.requests) <= asked + 1
            await until(lambda: not one.egress.silent, 30.0)
            one.egress.stop()

    asyncio.run(scenario())


def test_a_probe_takes_no_part_in_the_counts_of_requests() -> None:
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(b'1\n"OK"\n')) as one:
            one.egress.probe("a.B", 10)
            await until(lambda: len(one.provider.requests) > 3, 30.0)
            one.egress.stop()
            assert (one.egress.requests, one.egress.in_progress, one.egress.succeeded) == (0, 0, 0)

    asyncio.run(scenario())


def event(one: Way, flags: int, id: int, body: bytes) -> None:
    one.provider.writers[-1].write(frame(id, body, flags=flags, status=0))


@pytest.mark.parametrize(
    ("serialization", "body"), [(2, b"N"), (6, b"null\n"), (23, b"\0\0\0\x01\xaf"), (3, b"")]
)
def test_a_heartbeat_is_answered_in_its_own_serialization(serialization: int, body: bytes) -> None:
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(b"2\n")) as one:
            event(one, HEARTBEAT | serialization, 77, body)
            await until(lambda: one.provider.events, 30.0)
            (answer,) = one.provider.events
            assert (answer.flags, answer.status) == (0x20 | serialization, 20)
            assert (answer.id, answer.body) == (77, body)

    asyncio.run(scenario())


def test_a_provider_that_is_about_to_stop_is_left_at_once_and_may_come_back() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def answer(asked: Frame) -> bytes:
            if not gate.is_set():
                await gate.wait()
            return asked.reply(b"1\n7\n")

        async with way(answer) as one:
            first = asyncio.ensure_future(one.call("json", BODY))
            await until(lambda: one.provider.requests, 30.0)
            event(one, ONE_WAY_EVENT | 2, 0, b"\x01R")
            await until(lambda: not one.egress.link.usable, 30.0)
            with pytest.raises(UnavailableError, match="shutting down"):
                await one.call("json", BODY)
            gate.set()
            assert await first == b"7", "what is there already is waited for"
            event(one, ONE_WAY_EVENT | 2, 0, b"\x01W")
            await until(lambda: one.egress.link.usable, 30.0)
            assert await one.call("json", BODY) == b"7"

    asyncio.run(scenario())
