"""Attachments as Java's consumers write them, before a server of the SDK: every type, and the time
that a call has left."""

from __future__ import annotations

import asyncio
import datetime
from decimal import Decimal
from typing import Any

import pytest

from dragoman import dubbo
from dragoman.wire import hessian2
from dragoman.wire.dubbo.invocation import FASTJSON, FASTJSON2, encode_request
from dragoman.wire.java import Double, Long
from tests.dubbo.peer import HESSIAN2, REQUEST, TWO_WAY, Peer, invocation, peer

SAID: dict[str, Any] = {
    "text": "v",
    "number": 5,
    "long": Long(5_000_000_000),
    "negative": -1,
    "flag": True,
    "double": Double(1.5),
    "null": None,
    "list": ["a", 1],
    "map": {"k": 1},
    "bytes": b"\x00\xff",
    "decimal": Decimal("1.50"),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "bean": dubbo.Bean("com.example.User", name="Ann"),
}


@dubbo.service("com.example.Told")
class Told:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.attachments: dict[str, Any] = {}
        self.left_ms: list[int | None] = []
        self.door = asyncio.Event()

    async def tell(self) -> str:
        asked = dubbo.current_request()
        self.attachments = dict(asked.attachments)
        self.left_ms.append(asked.timeout_ms)
        return asked.group

    async def wait(self) -> str:
        self.left_ms.append(dubbo.current_request().timeout_ms)
        await self.door.wait()
        return "late"


def run(test: Any) -> None:
    async def main() -> None:
        told = Told()
        async with await dubbo.serve(told, 0) as server, peer(server.address) as consumer:
            await test(consumer, told, server)
            told.door.set()

    asyncio.run(main())


def asked(method: str, attachments: Any) -> bytes:
    return invocation("com.example.Told", method, attachments=attachments)


def test_every_attachment_arrives_with_its_type() -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        assert (await consumer.ask(asked("tell", SAID))).values == [1, ""]
        assert told.attachments == SAID
        assert {name: type(value) for name, value in told.attachments.items()} == {
            **{name: type(value) for name, value in SAID.items()},
            "long": int,
            "double": float,
        }

    run(test)


@pytest.mark.parametrize("serialization", [FASTJSON, FASTJSON2])
def test_the_same_from_consumers_of_other_serializations(serialization: int) -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        said = {"text": "v", "number": 5, "flag": True, "list": ["a", 1], "_TO": 4000}
        body = encode_request(
            *("com.example.Told", "tell", "", []), serialization=serialization, attachments=said
        )
        await consumer.ask(body, REQUEST | TWO_WAY | serialization)
        assert told.attachments.items() >= said.items()
        (left_ms,) = told.left_ms
        assert left_ms is not None and 0 < left_ms <= 4000

    run(test)


@pytest.mark.parametrize(
    ("attachments", "most_ms"),
    [
        ({"timeout": "3000"}, 3000),
        ({"timeout": 3000}, 3000),
        ({"timeout": Long(3000)}, 3000),
        ({"_TO": "3000"}, 3000),
        ({"_TO": 3000}, 3000),
        ({"_TO": Long(3000)}, 3000),
        ({"_TO": Double(3000.5)}, 3000),
        ({"timeout": "9000", "_TO": 3000}, 3000),
        ({"timeout": 2000, "_TO": Long(3000)}, 2000),
        ({"timeout": 0, "_TO": 3000}, 3000),
        ({"timeout": "-1", "_TO": 3000}, 3000),
        ({"_TO": Long(1 << 60)}, 86_400_000),
    ],
)
def test_the_time_that_a_call_has_is_read_in_whatever_type_it_comes(
    attachments: dict[str, Any], most_ms: int
) -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        await consumer.ask(asked("tell", attachments))
        (left_ms,) = told.left_ms
        assert left_ms is not None and most_ms - 2000 < left_ms <= most_ms

    run(test)


@pytest.mark.parametrize(
    "value", ["soon", "", None, True, [], {}, "1e3", "9" * 400, Double(float("nan")), "٣"]
)
def test_what_is_no_time_is_none(value: Any) -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        reply = await consumer.ask(asked("tell", {"timeout": value, "_TO": value}))
        assert reply.status == 20 and told.left_ms == [None]

    run(test)


@pytest.mark.parametrize("left", [0, -1, Long(-5000), "0", "-7", Double(0.5)])
def test_a_call_that_comes_after_its_time_does_not_run_and_ends_with_status_31(left: Any) -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        reply = await consumer.ask(asked("tell", {"_TO": left, "timeout": "1000"}))
        assert reply.status == 31 and "time had passed" in reply.text
        assert told.left_ms == [] and server.statistics().late == 1
        # One-way, nobody hears of it, and it does not run either.
        consumer.send(asked("tell", {"_TO": left}), REQUEST | HESSIAN2)
        assert (await consumer.ask(asked("tell", {}))).status == 20
        assert told.left_ms == [None]

    run(test)


@pytest.mark.parametrize("left", [50, Long(50), "50"])
def test_a_call_whose_time_passes_while_it_runs_ends_with_status_31(left: Any) -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        reply = await consumer.ask(asked("wait", {"_TO": left}))
        assert (reply.status, server.statistics().late) == (31, 1)

    run(test)


@pytest.mark.parametrize("name", ["group", "generic"])
def test_an_attachment_that_should_be_text_and_is_not_says_nothing(name: str) -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        for value in (5, True, ["x"], {"k": "v"}, None):
            assert (await consumer.ask(asked("tell", {name: value}))).status == 20
            assert told.attachments[name] == value

    run(test)


def test_attachments_that_are_no_map_refuse_their_own_call_alone() -> None:
    async def test(consumer: Peer, told: Told, server: dubbo.Server) -> None:
        bad = asked("tell", {})[: -len(hessian2.encode({}))]
        for tail in (hessian2.encode([1]), hessian2.encode("x"), b"H\x01k", b"H\x01kC\x01"):
            assert (await consumer.ask(bad + tail)).status == 40
        assert (await consumer.ask(asked("tell", {}))).status == 20

    run(test)


def test_a_caller_of_the_sdk_tells_its_service_how_long_it_has() -> None:
    async def main() -> None:
        told = Told()
        async with await dubbo.serve(told, 0) as server:
            where = f"dubbo://{server.address}"
            async with dubbo.Client(where, timeout_ms=3000) as caller:
                await caller.service("com.example.Told").tell()
        assert told.attachments["timeout"] == str(told.attachments["_TO"])
        (left_ms,) = told.left_ms
        assert left_ms is not None and 1000 < left_ms <= 3000

    asyncio.run(main())
