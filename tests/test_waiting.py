"""A wait ends with its condition, and says why it did not come about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests import waiting
from tests.waiting import until, until_sync


def third_time() -> Iterator[bool]:
    yield from (False, False, True)


def test_a_wait_ends_with_its_condition() -> None:
    looks = third_time()
    assert until_sync(lambda: next(looks)) < 5.0

    async def scenario() -> None:
        plain, asked = third_time(), third_time()

        async def answered() -> bool:
            return next(asked)

        assert await until(lambda: next(plain)) < 5.0
        assert await until(answered) < 5.0

    asyncio.run(scenario())


def test_what_does_not_come_about_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "load_factor", lambda: 1.0)
    with pytest.raises(AssertionError, match="no peer"):
        until_sync(lambda: False, 0.01, lambda: "no peer")
    with pytest.raises(AssertionError, match="did not come about"):
        asyncio.run(until(lambda: False, 0.01))


def test_a_busy_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = third_time()
    monkeypatch.setattr(waiting, "load_factor", lambda: 1000.0)
    until_sync(lambda: next(looks), 0.001, every_s=0.002)
