"""What the Dubbo SDK costs: ``python -m benchmarks.dubbo``.

Calls a second of ``hash(String)`` on one connection, the client in this process and the provider in
another (a server of the SDK, with its method on the loop). ``--provider HOST:PORT`` measures
against one that runs already and serves ``com.example.Hello.hash``. Every reply is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import platform
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from dragoman import dubbo
from dragoman.demo.javahash import java_hash

INTERFACE = "com.example.Hello"


@dubbo.service(INTERFACE)
class Hello:
    """What is called: one method for each way to run it."""

    def hash(self, text: str) -> int:
        """On the loop with ``threads=0``."""
        return java_hash(text)

    async def hash_async(self, text: str) -> int:
        """As a task."""
        return java_hash(text)


TEXT = "dragoman" * 4
ANSWER = java_hash(TEXT)


def provide(pipe: Any, threads: int) -> None:
    """The provider's process."""

    async def main() -> None:
        gc.freeze()
        async with await dubbo.serve(Hello(), 0, limit=100_000, threads=threads) as server:
            pipe.send(server.address.port)
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    uvloop.run(main())


async def concurrent(
    call: Callable[[str], Awaitable[int]], tasks: int, seconds: float
) -> tuple[float, float]:
    """Calls a second of so many tasks, each awaiting one call after the other, and this process's
    microseconds of CPU a call."""
    until = time.perf_counter() + seconds
    made = 0

    async def one() -> None:
        nonlocal made
        while time.perf_counter() < until:
            assert await call(TEXT) == ANSWER
            made += 1

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(tasks)))
    used = (time.process_time() - cpu) * 1e6 / made
    return made / (time.perf_counter() - began), used


async def lone(call: Callable[[str], Awaitable[int]], seconds: float) -> list[float]:
    """The times of calls made one after the other, in seconds."""
    until = time.perf_counter() + seconds
    times = []
    while (began := time.perf_counter()) < until:
        assert await call(TEXT) == ANSWER
        times.append(time.perf_counter() - began)
    return times


async def measure(source: str, seconds: float) -> dict[str, float]:
    """The asynchronous client."""
    found: dict[str, float] = {}
    async with dubbo.Client(f"{source}?limit=100000", timeout_ms=30_000) as client:
        stub = client.service(Hello)
        plain = client.service(INTERFACE)
        await concurrent(stub.hash, 100, 0.3)  # type: ignore[arg-type]
        typed: Any = stub.hash
        for name, call, tasks in (
            ("typed, 1,000 tasks", typed, 1000),
            ("typed, 100 tasks", typed, 100),
            ("untyped, 100 tasks", plain.hash, 100),
            ("coroutine method, 100 tasks", stub.hash_async, 100),
        ):
            rates = [await concurrent(call, tasks, seconds / 3) for _ in range(3)]
            found[name], found[f"{name}: client CPU us"] = sorted(rates)[1]
        times = sorted(await lone(typed, seconds))
        found["one at a time, p50 us"] = statistics.median(times) * 1e6
    return found


def measure_sync(source: str, seconds: float) -> dict[str, float]:
    """The synchronous client."""
    found: dict[str, float] = {}
    with dubbo.connect_sync(f"{source}?limit=100000", timeout_ms=30_000) as client:
        call: Any = client.service(Hello).hash
        call(TEXT)
        for threads in (1, 8):
            counts = [0] * threads
            until = time.perf_counter() + seconds

            def one(index: int, counts: list[int] = counts, until: float = until) -> None:
                while time.perf_counter() < until:
                    assert call(TEXT) == ANSWER
                    counts[index] += 1

            began = time.perf_counter()
            workers = [threading.Thread(target=one, args=(index,)) for index in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            rate = sum(counts) / (time.perf_counter() - began)
            found[f"synchronous, {threads} thread{'s' * (threads > 1)}"] = rate
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--provider", help="HOST:PORT of one that runs already")
    parser.add_argument("--threads", type=int, default=0, help="of the provider, for hash")
    parser.add_argument("--json", help="write the figures here, - for standard output")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    provider = None
    address = options.provider
    if address is None:
        pipe, its_end = context.Pipe()
        provider = context.Process(target=provide, args=(its_end, options.threads))
        provider.start()
        address = f"127.0.0.1:{pipe.recv()}"
    try:
        found = uvloop.run(measure(f"dubbo://{address}", options.seconds))
        found |= measure_sync(f"dubbo://{address}", options.seconds)
    finally:
        if provider is not None:
            pipe.send(None)
            provider.join(10)
    for name, figure in found.items():
        print(
            f"{name:45} {figure:12,.{1 if name.endswith('us') else 0}f}",
            file=sys.stderr if options.json == "-" else sys.stdout,
        )
    if options.json:
        text = json.dumps({"machine": platform.machine(), "seconds": options.seconds, **found})
        if options.json == "-":
            print(text)
        else:
            with open(options.json, "w") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
