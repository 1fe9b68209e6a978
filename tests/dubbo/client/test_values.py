"""Values between the SDK's client and server: classes, beans, exceptions, and what does not fit."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest

from dragoman import dubbo
from tests.dubbo.client.shop import NOW, SHOP, Item, Order, OutOfStock, Shop, Size, reference, run

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
