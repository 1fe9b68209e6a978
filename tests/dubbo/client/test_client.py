"""The SDK's client before the SDK's server over real sockets: values, types, options, errors."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import pytest
import uvloop

from dragoman import dubbo
from dragoman.dubbo.types import java
from dragoman.registry.memory import MemoryRegistry

SHOP = "com.example.Shop"


@dubbo.bean("com.example.Size")
class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


@dubbo.bean("com.example.Item", names={"unit_price": "unitPrice"})
@dataclass
class Item:
    name: str
    unit_price: decimal.Decimal
    size: Size = Size.SMALL
    tags: set[str] = field(default_factory=set)


@dubbo.bean("com.example.Order")
class Order(msgspec.Struct, rename="camel"):
    order_id: java.long
    items: list[Item]
    ordered_at: datetime.datetime
    notes: dict[str, str] | None = None
    parent: Order | None = None


class OutOfStock(dubbo.JavaError):
    java_class = "com.example.OutOfStockException"


@dubbo.service(SHOP, version="1.0", group="blue", errors=[OutOfStock])
class Shop:
    def __init__(self) -> None:
        self.sent: list[str] = []

    async def same(self, value: Any) -> Any:
        return value

    async def order(self, order: Order) -> Order:
        order.order_id += 1
        return order

    async def total(self, items: list[Item], discount: float = 0.0) -> decimal.Decimal:
        total = sum((item.unit_price for item in items), decimal.Decimal(0))
        return total * (1 - decimal.Decimal(discount))

    async def longs(self, values: list[java.long]) -> dict[str, java.long]:
        return {str(value): value for value in values}

    async def missing(self, name: str) -> None:
        raise OutOfStock(f"no {name}", fields={"left": 0})

    async def trace(self) -> str | None:
        request = dubbo.current_request()
        request.reply_attachments["seen"] = "yes"
        return request.attachments.get("trace")

    async def note(self, text: str) -> None:
        self.sent.append(text)

    async def nap(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    @dubbo.method("sayHello")
    def say_hello(self, name: str | None) -> str:
        return f"hello {name}"


Test = Callable[[dubbo.Client, dubbo.Server, Shop], Awaitable[None]]


def run(test: Test, **options: Any) -> None:
    """Run ``test`` with a client of a server of ``Shop``; all is at rest at its end."""

    async def main() -> None:
        shop = Shop()
        async with await dubbo.serve(shop, 0) as server:
            async with dubbo.Client(f"dubbo://{server.address}", **options) as client:
                await test(client, server, shop)
            assert server.statistics().in_progress == 0

    asyncio.run(main())


def reference(client: dubbo.Client, **options: Any) -> dubbo.Reference:
    return client.service(SHOP, version="1.0", group="blue", **options)


NOW = datetime.datetime(2026, 11, 21, 9, 30, 0, 123000, tzinfo=datetime.UTC)
VALUES = [
    None,
    True,
    0,
    -1,
    2**31,
    -(2**63),
    2**70,
    0.0,
    1.5,
    -2.25e300,
    "",
    "abc",
    "grüß dich, 世界 🎈",
    "x" * 100_000,
    b"",
    b"\x00\xff" * 50_000,
    NOW,
    datetime.date(2026, 2, 28),
    datetime.time(23, 59, 1),
    datetime.datetime(2026, 1, 1, 12, 0),
    datetime.timedelta(days=1, seconds=5),
    decimal.Decimal("12345678901234567890.123"),
    uuid.UUID(int=7),
    [],
    [1, "two", None, [3.0]],
    {},
    {"a": 1, "b": {"c": [True]}},
    {1: "one"},
    dubbo.Bean("com.example.Anything", x=1, y=[dubbo.Bean("com.example.Anything", x=2, y=None)]),
    dubbo.enum("com.example.Size", "LARGE"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_values_come_back_as_they_went(value: Any) -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        back = await reference(client).same(value)
        assert back == value
        assert type(back) is type(value)

    run(test)


def test_a_declared_service_takes_and_gives_classes() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Shop)
        item = Item("tea", decimal.Decimal("2.50"), Size.LARGE, {"hot", "green"})
        inner = Order(1, [], NOW)
        order = Order(41, [item, Item("cup", decimal.Decimal(3))], NOW, {"a": "b"}, inner)
        answer = await stub.order(order)
        assert answer == Order(42, order.items, NOW, {"a": "b"}, inner)
        assert await stub.total([item, item]) == decimal.Decimal("5.00")
        assert await stub.total([item, item], 0.5) == decimal.Decimal("2.50")
        assert await stub.total(discount=0.5, items=[item]) == decimal.Decimal("1.25")
        assert await stub.longs([1, 2**40]) == {"1": 1, str(2**40): 2**40}
        assert await stub.say_hello("Ann") == "hello Ann"
        assert await stub.say_hello(None) == "hello None"

    run(test)


def test_a_reference_gives_beans_and_takes_classes_beans_and_named_types() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        shop_reference = reference(client)
        order = Order(1, [Item("tea", decimal.Decimal("2.50"))], NOW)
        answer = await shop_reference.order(order)
        assert answer.java_class == "com.example.Order"
        assert (answer["orderId"], answer["items"][0]["unitPrice"]) == (2, decimal.Decimal("2.50"))
        assert (await shop_reference.order(answer))["orderId"] == 3
        plain = dict(answer)
        assert (await shop_reference.order(plain, types=["com.example.Order"]))["orderId"] == 3
        say_hello = shop_reference.method("sayHello", ["java.lang.String"])
        assert await say_hello(None) == "hello None"
        assert await shop_reference.sayHello("x", types="Ljava/lang/String;") == "hello x"

    run(test)


def test_a_generic_call_takes_and_gives_plain_mappings() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        generic = reference(client, generic=True)
        item = {"name": "tea", "unitPrice": decimal.Decimal("2.5"), "size": "LARGE", "tags": []}
        order = {"orderId": 1, "items": [item], "orderedAt": NOW}
        answer = await generic.order(order, types=["com.example.Order"])
        assert type(answer) is dict
        assert (answer["class"], answer["orderId"]) == ("com.example.Order", 2)
        assert answer["items"][0]["size"] == "LARGE"
        assert await generic.sayHello("Ann") == "hello Ann"
        typed = dubbo.with_options(client.service(Shop), generic=True)
        assert (await typed.order(Order(1, [], NOW))).order_id == 2
        with pytest.raises(dubbo.JavaError) as caught:
            await generic.missing("tea")
        assert caught.value.java_class == "com.example.OutOfStockException"
        assert str(caught.value) == "no tea"

    run(test)


def test_an_exception_is_one_of_its_declared_class_with_its_fields() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        with pytest.raises(OutOfStock, match="no tea") as caught:
            await client.service(Shop).missing("tea")
        assert caught.value.fields["left"] == 0
        assert not caught.value.retry_safe
        with pytest.raises(dubbo.JavaError, match="no tea") as undeclared:
            await reference(client).missing("tea")
        assert type(undeclared.value) is dubbo.JavaError
        assert undeclared.value.java_class == "com.example.OutOfStockException"

    run(test)


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


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda stub: stub.nap("x"), "Shop.nap: argument 1, 'seconds': 'x' is no double"),
        (lambda stub: stub.nap(), "no argument for 'seconds'"),
        (lambda stub: stub.nap(1.0, 2.0), "at most 1 arguments, not 2"),
        (lambda stub: stub.nap(1.0, seconds=2.0), "two values for parameter 'seconds'"),
        (lambda stub: stub.nap(hours=1), "no parameter 'hours'"),
        (lambda stub: stub.longs([1, 2**70]), r"does not fit Java's long in \[1\]"),
        (lambda stub: stub.order(3), "argument 1, 'order': expected Order, got int"),
        (
            lambda stub: stub.order(Order(1, [Item(1, 2, 3)], NOW)),  # type: ignore[arg-type]
            "expected Size, got int in .items",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_their_place(
    call: Callable[[Any], Awaitable[Any]], said: str
) -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        with pytest.raises(dubbo.UsageError, match=said):
            await call(client.service(Shop))
        assert await client.service(Shop).say_hello("x") == "hello x"

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


def test_arguments_without_a_java_type_are_refused() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        for wrong in (object(), 1 + 2j, enum.Enum("Own", "A").A):  # type: ignore[attr-defined]
            with pytest.raises(dubbo.UsageError):
                await reference(client).same(wrong)
        with pytest.raises(dubbo.UsageError, match="is no Java type"):
            await reference(client).same(1, types=["no type at all"])
        with pytest.raises(dubbo.UsageError, match="2 types for 1 arguments"):
            await reference(client).same(1, types=["int", "int"])
        with pytest.raises(dubbo.UsageError, match="no option 'wait'"):
            await reference(client).same(1, wait=True)
        assert await reference(client).same(1) == 1

    run(test)


def test_a_reply_that_does_not_fit_its_annotation_is_the_providers_fault() -> None:
    @dubbo.service(SHOP, version="1.0", group="blue")
    class Other(Protocol):
        @dubbo.method("sayHello")
        async def say_hello(self, name: str) -> int: ...

        async def order(self, order: Order) -> list[Item]: ...

    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        stub = client.service(Other)
        with pytest.raises(dubbo.ProtocolError, match="sayHello: result: expected int, got str"):
            await stub.say_hello("x")
        with pytest.raises(dubbo.ProtocolError, match=r"expected list, got com\.example\.Order"):
            await stub.order(Order(1, [], NOW))

    run(test)


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


def test_deep_values_are_refused_by_their_own_call() -> None:
    async def test(client: dubbo.Client, server: dubbo.Server, shop: Shop) -> None:
        deep: Any = None
        for _ in range(1000):
            deep = [deep]
        with pytest.raises(dubbo.UsageError, match="nested deeper"):
            await reference(client).same(deep)
        cycle: list[Any] = []
        cycle.append(cycle)
        back = await reference(client).same(cycle)
        assert back[0] is back

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
