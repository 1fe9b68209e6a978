"""What it costs to have a store of queues elsewhere: ``python -m benchmarks.broker``.

The same puts and gets, 50-byte messages over 1,000 queues, on a ``QueueStore`` of this process, on
one that ``dragoman queue serve`` serves from a second process over one connection, and, where
nats-server is installed, on JetStream with one server. Every message that is read is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from dragoman import broker
from dragoman.queue import AsyncMessageStore

QUEUES = 1000
SIZE = 50


@dataclass
class Figure:
    """One way of using one store."""

    store: str
    style: str
    messages_per_second: float
    mean_us: float | None = None


def message(number: int) -> bytes:
    """What is put as number ``number``."""
    return b"%049d." % number


@contextmanager
def served(place: Path, durability: str) -> Iterator[str]:
    """``dragoman queue serve``, as a process."""
    command = [sys.executable, "-m", "dragoman", "queue", "serve", str(place)]
    command += ["--listen", "127.0.0.1:0", "--durability", durability, "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"dragoman://{process.stdout.readline().split()[-1]}"
        finally:
            process.terminate()


@contextmanager
def on_nats(place: Path) -> Iterator[str]:
    """A NATS server, as a process."""
    program = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(place)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"nats://127.0.0.1:{port}/bench"
        finally:
            process.terminate()


async def at_once(count: int, one: Callable[[int], Awaitable[Any]], tasks: int) -> float:
    """Seconds for ``count`` calls of ``one`` by ``tasks`` tasks."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return time.perf_counter() - began


async def measure(name: str, where: str, scale: float, options: dict[str, Any]) -> list[Figure]:
    """All styles on one store."""
    figures = []
    names = [b"queue-%d" % n for n in range(QUEUES)]
    put = [0]
    async with await broker.open_async(where, **options) as store:

        async def rate(style: str, count: int, one: Any, tasks: int, messages: int = 1) -> None:
            count = max(1, int(count * scale))
            seconds = await at_once(count, one, tasks)
            alone = 1e6 * seconds / count if tasks == 1 else None
            figures.append(Figure(name, style, count * messages / seconds, alone))

        async def put_batch(_: int) -> None:
            first = put[0]
            put[0] += 1000
            await store.put_many(names, [message(first + i) for i in range(1000)])

        async def put_to_one(number: int) -> None:
            await store.put_many(b"one", [message(number)] * 1000)

        async def put_one(number: int) -> None:
            await store.put(names[number % QUEUES], message(put[0] + number))

        slow = 0.05 if name == "JetStream" else 1.0
        await put_batch(0)
        await rate(
            "put_many(1000) to 1,000 queues, 4 at a time", int(300 * slow), put_batch, 4, 1000
        )
        rounds = put[0] // 1000
        await rate("put_many(1000) to one queue, 4 at a time", int(300 * slow), put_to_one, 4, 1000)
        await rate(
            "get_many(100 x 10), 4 at a time", int(400 * slow), reads(store, names, rounds), 4, 1000
        )
        await rate("put, 1,000 tasks", int(100_000 * slow), put_one, 1000)
        await rate("put, one at a time", int(2000 * slow), put_one, 1)

        async def get_one(number: int) -> None:
            (got,) = await store.get(names[number % QUEUES], number % rounds)
            assert len(got) == SIZE

        await rate("get, 1,000 tasks", int(50_000 * slow), get_one, 1000)
        await rate("get, one at a time", int(2000 * slow), get_one, 1)
    return figures


def reads(store: AsyncMessageStore, names: list[bytes], rounds: int) -> Callable[[int], Any]:
    """Reads of 100 ranges of 10, each compared."""

    async def read(number: int) -> None:
        base = number * 37 % max(1, rounds - 10)
        wanted = [(number * 100 + i) % QUEUES for i in range(100)]
        for index, got in zip(
            wanted, await store.get_many([(names[i], base, 10) for i in wanted]), strict=True
        ):
            assert got == [message((base + k) * 1000 + index) for k in range(len(got))]
            assert got

    return read


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of everything")
    parser.add_argument("--durability", default="interval(100)")
    parser.add_argument("--stores", default="local,served,nats")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="dragoman-broker-") as place:
        root = Path(place)
        chosen = arguments.stores.split(",")
        if "local" in chosen:
            options = {"durability": arguments.durability}
            figures += uvloop.run(measure("local", str(root / "a"), arguments.scale, options))
        if "served" in chosen:
            with served(root / "b", arguments.durability) as where:
                figures += uvloop.run(measure("served", where, arguments.scale, {}))
        if "nats" in chosen and shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin"):
            with on_nats(root / "c") as where:
                time.sleep(0.5)
                figures += uvloop.run(measure("JetStream", where, arguments.scale, {}))
    for figure in figures:
        alone = f"{figure.mean_us:10,.0f} us each" if figure.mean_us else ""
        print(f"{figure.store:10} {figure.style:45} {figure.messages_per_second:12,.0f}/s {alone}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(each) for each in figures], indent=2) + "\n")


if __name__ == "__main__":
    main()
