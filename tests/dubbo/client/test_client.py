"""The SDK's client before the SDK's server over real sockets: options, deadlines, closing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from dragoman import dubbo
from dragoman.registry.memory import MemoryRegistry
from tests.dubbo.client.shop import NOW, SHOP, Order, OutOfStock, Shop, reference, run


def test_attachments_go_and_come() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Shop, attachments={"trace": "7"})
        assert await stub.trace() == "7"
        result = await dubbo.invoke(stub.trace)
        assert (result.value, result.attachments) == ("7", {"seen": "yes"})
        other = dubbo.with_options(stub, attachments={"trace": "8"})
        assert await other.trace() == "8"
        assert await reference(client).trace(attachments={"trace": "9"}) == "9"
        result = await dubbo.invoke(reference(client).trace)
        assert (result.value, result.attachments) == (None, {"seen": "yes"})
        with pytest.raises(dubbo.UsageError, match="attachments: expected text"):
            await reference(client).trace(attachments={"trace": 9})

    run(test)


def test_a_one_way_call_runs_and_nobody_hears_of_it() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Shop)
        assert await dubbo.send(stub.note, "a") is None
        await dubbo.send(stub.missing, "tea")
        assert await stub.say_hello("x") == "hello x"
        assert shop.sent == ["a"]

    run(test)


def test_a_call_that_takes_too_long_ends_at_its_deadline_and_its_task_is_cancelled() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Shop, timeout_ms=50)
        with pytest.raises(dubbo.DeadlineError) as caught:
            await stub.nap(10.0)
        assert not caught.value.retry_safe
        assert await dubbo.with_options(stub, timeout_ms=2000).nap(0.1) == "slept"
        assert await reference(client).nap(0.1, timeout_ms=None) == "slept"
        assert server.statistics().late == 1

    run(test)


def test_a_cancelled_call_is_withdrawn() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Shop)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await stub.nap(1.5)
        assert await stub.say_hello("x") == "hello x"
        async with asyncio.timeout(30):
            while client.statistics(stub).calls:
                await asyncio.sleep(0.005)
        # Not because it has ended: the provider is still at it.
        assert server.statistics().in_progress == 1
        async with asyncio.timeout(30):
            while server.statistics().in_progress:
                await asyncio.sleep(0.01)

    run(test)


def test_no_service_is_all_services() -> None:
    async def scenario() -> None:
        async with dubbo.Client("dubbo://127.0.0.1:1") as client:
            with pytest.raises(dubbo.UsageError, match=r"interface '\*': expected one"):
                await client.service("*").hash("x", timeout_ms=50)

    asyncio.run(scenario())
    with pytest.raises(dubbo.UsageError, match=r"interface '\*': expected one"):

        @dubbo.service("*")
        class All:
            async def hash(self, text: str) -> int:
                return len(text)


def test_what_is_not_served_is_not_found() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        with pytest.raises(dubbo.NotFoundError, match="Not found exported service"):
            await client.service(SHOP).same(1)
        with pytest.raises(dubbo.RemoteError, match="Not found method"):
            await reference(client).nothing_of_the_kind()

    run(test)


def test_echo_is_answered_by_every_provider() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        assert await client.echo(client.service(Shop)) == "ok"
        await client.ready(client.service(Shop))
        assert await client.echo(reference(client), ["x", 1]) == ["x", 1]

    run(test)


def test_without_a_provider_a_call_fails_soon_or_waits_as_it_was_told() -> None:
    async def main() -> None:
        async with await dubbo.serve(Shop(), 0) as server:
            address = server.address
        async with dubbo.Client(f"dubbo://{address}") as client:
            stub = client.service(Shop)
            with pytest.raises(dubbo.UnavailableError, match="can be reached"):
                await stub.say_hello("x")
            with pytest.raises(dubbo.UnavailableError, match="0 servers"):
                await client.ready(stub, timeout_ms=50)
        async with dubbo.Client(f"dubbo://{address}", on_full="wait") as client:
            call = client.service(Shop).say_hello("x")
            await asyncio.sleep(0.05)
            async with await dubbo.serve(Shop(), address.port):
                assert await call == "hello x"

    asyncio.run(main())


def test_a_registry_that_is_closed_is_told_of_each_time_that_a_service_is_asked_for() -> None:
    async def main() -> None:
        registry = MemoryRegistry("closed")
        client = dubbo.Client(registry)
        await registry.close()
        for _ in range(2):
            with pytest.raises(dubbo.RegistryError, match="closed"):
                client.service(SHOP)
        await client.close()

    asyncio.run(main())


def test_a_client_that_is_closed_makes_no_calls() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Shop)
        waiting = stub.nap(0.1)
        await asyncio.sleep(0.05)
        await client.close()
        assert await waiting == "slept"
        with pytest.raises(dubbo.UnavailableError):
            await stub.say_hello("x")
        with pytest.raises(dubbo.UsageError, match="closed"):
            client.service(SHOP)

    run(test)


@pytest.mark.parametrize(
    "source",
    ["dubbo://", "dubbo://nowhere", "dubbo://h:1?limit=x", "dubbo://h:1?colour=red", "ftp://h:1"],
)
def test_a_source_that_is_none_is_refused(source: str) -> None:
    async def main() -> None:
        with pytest.raises(dubbo.UsageError):
            dubbo.Client(source)

    asyncio.run(main())


def test_the_synchronous_client_does_the_same_from_any_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    async def main() -> None:
        shop = Shop()
        async with await dubbo.serve(shop, 0) as server:
            await asyncio.to_thread(blocking, f"dubbo://{server.address}")
            assert shop.sent == ["a"]

    def blocking(source: str) -> None:
        with dubbo.connect_sync(source, timeout_ms=2000) as client:
            stub: Any = client.service(Shop)
            client.ready(stub)
            assert stub.say_hello("Ann") == "hello Ann"
            assert stub.order(Order(1, [], NOW)).order_id == 2
            plain = client.service(SHOP, version="1.0", group="blue")
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(plain.same, range(200)))
            assert answers == list(range(200))
            with pytest.raises(OutOfStock):
                stub.missing("tea")
            with pytest.raises(dubbo.DeadlineError):
                dubbo.with_options(stub, timeout_ms=30).nap(5.0)
            with pytest.raises(dubbo.UsageError, match="no double"):
                stub.nap("x")
            assert dubbo.invoke(stub.trace).attachments == {"seen": "yes"}
            dubbo.send(stub.note, "a")
            assert client.echo(stub) == "ok"
            assert client.statistics(stub).calls == 0
        with pytest.raises(dubbo.LinkLostError, match="closed"):
            stub.say_hello("x")
        with pytest.raises(dubbo.UsageError):
            dubbo.connect_sync("ftp://x")

    asyncio.run(main())


def test_closing_a_synchronous_client_ends_what_other_threads_wait_for() -> None:
    client = dubbo.connect_sync("dubbo://127.0.0.1:1")
    service = client.service("com.example.Nowhere")
    ends: list[str] = []

    def wait(work: Callable[[], object]) -> None:
        try:
            work()
        except (dubbo.UsageError, dubbo.UnavailableError) as error:
            ends.append(str(error))

    works = [
        lambda: client.ready(service, timeout_ms=3_600_000),
        lambda: client.ready("com.example.Elsewhere", timeout_ms=3_600_000),
    ]
    threads = [threading.Thread(target=wait, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while str(asyncio.all_tasks(client._core.loop)).count(" running at ") < 2:
        assert time.monotonic() < until
        time.sleep(0.002)
    client.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    # Of its pool, or of itself.
    assert all("is closed" in end for end in ends), ends
    assert len(ends) == 2
    with pytest.raises(dubbo.UsageError, match="the client is closed"):
        client.ready(service)


def test_closing_a_client_ends_the_waiting_for_providers() -> None:
    async def work() -> None:
        client = dubbo.Client("dubbo://127.0.0.1:1")
        ready = asyncio.create_task(client.ready("com.example.Nowhere", timeout_ms=3_600_000))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(dubbo.UnavailableError, match="is closed here"):
            await asyncio.wait_for(ready, 60)

    uvloop.run(work())
