"""A provider that is slow, and one that is silent: what the link to it tells the two apart by."""

from __future__ import annotations

import asyncio
import time

import pytest

from dragoman.errors import UnavailableError
from tests.dubbo.fake import FakeProvider, Frame, Way, way
from tests.load_factor import load_factor
from tests.waiting import until

BODY = b"interface=a.B&method=m&parameterTypesString=&parameter="


def seven(asked: Frame) -> bytes:
    return asked.reply(b"1\n7\n")


def silent(one: Way) -> bool:
    (connection,) = one.egress.link.connections
    return bool(connection.silent)


def test_a_slow_call_has_the_provider_asked_once_and_others_are_answered_meanwhile() -> None:
    async def scenario() -> None:
        slow = asyncio.Event()

        async def answer(asked: Frame) -> bytes:
            if len(provider().requests) == 1:
                await slow.wait()
            return seven(asked)

        def provider() -> FakeProvider:
            return one.provider

        async with way(answer) as one:
            first = asyncio.ensure_future(one.call("form", BODY, timeout_ms=60_000))
            await until(lambda: one.provider.events, 5.0)
            for _ in range(8):
                assert await one.call("form", BODY) == b"7"
                # Longer together than a provider may be silent.
                await asyncio.sleep(0.1)
            assert not silent(one)
            # Once for the slow call alone, and at most once for each that came later.
            assert 1 <= len(one.provider.events) <= 3
            slow.set()
            assert await first == b"7"

    asyncio.run(scenario())


def test_a_silent_provider_is_told_at_once_gets_single_calls_and_is_back_with_its_first_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads and answers nothing, not even heartbeats, as a stopped process does."""

    async def scenario() -> None:
        async with way(seven) as one:
            assert await one.call("form", BODY) == b"7"
            (writer,) = one.provider.writers
            # What is written to it stays in the kernel.
            monkeypatch.setattr(one.provider, "_answer", never)
            monkeypatch.setattr("tests.dubbo.fake.frame", lambda *_, **__: b"")
            lost = [
                asyncio.ensure_future(one.call("form", BODY, timeout_ms=60_000)) for _ in range(3)
            ]
            await until(lambda: silent(one), 3.0)
            asked = len(one.provider.requests)
            began_s = time.monotonic()
            refused = 0
            while time.monotonic() - began_s < 1.2:
                try:
                    await one.call("form", BODY, timeout_ms=50)
                except UnavailableError as error:
                    refused += 1
                    assert "is silent" in str(error)
                except Exception as error:
                    assert "time allowed" in str(error) or "in time" in str(error), error
                await asyncio.sleep(0.01)
            assert refused > 10
            assert 1 <= len(one.provider.requests) - asked <= 2 + 2 * load_factor()
            monkeypatch.undo()
            for frame in one.provider.requests[1:]:
                writer.write(seven(frame))
            await until(lambda: not silent(one), 3.0)
            assert await one.call("form", BODY) == b"7"
            assert await asyncio.gather(*lost) == [b"7"] * 3

    asyncio.run(scenario())


async def never(asked: Frame, writer: asyncio.StreamWriter) -> None:
    """Answers nothing."""
