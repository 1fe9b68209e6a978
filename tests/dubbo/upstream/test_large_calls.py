"""Large calls, which must not hold up the loop: in all serializations, both ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

import pytest
import uvloop

from dragoman.agent.config import ConsumerConfig
from dragoman.agent.consumer import ConsumerAgent
from dragoman.wire.dubbo import invocation
from dragoman.wire.java import Bean
from tests.dubbo.fake import HOST, FakeProvider, Frame
from tests.faults.http import Response, call, client
from tests.slices import Slices

BYTES = 7_900_000
# What a loop may do in one piece. The longest are at 3 to 6 where caches are not shared with much
# else; 15 MB that are joined or copied are at 12 to 16, a body transcoded on the loop is at 100 to
# 4,600.
SLICE_MS = 20.0
SPOKEN = {"hessian2": 2, "fastjson": 6, "fastjson2": 23}


def listed(one: bytes, length: int = BYTES) -> bytes:
    """A list of values that are all the same."""
    return b"[" + b",".join([one] * (length // (len(one) + 1))) + b"]"


SHAPES: dict[str, Callable[[], bytes]] = {
    "objects": lambda: listed(b"{}"),
    "lists": lambda: listed(b"[]"),
    "zeros": lambda: listed(b"0"),
    "decimals": lambda: listed(b"1.5", 6_000_000),
    "long decimals": lambda: listed(b"0.12345678901234567", 6_000_000),
    "keys": lambda: b"{" + b",".join(b'"k%d":1' % i for i in range(600_000)) + b"}",
    "words": lambda: listed(b'"ab"'),
    "nested": lambda: listed(b'{"a":[{"b":[]}]}'),
    "a text": lambda: b'"' + b"a" * BYTES + b'"',
    "escapes": lambda: b'"' + b"\\n" * (BYTES // 2) + b'"',
    "characters": lambda: b'"' + "\u00e9".encode() * (BYTES // 2) + b'"',
}


@contextmanager
def elsewhere(answer: Callable[[Frame], bytes]) -> Iterator[int]:
    """A provider on a thread and a loop of its own; its port."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    provider = FakeProvider(answer)
    ended = asyncio.Event()

    async def serve() -> None:
        await provider.start()
        ready.set()
        await ended.wait()
        await provider.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield provider.port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@asynccontextmanager
async def agent(port: int, serialization: str, **options: Any) -> AsyncIterator[ConsumerAgent]:
    """A consumer agent on this loop, which speaks to the provider itself."""
    config = ConsumerConfig(
        listen=f"{HOST}:0",
        registry=f"static://{HOST}:{port}?interface=a.B&protocol=dubbo"
        f"&serialization={serialization}",
        timeout_ms=60_000,
        **options,
    )
    made = ConsumerAgent(config)
    await made.start()
    try:
        yield made
    finally:
        await made.drain()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """On the loop that agents run on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


async def ask(port: int, body: bytes) -> Response:
    """A call from another thread, so that the client's work is not the loop's."""

    async def there() -> Response:
        async with client(port) as one:
            one.send(call("m", body, interface="a.B"))
            return await one.response(timeout_s=120)

    return await asyncio.to_thread(lambda: asyncio.run(there()))


def cases(quick: set[tuple[str, str]], shapes: Iterable[str]) -> list[Any]:
    """Every serialization with every shape; those that are not quick are for the long runs."""
    marks = {True: (), False: (pytest.mark.slow,)}
    return [
        pytest.param(each, shape, marks=marks[(each, shape) in quick], id=f"{each}-{shape}")
        for each in SPOKEN
        for shape in shapes
    ]


async def longest_ms(port: int, body: bytes, status: int = 200) -> float:
    """What one call makes the loop do in one piece. What interrupts a processor does not do so
    each time."""
    least = float("inf")
    for _ in range(3):
        async with Slices() as slices:
            answer = await ask(port, body)
        assert answer.status == status, answer.body[:200]
        least = min(least, slices.longest_ms)
        if least < SLICE_MS:
            break
    return least


QUICK_ARGUMENTS = {
    ("hessian2", "objects"),
    ("fastjson", "lists"),
    ("fastjson2", "words"),
}
# What is too long in this serialization, or holds too many containers for it.
REFUSED = {
    ("fastjson2", "decimals"): 413,
    ("fastjson2", "objects"): 400,
    ("fastjson2", "lists"): 400,
    ("fastjson2", "nested"): 400,
}


@pytest.mark.parametrize(("serialization", "shape"), cases(QUICK_ARGUMENTS, SHAPES))
def test_a_large_argument_does_not_hold_up_the_loop(serialization: str, shape: str) -> None:
    body = b'{"args":[' + SHAPES[shape]() + b"]}"
    small = invocation.encode_reply("done", serialization=SPOKEN[serialization])
    status = REFUSED.get((serialization, shape), 200)

    async def scenario(port: int) -> None:
        async with agent(port, serialization) as made:
            assert await longest_ms(made.port, body, status) < SLICE_MS

    with elsewhere(lambda frame: frame.reply(small)) as port:
        run(scenario(port))


RESULTS: dict[str, Callable[[], Any]] = {
    "maps": lambda: [{} for _ in range(490_000)],
    "lists": lambda: [[] for _ in range(490_000)],
    "ints": lambda: [0] * 7_500_000,
    "doubles": lambda: [0.1 + i for i in range(700_000)],
    "keys": lambda: {f"k{i}": 1 for i in range(600_000)},
    "texts": lambda: ["ab"] * 2_000_000,
    "beans": lambda: [Bean("a.C", x=1, y="b") for _ in range(490_000)],
    "decimals": lambda: [Decimal("1.50") for _ in range(200_000)],
    "a text": lambda: "a" * BYTES,
    "escapes": lambda: "\n" * (BYTES // 2),
    "characters": lambda: "\u00e9" * (BYTES // 2),
}


QUICK_RESULTS = {("hessian2", "ints"), ("fastjson2", "doubles")}


@pytest.mark.parametrize(("serialization", "shape"), cases(QUICK_RESULTS, RESULTS))
def test_a_large_result_does_not_hold_up_the_loop(serialization: str, shape: str) -> None:
    large = invocation.encode_reply(RESULTS[shape](), serialization=SPOKEN[serialization])
    small = invocation.encode_reply("done", serialization=SPOKEN[serialization])
    # Beyond what Dubbo carries, or what the mesh does.
    status = 502 if len(large) > 8_388_608 else 413 if shape == "escapes" else 200

    def answer(frame: Frame) -> bytes:
        return frame.reply(large if b"large" in frame.body else small)

    async def scenario(port: int) -> None:
        async with agent(port, serialization) as made:
            assert await longest_ms(made.port, b'{"args":["large"]}', status) < SLICE_MS

    with elsewhere(answer) as port:
        run(scenario(port))
