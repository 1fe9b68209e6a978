"""Every method of what rpc, cluster and dubbo give their users, against ``close``.

Whatever is under way, or comes later, ends in its result or in one error of ours that says that it
is closed: never in a hang, an error of Python's, or the end of the process.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
import uvloop

from dragoman import cluster, dubbo, rpc
from dragoman.errors import BatchError, DragomanError
from dragoman.registry import open_registry
from tests.load_factor import load_factor

TCP = "127.0.0.1:0"
SAYS_CLOSED = re.compile(r"closed|shuts down")
SECONDS = [
    pytest.param(0.5, id="a moment"),
    pytest.param(60.0, id="a minute", marks=pytest.mark.slow),
]
BODIES = [b"x"] * 20

Use = Callable[[Any], Any]


@dubbo.service("com.example.Closed")
class Service:
    async def echo(self, text: str) -> str:
        await asyncio.sleep(random.choice((0, 0, 0.001)))
        return text


async def slow_echo(body: bytes) -> bytes:
    await asyncio.sleep(random.choice((0, 0, 0.002)))
    return body


METHODS = {"echo": lambda body: body, "slow": slow_echo, "Service.echo": lambda body: b"\xa1x"}


async def _mapped(client: Any) -> None:
    async for _ in client.map("slow", BODIES, in_flight=5):
        pass


def _called_soon(client: Any) -> asyncio.Future[None]:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(reply: bytes | None, error: Exception | None) -> None:
        assert (reply is None) is not (error is None)
        assert not ended.done(), "it ended twice"
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    client.call_soon("slow", b"x", end)
    return ended


CALLS: dict[str, Use] = {
    "call": lambda client: client.call("echo", b"x"),
    "slow call": lambda client: client.call("slow", b"x", timeout_ms=5000),
    "ordered call": lambda client: client.call("slow", b"x", order_key="k"),
    "large call": lambda client: client.call("echo", b"x" * 600_000),
    "call_many": lambda client: client.call_many("slow", BODIES),
    "call_soon": _called_soon,
    "notify": lambda client: client.notify("echo", b"x"),
    "map": _mapped,
    "service": lambda client: client.service(Service).echo("x"),
    "statistics": lambda client: client.statistics(),
    "repr": repr,
}
SERVER: dict[str, Use] = {
    "set_limit": lambda server: server.set_limit(random.randint(1, 50)),
    "statistics": lambda server: server.statistics(),
    "repr": repr,
}
DUBBO: dict[str, Use] = {
    "call": lambda client: client.service(Service).echo("x"),
    "generic": lambda client: client.service("com.example.Closed", generic=True).echo("x"),
    "any": lambda client: client.service("com.example.Closed").echo("x", timeout_ms=5000),
    "send": lambda client: dubbo.send(client.service(Service).echo, "x"),
    "invoke": lambda client: dubbo.invoke(client.service(Service).echo, "x"),
    "ready": lambda client: client.ready(client.service(Service), timeout_ms=2000),
    "echo": lambda client: client.echo(client.service(Service)),
    "services": lambda client: client.services(),
    "methods": lambda client: client.methods(client.service(Service)),
    "statistics": lambda client: client.statistics(client.service(Service)),
    "repr": repr,
}


def says_closed(error: BaseException) -> bool:
    """Whether it is of ours, and says that something is closed."""
    if isinstance(error, BatchError):
        return all(map(says_closed, error.errors.values()))
    return isinstance(error, DragomanError) and bool(SAYS_CLOSED.search(str(error)))


async def _against_close(
    made: Any, uses: dict[str, Use], others: Callable[[BaseException], bool] | None = None
) -> None:
    """Use ``made`` in every way in many tasks; close it among them, more than once."""
    closed = False

    async def use(name: str) -> None:
        after = 0
        while after < 3:
            after += closed
            try:
                result = uses[name](made)
                if isinstance(result, Awaitable):
                    await result
            except Exception as error:
                if not (says_closed(error) or (others is not None and others(error))):
                    raise AssertionError(f"{name}: {error!r}") from error
            await asyncio.sleep(0)

    async def close() -> None:
        nonlocal closed
        for _ in range(random.randrange(60)):
            await asyncio.sleep(0)
        closing = asyncio.ensure_future(made.close(drain_ms=random.choice((0, 1, 20, 5000))))
        if random.random() < 0.3:
            # Given up, and done again.
            for _ in range(random.randrange(5)):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            closing = asyncio.ensure_future(made.close(drain_ms=0))
        await asyncio.gather(closing, made.close(), made.close(drain_ms=0))
        closed = True

    tasks = [asyncio.create_task(use(name), name=name) for name in uses for _ in range(3)]
    tasks.append(asyncio.ensure_future(close()))
    random.shuffle(tasks)
    done, late = await asyncio.wait(
        tasks, timeout=60 * load_factor(), return_when=asyncio.FIRST_EXCEPTION
    )
    for task in done:
        task.result()
    assert not late, f"these never end: {[task.get_name() for task in late]}"


def _rounds(seconds: float) -> Iterator[int]:
    until_s = time.monotonic() + seconds
    seed = random.randrange(1 << 30)
    while True:
        print(f"seed {seed}")
        random.seed(seed)
        yield seed
        seed += 1
        if time.monotonic() > until_s:
            return


def _run(work: Callable[[], Any], seconds: float) -> None:
    async def main() -> None:
        unseen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        for _ in _rounds(seconds):
            await work()
            assert unseen == []

    uvloop.run(main())


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("reconnect", [True, False])
def test_a_client(seconds: float, reconnect: bool) -> None:
    async def work() -> None:
        async with await rpc.serve(METHODS, TCP) as server:
            client = await rpc.connect(server.address, reconnect=reconnect, calls_max=30)
            await _against_close(client, CALLS)

    _run(work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_pool(seconds: float) -> None:
    async def work() -> None:
        async with await rpc.serve(METHODS, TCP) as one, await rpc.serve(METHODS, TCP) as other:
            pool = await cluster.connect("s", endpoints=[one.address, other.address], calls_max=30)
            await _against_close(pool, CALLS)

    _run(work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("threads", [0, 2])
def test_a_server_with_callers(seconds: float, threads: int) -> None:
    def ours(error: BaseException) -> bool:
        # Of a loss they may hear in more ways than of their own closing.
        return isinstance(error, DragomanError)

    async def work() -> None:
        server = await rpc.serve(METHODS, TCP, threads=threads, limit=40)
        client = await rpc.connect(server.address, reconnect=False)
        pool = await cluster.connect("s", endpoints=[server.address], on_full="fail")
        uses = dict(SERVER)
        for name, use in CALLS.items():
            uses[f"client.{name}"] = lambda _, use=use: use(client)
            uses[f"pool.{name}"] = lambda _, use=use: use(pool)
        try:
            await _against_close(server, uses, ours)
        finally:
            await client.close(drain_ms=0)
            await pool.close(drain_ms=0)

    _run(work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_registered_server(seconds: float) -> None:
    async def work() -> None:
        registry = open_registry("memory://closed")
        server = await cluster.serve(METHODS, TCP, name="s", registry=registry)
        uses = {**SERVER, "ready": lambda server: server.ready(1)}
        await _against_close(server, uses)

    _run(work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_client_of_dubbo(seconds: float) -> None:
    async def work() -> None:
        async with await dubbo.serve(Service(), 0) as server:
            client = dubbo.Client(f"dubbo://{server.address}")
            await _against_close(client, DUBBO)

    _run(work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_server_of_dubbo_with_callers(seconds: float) -> None:
    def ours(error: BaseException) -> bool:
        return isinstance(error, DragomanError)

    async def work() -> None:
        server = await dubbo.serve(Service(), 0)
        client = dubbo.Client(f"dubbo://{server.address}")
        uses = dict(SERVER)
        for name, use in DUBBO.items():
            uses[f"client.{name}"] = lambda _, use=use: use(client)
        try:
            await _against_close(server, uses, ours)
        finally:
            await client.close(drain_ms=0)

    _run(work, seconds)


def _future(client: Any) -> Any:
    future: Future[bytes] = client.call_future("slow", b"x")
    if random.random() < 0.3:
        future.cancel()
    try:
        return future.result(30)
    except CancelledError:
        return None


SYNC: dict[str, Use] = {
    "call": CALLS["call"],
    "slow call": CALLS["slow call"],
    "large call": CALLS["large call"],
    "call_many": CALLS["call_many"],
    "notify": CALLS["notify"],
    "call_future": _future,
    "map": lambda client: list(client.map("slow", BODIES, in_flight=5)),
    "service": CALLS["service"],
    "statistics": CALLS["statistics"],
    "closed": lambda client: client.closed,
    "repr": repr,
}


def _threads_against_close(made: Any, uses: dict[str, Use]) -> None:
    """Use ``made`` in every way from a thread each; close it from two others."""
    faults: list[str] = []
    closed = threading.Event()

    def use(name: str) -> None:
        after = 0
        while after < 3:
            after += closed.is_set()
            try:
                uses[name](made)
            except BaseException as error:
                if not says_closed(error):
                    faults.append(f"{name}: {error!r}")
                    return

    def close() -> None:
        time.sleep(random.random() * 0.02)
        try:
            made.close(drain_ms=random.choice((0, 1, 20, 5000)))
        except BaseException as error:
            faults.append(f"close: {error!r}")
        closed.set()

    threads = [threading.Thread(target=use, args=(name,), daemon=True) for name in uses]
    threads += [threading.Thread(target=close, daemon=True) for _ in range(2)]
    random.shuffle(threads)
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + 20 * load_factor()
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    assert faults == []
    assert not any(thread.is_alive() for thread in threads), "a call never ends"


def _run_threads(serve: Callable[[], Any], work: Callable[[Any], None], seconds: float) -> None:
    async def main() -> None:
        async with await serve() as server:

            def rounds() -> None:
                for _ in _rounds(seconds):
                    work(server)

            await asyncio.to_thread(rounds)

    uvloop.run(main())


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_client_for_threads(seconds: float) -> None:
    def work(server: Any) -> None:
        _threads_against_close(rpc.connect_sync(server.address, calls_max=30), SYNC)

    _run_threads(lambda: rpc.serve(METHODS, TCP), work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_pool_for_threads(seconds: float) -> None:
    def work(server: Any) -> None:
        pool = cluster.connect_sync("s", endpoints=[str(server.address)], calls_max=30)
        _threads_against_close(pool, SYNC)

    _run_threads(lambda: rpc.serve(METHODS, TCP), work, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_client_of_dubbo_for_threads(seconds: float) -> None:
    def work(server: Any) -> None:
        _threads_against_close(dubbo.connect_sync(f"dubbo://{server.address}"), DUBBO)

    _run_threads(lambda: dubbo.serve(Service(), 0), work, seconds)
