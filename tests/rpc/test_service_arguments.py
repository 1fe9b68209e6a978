"""Arguments of typed services that do not fit: refused before a method runs, with their place."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import uvloop

from dragoman import rpc
from dragoman.errors import Code
from tests.rpc.typed_services import Accounts, Line, rpc_functions, served


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("balance", [5], "Accounts.balance: argument 1, 'account': expected str, got int"),
        ("open", ["a", "b"], "Accounts.open: argument 2, 'first': expected int, got str"),
        ("total", [["x"]], "argument 1, 'line': expected object, got array"),
        (
            "total",
            [{"article": "x", "count": 1, "prices": [1, "x"]}],
            "Accounts.total: argument 1, 'line': expected float, got str in line.prices[1]",
        ),
        ("total", [{"article": "x"}], "argument 1, 'line': object missing required field count"),
        ("age", [-1], "argument 1, 'years': expected int from 0 to 150"),
        ("balance", [], "Accounts.balance: expected 1 arguments, got 0"),
        ("open", ["a", 1, ["b"]], "Accounts.open: expected 1 to 2 arguments, got 3"),
        ("open", list("x" * 40), "Accounts.open: expected 1 to 2 arguments, got 40"),
        ("only", [1, 2], "Accounts.only: arguments: some are taken by name only"),
        (
            "open",
            {"account": "a", "tags": [1]},
            "argument 3, 'tags': expected str, got int in tags",
        ),
        ("open", {"account": "a", "colour": 1}, "arguments: object contains unknown field colour"),
        ("open", {"first": 1}, "arguments: object missing required field account"),
        ("nothing", "text", "Accounts.nothing: arguments: expected a MessagePack array or map"),
        ("nothing", None, "Accounts.nothing: arguments: expected a MessagePack array or map"),
        ("only", {"a": 1, "b": 2, "c": "x"}, "Accounts.only: argument 3, 'c': expected int"),
    ],
)
def test_a_wrong_argument_is_named_with_its_place(
    method: str, arguments: Any, message: str
) -> None:
    async def main() -> None:
        async with served(Accounts()) as client:
            with pytest.raises(rpc.UsageError) as caught:
                await client.call(f"Accounts.{method}", msgspec.msgpack.encode(arguments))
            assert message in str(caught.value)
            assert caught.value.code == Code.MALFORMED
            assert "Traceback" not in str(caught.value)
            assert "`" not in str(caught.value)

    uvloop.run(main())


def test_bytes_that_are_no_arguments_are_malformed_and_the_method_does_not_run() -> None:
    class Service:
        def f(self, a: int, b: list[Line], c: dict[str, int] | None = None) -> int:
            calls.append((a, b, c))
            return a

    calls: list[Any] = []
    rpc.service(Service)
    whole = msgspec.msgpack.encode((1, [Line("x", 2, [0.5])], {"k": 1}))
    by_name = msgspec.msgpack.encode({"a": 1, "b": [Line("x", 2)], "c": {"k": 1}})
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    bad = [body[:n] for body in (whole, by_name) for n in range(len(body))]
    bad += [body + b"\0" for body in (whole, by_name)]
    bad += [b"\x91" * 100_000, b"\x93\x01\x90" + b"\x81" * 100_000, b"\xc1", b"\xdc", b"\xdd\0"]
    (handler,) = rpc_functions(Service()).values()
    for body in bad:
        with pytest.raises(rpc.UsageError):
            handler(body)
    assert calls == []
    for _ in range(3000):
        body = bytearray(rng.choice((whole, by_name)))
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        calls.clear()
        try:
            handler(bytes(body))
        except rpc.UsageError:
            assert calls == []
        for a, b, c in calls:
            assert type(a) is int
            assert all(type(line) is Line for line in b)
            assert c is None or all(type(value) is int for value in c.values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.balance(), "Accounts.balance: no argument for 'account'"),
        (lambda a: a.balance("a", "b"), "at most 1 arguments by position, not 2"),
        (lambda a: a.balance("a", account="b"), "two values for parameter 'account'"),
        (lambda a: a.balance(name="b"), "Accounts.balance: no parameter 'name' by name"),
        (lambda a: a.only(a=1, c=2), "Accounts.only: no parameter 'a' by name"),
        (lambda a: a.only(1), "Accounts.only: no argument for 'c'"),
        (lambda a: a.anything(object()), "Accounts.anything: arguments that cannot be sent"),
        (lambda a: a.anything(1 << 70), "Accounts.anything: arguments that cannot be sent"),
    ],
)
def test_calls_that_cannot_be_made_fail_before_anything_is_sent(
    call: Callable[[Any], Any], message: str
) -> None:
    async def main() -> None:
        async with served(Accounts()) as client:
            with pytest.raises(rpc.UsageError) as caught:
                await call(client.service(Accounts))
            assert message in str(caught.value)
            assert client.statistics().sent == 0

    uvloop.run(main())
