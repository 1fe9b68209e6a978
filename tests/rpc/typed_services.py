"""Services with types that tests serve and call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from dragoman import rpc


class Line(msgspec.Struct):
    article: str
    count: int
    prices: list[float] = []


@dataclass
class Account:
    name: str
    balance: int
    tags: tuple[str, ...] = ()


class NoSuchAccount(rpc.RemoteError):
    code = 1404


class Boom(Exception):
    pass


@rpc.service(errors=[NoSuchAccount])
class Accounts:
    def __init__(self) -> None:
        self.accounts: dict[str, int] = {"x": 5}

    async def balance(self, account: str) -> int:
        await asyncio.sleep(0)
        try:
            return self.accounts[account]
        except KeyError:
            raise NoSuchAccount(f"no account {account}") from None

    def open(self, account: str, first: int = 0, *, tags: tuple[str, ...] = ()) -> Account:
        self.accounts[account] = first
        return Account(account, first, tags)

    def total(self, line: Line, factor: float = 1.0, rounded: bool = False) -> float:
        total = line.count * sum(line.prices) * factor
        return round(total) if rounded else total

    def only(self, a: int, /, b: int = 2, *, c: int) -> list[int]:
        return [a, b, c]

    def nothing(self) -> None:
        pass

    def own_code(self) -> None:
        raise rpc.RemoteError("not on Sundays", code=1777)

    def boom(self) -> None:
        raise Boom("inside")

    def lies(self) -> int:
        return "seven"  # type: ignore[return-value]

    def unsendable(self) -> Any:
        return object()

    async def unsendable_later(self) -> Any:
        return object()

    def deferred(self) -> Any:
        return self.balance("x")

    async def slow(self) -> int:
        await asyncio.sleep(30)
        return 0

    def age(self, years: Annotated[int, msgspec.Meta(ge=0, le=150)]) -> int:
        return years

    def anything(self, value: Any) -> Any:
        return value

    @staticmethod
    def static(a: int) -> int:
        return a + 1

    @classmethod
    def of_class(cls, a: int) -> str:
        return f"{cls.__name__}{a}"

    def _private(self) -> int:
        return 1


@rpc.service("com.example.Orders")
class Orders:
    async def place(self, lines: list[Line]) -> int:
        return sum(line.count for line in lines)


@asynccontextmanager
async def served(
    handler: Any, address: str = "127.0.0.1:0", **options: Any
) -> AsyncIterator[rpc.Client]:
    async with (
        await rpc.serve(handler, address, **options) as server,
        await rpc.connect(server.address, timeout_ms=5000) as client,
    ):
        yield client


def rpc_functions(handler: Any) -> dict[str, Callable[[bytes], Any]]:
    """What ``rpc.serve`` makes of a service."""
    from dragoman.rpc.service import functions_of

    functions = functions_of(handler)
    assert isinstance(functions, dict)
    return functions
