"""``connect`` and ``serve`` of every part: awaited or not, the same options, the same addresses."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dragoman import broker, cluster, dubbo, rpc
from dragoman.errors import Code, ResultError, from_code
from dragoman.opening import Opening, opening
from dragoman.queue import QueueStore
from tests.rpc.peers import RUNNERS

ROOT = Path(__file__).parent.parent
TCP = "127.0.0.1:0"


@dubbo.service("com.example.Opened")
class Opened:
    async def echo(self, text: str) -> str:
        return text


@asynccontextmanager
async def everything(place: Path) -> AsyncIterator[dict[str, Callable[[], Any]]]:
    """A way to open each thing, by its name."""
    with QueueStore(place / "store") as store:
        async with (
            await rpc.serve({"echo": lambda body: body}, TCP) as server,
            await dubbo.serve(Opened(), 0) as provider,
            await broker.serve(store, TCP) as served,
        ):
            yield {
                "rpc.serve": lambda: rpc.serve({}, TCP),
                "rpc.connect": lambda: rpc.connect(server.address),
                "cluster.serve": lambda: cluster.serve({}, TCP, name="s", registry="memory://o"),
                "cluster.connect": lambda: cluster.connect("s", endpoints=[server.address]),
                "dubbo.serve": lambda: dubbo.serve(Opened(), 0),
                "dubbo.Client": lambda: dubbo.Client(f"dubbo://{provider.address}"),
                "dubbo.connect": lambda: dubbo.connect(f"dubbo://{provider.address}"),
                "broker.serve": lambda: broker.serve(store, TCP),
                "broker.open_async": lambda: broker.open_async(f"dragoman://{served.address}"),
                "broker.open_async of a path": lambda: broker.open_async(place / "own"),
            }


@pytest.mark.parametrize("runner", RUNNERS)
def test_async_with_takes_what_is_opened_awaited_or_not(runner: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with everything(tmp_path) as ways:
            for name, way in ways.items():
                async with way() as first:
                    pass
                async with await way() as second:
                    pass
                third = await way()
                await third.close()
                assert type(first) is type(second) is type(third), name
                for each in (first, second, third):
                    assert not isinstance(each, Opening), name
                    assert getattr(each, "closed", True), name

    RUNNERS[runner](work())


def test_it_closes_as_what_it_opened_does_and_lets_errors_through() -> None:
    class Thing:
        left: Any = None

        async def __aexit__(self, *what: Any) -> None:
            self.left = what[0]

    @opening
    async def open_it(*, fails: bool = False) -> Thing:
        """Say what it does."""
        if fails:
            raise ValueError("not today")
        return Thing()

    async def work() -> None:
        with pytest.raises(KeyError):
            async with open_it() as thing:
                raise KeyError
        assert thing.left is KeyError
        with pytest.raises(ValueError, match="not today"):
            async with open_it(fails=True):
                raise AssertionError
        with pytest.raises(ValueError, match="not today"):
            await open_it(fails=True)
        once = open_it()
        async with once:
            pass
        with pytest.raises(RuntimeError, match="already awaited"):
            async with once:
                raise AssertionError

    asyncio.run(work())
    assert open_it.__name__ == "open_it"
    assert open_it.__doc__ == "Say what it does."
    assert [*inspect.signature(open_it).parameters] == ["fails"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_it_is_a_coroutine_to_whatever_wants_one(runner: str) -> None:
    async def work() -> None:
        server = await asyncio.create_task(rpc.serve({}, TCP))
        coroutine = rpc.connect(server.address)
        assert asyncio.iscoroutine(coroutine)
        task = asyncio.ensure_future(coroutine)
        assert "connect" in repr(task)
        async with asyncio.TaskGroup() as group:
            other = group.create_task(rpc.connect(server.address))
        third = await asyncio.wait_for(rpc.connect(server.address), 60)
        fourth = await asyncio.gather(rpc.connect(server.address))
        for client in (await task, other.result(), third, *fourth):
            assert client.statistics().connected
            await client.close()
        cancelled = asyncio.create_task(rpc.connect(server.address))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await server.close()

    RUNNERS[runner](work())


def test_what_is_used_before_it_is_open_says_so() -> None:
    async def work() -> None:
        forgotten: Any = rpc.connect("127.0.0.1:1")
        with pytest.raises(AttributeError, match=r"connect\(\) .* has no 'call': await it, or use"):
            forgotten.call("echo")
        forgotten.close()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            rpc.connect("127.0.0.1:1")
        assert "coroutine 'connect' was never awaited" in str(seen[0].message)

    uvloop.run(work())


def test_addresses_are_given_alike(tmp_path: Path) -> None:
    """``host:port``, ``tcp://host:port``, ``unix:/path`` and an ``Address``, where it can be."""

    async def answers(opened: Any, call: Callable[[Any], Awaitable[Any]]) -> None:
        async with opened as client:
            await call(client)

    async def work() -> None:
        def echo(each: Any) -> Any:
            return each.call("echo", b"x", timeout_ms=60_000)

        def hello(client: Any) -> Any:
            return client.service(Opened, timeout_ms=60_000).echo("x")

        def put(store: Any) -> Any:
            return store.put("q", b"x")

        store = QueueStore(tmp_path / "store")
        for where in (TCP, f"tcp://{TCP}", f"unix:{tmp_path}/s", f"unix://{tmp_path}/t"):
            async with rpc.serve({"echo": lambda body: body}, where) as server:
                at: list[Any] = [server.address, str(server.address)]
                if "unix" not in where:
                    at.append(f"tcp://{server.address}")
                for each in at:
                    await answers(rpc.connect(each), echo)
                    await answers(cluster.connect("s", endpoints=[each]), echo)
                    await asyncio.to_thread(lambda each=each: _blocking(each))
                if "unix" not in where:
                    registry = f"static://tcp://{server.address}"
                    await answers(cluster.connect("s", registry=registry), echo)
        for where in (TCP, f"tcp://{TCP}", f"unix:{tmp_path}/u"):
            async with broker.serve(store, where) as served:
                plain = str(served.address)
                for url in (
                    [plain] if "unix" in where else [f"dragoman://{plain}", f"tcp://{plain}"]
                ):
                    await answers(broker.open_async(url), put)
        for port in (0, TCP, f"tcp://{TCP}", rpc.Address(host="127.0.0.1")):
            async with dubbo.serve(Opened(), port) as provider:
                plain = str(provider.address)
                for source in (f"dubbo://{plain}", f"tcp://{plain}", provider.address):
                    await answers(dubbo.Client(source), hello)
                    await asyncio.to_thread(_hello, source)
        store.close()

    uvloop.run(work())


def _put(where: Any) -> None:
    with broker.open_store(where) as store:
        store.put("q", b"x")


def _hello(source: Any) -> None:
    with dubbo.connect_sync(source) as client:
        hello: Any = client.service(Opened)
        assert hello.echo("x") == "x"


def _blocking(address: Any) -> None:
    with rpc.connect_sync(address) as client:
        assert client.call("echo", b"x") == b"x"
    with cluster.connect_sync("s", endpoints=[address]) as pool:
        assert pool.call("echo", b"x") == b"x"


@pytest.mark.parametrize(
    ("open_it", "message"),
    [
        (lambda: dubbo.serve(Opened(), "unix:/tmp/x"), "Dubbo is served on host:port"),
        (lambda: dubbo.serve(Opened(), "nowhere"), "expected host:port"),
        (lambda: dubbo.serve(Opened(), "127.0.0.1:0", host="::1"), "host: '::1', but the address"),
        (lambda: dubbo.serve(Opened(), 70_000), "port: expected a whole number"),
        (
            lambda: dubbo.Client("10.0.0.7:20880"),
            "address alone: dubbo://10.0.0.7:20880 is a provider there, zookeeper://10.0.0.7:20880",
        ),
    ],
)
def test_an_address_that_cannot_be_is_refused(open_it: Callable[[], Any], message: str) -> None:
    async def work() -> None:
        with pytest.raises(rpc.UsageError, match=message):
            await open_it()

    uvloop.run(work())


def parameters(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    assert all(each.kind is not each.VAR_KEYWORD for each in found), function
    return {each.name: each.default for each in found if each.default is not each.empty}


OPENED = [
    rpc.connect, rpc.connect_sync, rpc.serve, cluster.connect, cluster.connect_sync, cluster.serve,
    dubbo.Client, dubbo.SyncClient, dubbo.connect_sync, dubbo.serve, dubbo.run, broker.serve,
]  # fmt: skip
# Which says why in its docstring.
OTHERWISE = {("timeout_ms", dubbo.Client), ("body_bytes_max", dubbo.Client)}


def test_synchronous_twins_and_whole_programs_have_the_same_options() -> None:
    assert parameters(rpc.connect_sync) == parameters(rpc.connect)
    assert parameters(cluster.connect_sync) == parameters(cluster.connect)
    client = parameters(dubbo.Client)
    assert parameters(dubbo.SyncClient) == parameters(dubbo.connect_sync) == client
    serve = parameters(dubbo.serve)
    assert {name: parameters(dubbo.run)[name] for name in serve} == serve
    assert parameters(cluster.serve).items() >= parameters(rpc.serve).items()


def test_default_times_agree_or_the_docstring_says_why() -> None:
    for function in OPENED:
        given = parameters(function)
        for name in ("connect_timeout_ms", "register_timeout_ms", "heartbeat_ms"):
            assert given.get(name, 5000) == 5000, (function, name)
    assert (
        parameters(rpc.connect)["timeout_ms"] is parameters(cluster.connect)["timeout_ms"] is None
    )
    for said in (dubbo.Client.__doc__, broker.open_store.__doc__):
        assert said is not None
        assert "nlike ``rpc.connect``" in said
    for opened in (rpc.Client, rpc.SyncClient, cluster.Pool, cluster.SyncPool, dubbo.Client):
        assert parameters(opened.close) == {"drain_ms": 5000}
    for opened in (rpc.Server, cluster.RegisteredServer, dubbo.Server, broker.BrokerServer):
        assert parameters(opened.close) == {"drain_ms": 10_000}


def test_every_error_that_may_come_is_exported() -> None:
    answered = {from_code(code, "", retry_safe=False).__class__ for code in Code} - {ResultError}
    lost = {rpc.ConnectError, rpc.LinkError, rpc.UsageError, rpc.ProtocolError}
    for module in (rpc, cluster, dubbo, broker):
        for kind in answered | lost:
            assert kind.__name__ in module.__all__, (module, kind)
            assert getattr(module, kind.__name__) is kind
    for module in (cluster, dubbo, broker):
        assert "RegistryError" in module.__all__
    assert "ResultError" in dubbo.__all__


def test_type_checkers_know_both_uses_and_refuse_a_misspelt_option() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/typed_opening.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
    )
    assert ran.returncode == 0, ran.stdout
