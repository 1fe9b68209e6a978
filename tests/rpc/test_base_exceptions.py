"""What ends programs, raised by a handler or a callback, ends one call and nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dragoman import cluster, dubbo, rpc
from dragoman.errors import DragomanError, JavaError, RemoteError
from dragoman.registry.memory import MemoryRegistry
from tests.cluster.pools import run

ENDS = [GeneratorExit, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
TCP = "127.0.0.1:0"


class Own(BaseException):
    def __str__(self) -> str:
        raise SystemExit("no words")


def plain(kind: type[BaseException]) -> Callable[[bytes], Any]:
    def handler(body: bytes) -> bytes:
        raise kind("odd")

    return handler


def soon(kind: type[BaseException]) -> Callable[[bytes], Any]:
    async def handler(body: bytes) -> bytes:
        raise kind("odd")

    return handler


def later(kind: type[BaseException]) -> Callable[[bytes], Any]:
    async def handler(body: bytes) -> bytes:
        await asyncio.sleep(0.001)
        raise kind("odd")

    return handler


def awaitable(kind: type[BaseException]) -> Callable[[bytes], Any]:
    class Awaited:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            raise kind("odd")

    return lambda body: Awaited()


async def slow(body: bytes) -> bytes:
    await asyncio.sleep(0.05)
    return body


@pytest.mark.parametrize("kind", [*ENDS, Own])
@pytest.mark.parametrize("shape", [plain, soon, later, awaitable])
@pytest.mark.parametrize("options", [{}, {"threads": 2}], ids=["loop", "threads"])
def test_a_handler_that_would_end_the_program_fails_its_own_call(
    kind: type[BaseException], shape: Any, options: dict[str, int]
) -> None:
    async def work() -> None:
        async with (
            await rpc.serve({"odd": shape(kind), "slow": slow}, TCP, **options) as server,
            await rpc.connect(server.address, timeout_ms=10_000) as client,
        ):
            neighbour = client.call("slow", b"other")
            for key in (None, "k"):
                with pytest.raises(RemoteError, match=kind.__name__):
                    await client.call("odd", order_key=key)
            client.notify("odd")
            with pytest.raises(rpc.BatchError) as batch:
                await client.call_many("odd", [b"1", b"2"])
            assert {type(error) for error in batch.value.errors.values()} == {RemoteError}
            assert await neighbour == b"other"
            assert await client.call("slow", b"after") == b"after"
            assert client.statistics().connections == 1
            assert server.statistics().in_progress == 0

    run(work)


def test_a_pool_hears_of_it_as_the_error_of_that_call() -> None:
    async def work() -> None:
        registry = MemoryRegistry("odd")
        handlers = {"plain": plain(GeneratorExit), "soon": soon(SystemExit), "slow": slow}
        async with (
            await cluster.serve(handlers, TCP, name="s", registry=registry),
            await cluster.connect("s", registry=registry, timeout_ms=10_000) as pool,
        ):
            neighbour = pool.call("slow", b"other")
            for name in ("plain", "soon"):
                with pytest.raises(RemoteError):
                    await pool.call(name)
            assert await neighbour == b"other"

    run(work)


@rpc.service
class Typed:
    def plain(self, kind: str) -> int:
        raise {each.__name__: each for each in ENDS}[kind]("odd")

    async def soon(self, kind: str) -> int:
        raise {each.__name__: each for each in ENDS}[kind]("odd")


def test_a_typed_service_too() -> None:
    async def work() -> None:
        async with (
            await rpc.serve(Typed(), TCP) as server,
            await rpc.connect(server.address) as client,
        ):
            typed = client.service(Typed)
            for kind in ENDS:
                for method in (typed.plain, typed.soon):
                    with pytest.raises(RemoteError, match=kind.__name__):
                        await method(kind.__name__)
            assert client.statistics().connections == 1

    run(work)


@dubbo.service("com.example.Odd")
class Odd:
    def plain(self, kind: str) -> int:
        raise {each.__name__: each for each in ENDS}[kind]("odd")

    async def soon(self, kind: str) -> int:
        raise {each.__name__: each for each in ENDS}[kind]("odd")

    async def later(self, kind: str) -> int:
        await asyncio.sleep(0.001)
        raise {each.__name__: each for each in ENDS}[kind]("odd")

    async def well(self, text: str) -> str:
        await asyncio.sleep(0.05)
        return text


@pytest.mark.parametrize("threads", [0, 2])
def test_a_dubbo_service_answers_with_an_exception(threads: int) -> None:
    async def work() -> None:
        async with (
            await dubbo.serve(Odd(), 0, threads=threads) as server,
            dubbo.Client(f"dubbo://127.0.0.1:{server.address.port}", timeout_ms=10_000) as client,
        ):
            odd = client.service(Odd)
            neighbour = asyncio.ensure_future(odd.well("other"))
            for kind in ENDS:
                method: Callable[[str], Awaitable[int]]
                for method in (odd.plain, odd.soon, odd.later):  # type: ignore[assignment]
                    with pytest.raises(JavaError):
                        await method(kind.__name__)
            assert await neighbour == "other"
            assert server.statistics().connections == 1
            assert server.statistics().in_progress == 0

    run(work)


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError])
def test_a_callback_that_raises_what_is_no_error_harms_no_other_call(
    kind: type[BaseException],
) -> None:
    async def work() -> None:
        seen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: seen.append(what))

        def odd(reply: bytes | None, error: DragomanError | None) -> None:
            raise kind("odd")

        async with (
            await rpc.serve({"slow": slow}, TCP) as server,
            await rpc.connect(server.address) as client,
            await cluster.connect("s", endpoints=[server.address]) as pool,
        ):
            for each in (client, pool):
                neighbour = each.call("slow", b"other")
                each.call_soon("slow", b"1", odd)
                each.call_soon("nope", b"1", odd)
                assert await neighbour == b"other"
            assert server.statistics().connections == 2
        assert [type(what["exception"]) for what in seen] == [kind] * 4

    run(work)


@pytest.mark.parametrize("kind", [GeneratorExit, SystemExit, KeyboardInterrupt])
def test_a_callback_of_a_blocking_clients_future_leaves_its_thread_alone(
    kind: type[BaseException],
) -> None:
    def odd(future: Any) -> None:
        raise kind("odd")

    async def work() -> None:
        async with await rpc.serve({"slow": slow}, TCP) as server:

            def use() -> None:
                with rpc.connect_sync(server.address) as client:
                    future = client.call_future("slow", b"1")
                    future.add_done_callback(odd)
                    assert client.call("slow", b"2") == b"2"
                    assert future.result(10) == b"1"
                    assert client.call("slow", b"3") == b"3"
                    assert client.statistics().connections == 1

            await asyncio.to_thread(use)

    run(work)


def test_a_cancelled_call_whose_task_had_not_begun_leaves_no_coroutine_unawaited(
    recwarn: pytest.WarningsRecorder,
) -> None:
    async def work() -> None:
        async with (
            await rpc.serve({"slow": slow}, TCP) as server,
            await rpc.connect(server.address) as client,
        ):
            calls = [client.call("slow", b"%d" % n, timeout_ms=1) for n in range(300)]
            await asyncio.gather(*calls, return_exceptions=True)

    run(work)
    assert [str(each.message) for each in recwarn] == []
