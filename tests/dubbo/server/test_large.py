"""Calls of an SDK's server with very many values, which must not hold up its loop.

Values become Python's on the loop, so a call with more than the server takes is refused before they
have; one with as many as it takes is read within about 20 ms (``tests/slices.py``).
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from dragoman import dubbo
from dragoman.dubbo.server.server import VALUES_MAX
from dragoman.wire import hessian2
from dragoman.wire.dubbo import invocation as wire
from dragoman.wire.java import Bean
from tests.dubbo.hello import HELLO, OBJECT, Hello
from tests.dubbo.peer import REQUEST, TWO_WAY, Reply, peer
from tests.slices import Slices

# About 20 ms is what is read at once; what interrupts and the machine's noise are beside it.
BOUND_MS = 40.0
HESSIAN2, FASTJSON, FASTJSON2 = 2, 6, 23
NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def head(method: str = "anything") -> bytes:
    return hessian2.encode("2.0.2", HELLO, None, method, OBJECT)


def in_hessian2(value: bytes, method: str = "anything") -> bytes:
    return head(method) + value + b"HZ"


def listed(one: bytes, count: int) -> bytes:
    """A list in hessian2 of values that are all the same."""
    return b"X" + hessian2.encode(count) + one * count


def in_fastjson(argument: str) -> bytes:
    said = ["2.0.2", HELLO, None, "anything", OBJECT]
    return "\n".join([*map(json.dumps, said), argument, "{}", ""]).encode()


def in_fastjson2(value: Any) -> bytes:
    return wire.encode_request(HELLO, "anything", OBJECT, [value], serialization=FASTJSON2)


BYTES = 7_000_000
# Legal, or nearly so, and far more than is taken.
REFUSED: dict[str, Callable[[], tuple[int, bytes]]] = {
    "lists": lambda: (HESSIAN2, in_hessian2(listed(b"\x78", 490_000))),
    "maps": lambda: (HESSIAN2, in_hessian2(listed(b"HZ", 490_000))),
    "zeros": lambda: (HESSIAN2, in_hessian2(listed(b"\x90", BYTES))),
    "texts": lambda: (HESSIAN2, in_hessian2(listed(b"\x02ab", BYTES // 3))),
    "times": lambda: (HESSIAN2, in_hessian2(listed(hessian2.encode(NOW), BYTES // 9))),
    "keys": lambda: (HESSIAN2, in_hessian2(hessian2.encode({f"k{i}": 1 for i in range(500_000)}))),
    "beans": lambda: (
        HESSIAN2,
        in_hessian2(hessian2.encode([Bean("a.C", x=1, y="b")] + [{"x": 1}] * 400_000)),
    ),
    "classes": lambda: (HESSIAN2, in_hessian2(b"C\x01a\x90" * (BYTES // 4) + b"\x60")),
    "fields": lambda: (
        HESSIAN2,
        in_hessian2(b"C\x01a" + hessian2.encode(BYTES) + b"\0" * BYTES + b"N"),
    ),
    "attachments": lambda: (
        HESSIAN2,
        head() + b"\x90" + hessian2.encode({f"k{i}": "1" for i in range(500_000)}),
    ),
    "echoed": lambda: (HESSIAN2, in_hessian2(listed(b"\x78", 490_000), "$echo")),
    "fastjson zeros": lambda: (FASTJSON, in_fastjson("[" + "0," * (BYTES // 2) + "0]")),
    "fastjson lists": lambda: (FASTJSON, in_fastjson("[" + "[]," * (BYTES // 3) + "0]")),
    "fastjson2 zeros": lambda: (FASTJSON2, in_fastjson2([0] * BYTES)),
    "fastjson2 lists": lambda: (FASTJSON2, in_fastjson2([[] for _ in range(490_000)])),
    "fastjson2 keys": lambda: (FASTJSON2, in_fastjson2({f"k{i}": 1 for i in range(500_000)})),
}
# As much as is taken, or nearly.
TAKEN: dict[str, Callable[[], tuple[int, bytes]]] = {
    "lists": lambda: (HESSIAN2, in_hessian2(listed(b"\x78", VALUES_MAX // 9 - 100))),
    "zeros": lambda: (HESSIAN2, in_hessian2(listed(b"\x90", VALUES_MAX - 100))),
    "texts": lambda: (HESSIAN2, in_hessian2(listed(b"\x02ab", VALUES_MAX - 100))),
    "times": lambda: (HESSIAN2, in_hessian2(listed(hessian2.encode(NOW), VALUES_MAX // 9 - 100))),
    "keys": lambda: (
        HESSIAN2,
        in_hessian2(hessian2.encode({f"k{i}": 1 for i in range(VALUES_MAX // 6 - 100)})),
    ),
    "a text": lambda: (HESSIAN2, in_hessian2(hessian2.encode("a," * (BYTES // 2)))),
    "fastjson zeros": lambda: (FASTJSON, in_fastjson("[" + "0," * (VALUES_MAX // 8 - 100) + "0]")),
    "fastjson text": lambda: (FASTJSON, in_fastjson('"' + "[,:" * (BYTES // 9) + '"')),
    "fastjson2 lists": lambda: (
        FASTJSON2,
        in_fastjson2([[] for _ in range(VALUES_MAX // 9 - 100)]),
    ),
}


async def longest(ask: Callable[[int], Reply], port: int) -> tuple[float, Reply]:
    """What a call makes the server's loop do in one piece, and the reply."""
    least = float("inf")
    for _ in range(3):
        async with Slices() as slices:
            reply = await asyncio.to_thread(ask, port)
        least = min(least, slices.longest_ms)
        if least < BOUND_MS:
            break
    return least, reply


def served(made: tuple[int, bytes], status: int) -> float:
    serialization, body = made

    def ask(port: int) -> Reply:
        async def there() -> Reply:
            async with peer(f"127.0.0.1:{port}") as consumer:
                consumer.send(body, REQUEST | TWO_WAY | serialization)
                async with asyncio.timeout(60):
                    while True:
                        try:
                            return await consumer.receive()
                        except TimeoutError:
                            continue

        return asyncio.run(there())

    async def scenario() -> float:
        async with await dubbo.serve(Hello(), 0) as server:
            took, reply = await longest(ask, server.address.port)
        assert reply.status == status, reply.body[:300]
        if status == 40:
            assert b"more values than are taken in one call" in reply.body
            assert b"(values_max: 200000)" in reply.body
        return took

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(scenario())


@pytest.mark.parametrize("shape", REFUSED)
def test_a_call_with_more_values_than_a_server_takes_is_refused_quickly(shape: str) -> None:
    took = served(REFUSED[shape](), 40)
    print(shape, took)
    assert took < BOUND_MS


@pytest.mark.parametrize("shape", TAKEN)
def test_a_call_with_as_many_values_as_a_server_takes_is_read_quickly(shape: str) -> None:
    took = served(TAKEN[shape](), 20)
    print(shape, took)
    assert took < BOUND_MS


def test_a_server_takes_as_many_values_as_it_is_told() -> None:
    async def scenario() -> None:
        async with (
            await dubbo.serve(Hello(), 0, values_max=5) as server,
            peer(server.address) as consumer,
        ):
            consumer.send(in_hessian2(listed(b"\x90", 1))[:-2] + b"N")
            assert (await consumer.receive()).status == 40
            consumer.send(in_hessian2(b"\x90")[:-2] + b"N")
            assert (await consumer.receive()).status == 20

    asyncio.run(scenario())
