"""A service with classes of its own, and a client of the SDK before a server that has it."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dragoman import dubbo
from dragoman.dubbo.types import java

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
