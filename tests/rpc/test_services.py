"""Typed services over real sockets: declaring, serving, calling, and what is wrong."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import pytest
import uvloop

from dragoman import rpc
from dragoman.errors import Code


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


def test_arguments_and_results_keep_their_types_over_tcp_and_unix_sockets(tmp_path: Path) -> None:
    async def main(address: str) -> None:
        async with served(Accounts(), address) as client:
            accounts = client.service(Accounts)
            assert await accounts.balance("x") == 5
            opened: Any = accounts.open("y", 7, tags=("a", "b"))
            assert await opened == Account("y", 7, ("a", "b"))
            total: Any = accounts.total
            assert await total(Line("nut", 2, [1.5, 2.0])) == 7.0
            assert await total(Line("nut", 2, [1.5]), 10) == 30.0
            assert await total(rounded=True, line=Line("nut", 1, [1.4])) == 1
            nothing: Any = accounts.nothing()
            assert await nothing is None
            rest: Any = accounts
            assert await rest.only(1, c=3) == [1, 2, 3]
            assert await rest.only(1, 5, c=3) == [1, 5, 3]
            assert await rest.only(1, c=4, b=9) == [1, 9, 4]
            assert await rest.static(1) == 2
            assert await rest.of_class(1) == "Accounts1"
            assert await rest.deferred() == 5
            assert await rest.anything({"a": [1, b"x"]}) == {"a": [1, b"x"]}

    uvloop.run(main("127.0.0.1:0"))
    uvloop.run(main(f"unix:{tmp_path}/s"))


def test_many_services_and_plain_functions_share_a_server() -> None:
    async def main() -> None:
        async with served([Accounts(), Orders(), {"echo": lambda body: body}]) as client:
            assert await client.service(Accounts).balance("x") == 5
            assert await client.service(Orders).place([Line("nut", 2), Line("fig", 3)]) == 5
            assert await client.call("echo", b"plain") == b"plain"
            assert await client.call("com.example.Orders.place", b"\x91\x90") == b"\x00"

    uvloop.run(main())


def test_a_protocol_declares_a_service_for_its_callers() -> None:
    class Balances(Protocol):
        async def balance(self, account: str) -> int: ...
        async def missing(self) -> None: ...

    Balances.__name__ = "Accounts"

    async def main() -> None:
        async with served(Accounts()) as client:
            balances = client.service(Balances)
            assert await balances.balance("x") == 5
            with pytest.raises(rpc.NotFoundError, match="no such method"):
                await balances.missing()

    uvloop.run(main())


@rpc.service("Greeter")
class Greeter(Protocol):
    async def greet(self, name: str) -> str: ...


class Polite(Greeter):
    async def greet(self, name: str) -> str:
        return f"Good day, {name}"

    def not_declared(self) -> int:
        return 1


def test_an_object_serves_what_its_base_declares_and_nothing_else() -> None:
    async def main() -> None:
        async with served(Polite()) as client:
            assert await client.service(Greeter).greet("Ada") == "Good day, Ada"
            with pytest.raises(AttributeError, match="Greeter has no method 'not_declared'"):
                client.service(Greeter).not_declared  # type: ignore[attr-defined]  # noqa: B018
            for name in ("Greeter.not_declared", "Greeter._private", "Greeter.__init__", "greet"):
                with pytest.raises(rpc.NotFoundError):
                    await client.call(name, b"\x90")

    uvloop.run(main())


def test_a_methods_errors_arrive_with_message_and_code() -> None:
    async def main() -> None:
        async with served(Accounts()) as client:
            accounts: Any = client.service(Accounts)
            with pytest.raises(NoSuchAccount, match="no account nobody") as caught:
                await accounts.balance("nobody")
            assert caught.value.code == 1404
            assert caught.value.endpoint == client.endpoint
            with pytest.raises(rpc.RemoteError, match="not on Sundays") as own:
                await accounts.own_code()
            assert (own.value.code, type(own.value)) == (1777, rpc.RemoteError)
            with pytest.raises(rpc.RemoteError, match=r"^Boom: inside$") as other:
                await accounts.boom()
            assert other.value.code == Code.REMOTE
            # Whoever calls without the declaration gets the code.
            with pytest.raises(rpc.RemoteError, match="no account") as plain:
                await client.call("Accounts.balance", b"\x91\xa1z")
            assert (plain.value.code, type(plain.value)) == (1404, rpc.RemoteError)

    uvloop.run(main())


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


def rpc_functions(handler: Any) -> dict[str, Callable[[bytes], Any]]:
    """What ``rpc.serve`` makes of a service."""
    from dragoman.rpc.service import functions_of

    functions = functions_of(handler)
    assert isinstance(functions, dict)
    return functions


def test_results_that_do_not_fit_are_errors_of_the_service() -> None:
    async def main() -> None:
        async with served(Accounts()) as client:
            accounts: Any = client.service(Accounts)
            with pytest.raises(rpc.ProtocolError, match="lies: result: expected int, got str"):
                await accounts.lies()
            for name in ("unsendable", "unsendable_later"):
                with pytest.raises(rpc.RemoteError, match=f"{name}: a result that cannot be sent"):
                    await getattr(accounts, name)()

    uvloop.run(main())


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


def test_options_apply_to_the_calls_of_a_stub() -> None:
    @rpc.service
    class Told:
        def left_ms(self) -> int | None:
            return rpc.current_request().timeout_ms

    async def main() -> None:
        async with served([Told(), Accounts()]) as client:
            told = client.service(Told)
            quick: Any = rpc.with_options(told, timeout_ms=700)
            assert 600 < await quick.left_ms() <= 700
            unbounded: Any = client.service(Told, timeout_ms=None)
            assert await unbounded.left_ms() is None
            ordered = quick.with_options(order_key="k")
            assert 600 < await ordered.left_ms() <= 700
            accounts = rpc.with_options(client.service(Accounts), timeout_ms=20)
            with pytest.raises(rpc.DeadlineError):
                await accounts.slow()
            with pytest.raises(rpc.UsageError, match="order_key"):
                await quick.with_options(order_key="").left_ms()
            with pytest.raises(rpc.UsageError, match="with_options: expected what"):
                rpc.with_options(Accounts(), timeout_ms=5)

    uvloop.run(main())


def test_calls_with_one_order_key_run_in_their_order() -> None:
    @rpc.service
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        async def add(self, number: int) -> None:
            await asyncio.sleep(0.002 if number % 2 else 0)
            self.seen.append(number)

    async def main() -> None:
        log = Log()
        async with served(log) as client:
            ordered = client.service(Log, order_key="k")
            await asyncio.gather(*(ordered.add(n) for n in range(50)))
        assert log.seen == list(range(50))

    uvloop.run(main())


def test_plain_methods_of_a_service_may_block_on_threads() -> None:
    async def main() -> None:
        async with served(Accounts(), threads=2) as client:
            accounts: Any = client.service(Accounts)
            opened = await accounts.open("z", 3)
            assert opened == Account("z", 3)
            assert await accounts.balance("z") == 3
            with pytest.raises(rpc.UsageError, match="argument 1, 'account'"):
                await accounts.open(1)

    uvloop.run(main())


def declare(**methods: Any) -> Callable[[], Any]:
    return lambda: rpc.service(type("Bad", (), methods))


def unannotated(self: Any, a) -> int:  # type: ignore[no-untyped-def]
    return 1


def no_result(self: Any, a: int):  # type: ignore[no-untyped-def]
    return 1


def any_number(self: Any, *args: int) -> int:
    return 1


def any_name(self: Any, **args: int) -> int:
    return 1


def strange(self: Any, when: Boom) -> int:
    return 1


def strange_within(self: Any, when: dict[str, list[Boom | None]]) -> int:
    return 1


def strange_result(self: Any) -> Callable[[], int]:
    return lambda: 1


def ambiguous(self: Any, a: list[int] | set[int]) -> int:
    return 1


def generator(self: Any) -> list[int]:
    yield 1  # type: ignore[misc]


async def streaming(self: Any) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (declare(f=unannotated), "Bad.f: parameter 'a' has no annotation"),
        (declare(f=no_result), "Bad.f: the result has no annotation"),
        (declare(f=any_number), "Bad.f: parameter *args: 'int' takes any number of arguments"),
        (declare(f=any_name), "Bad.f: parameter **args: 'int' takes any number of arguments"),
        (declare(f=strange), "Bad.f: parameter 'when': Boom cannot travel"),
        (declare(f=strange_within), "Bad.f: parameter 'when': Boom cannot travel"),
        (declare(f=strange_result), "Bad.f: result: Callable cannot travel"),
        (declare(f=ambiguous), "Bad.f: parameter 'a': Type unions may not contain more than one"),
        (declare(f=generator), "Bad.f: a generator cannot be served"),
        (declare(f=streaming), "Bad.f: a generator cannot be served"),
        (declare(with_options=strange), "Bad.with_options: the name is taken"),
        (declare(_f=strange), "Bad: a service without public methods"),
        (lambda: rpc.service(5), "service: expected a class or a name, not 5"),  # type: ignore[call-overload]
        (lambda: rpc.service(""), "service: expected a class or a name, not ''"),
        (lambda: rpc.service("x")(5), "service: expected a class, not 5"),  # type: ignore[type-var]
        (lambda: rpc.service(errors=[Boom]), "derived from RemoteError"),  # type: ignore[list-item]
        (lambda: rpc.service(errors=[rpc.RemoteError]), "has no code of its own"),
    ],
)
def test_what_cannot_be_served_is_said_when_it_is_declared(
    declaration: Callable[[], Any], message: str
) -> None:
    with pytest.raises(rpc.UsageError) as caught:
        made = declaration()
        if callable(made):
            made(Accounts)
    assert message in str(caught.value)


def test_annotations_may_name_what_is_defined_later() -> None:
    namespace: dict[str, Any] = {}
    source = """
from __future__ import annotations
from dragoman import rpc
import msgspec

@rpc.service
class Early:
    def f(self, a: Late) -> int:
        return a.x
"""
    exec(source, namespace)
    early = namespace["Early"]()
    with pytest.raises(rpc.UsageError, match="Early: an annotation: 'Late' is not defined"):
        rpc_functions(early)
    exec("class Late(msgspec.Struct):\n    x: int\n", namespace)
    assert rpc_functions(early)["Early.f"](b"\x91\x81\xa1x\x05") == b"\x05"


def test_handlers_that_are_no_services_are_refused() -> None:
    async def main() -> None:
        for handler, message in [
            (Accounts, "expected an object of Accounts, not the class"),
            (object(), "expected a mapping, a function, a service or a list of services"),
            ([Accounts(), Accounts()], "two methods named 'Accounts.balance'"),
            ([Accounts(), len], "expected services and mappings in the list"),
            ({"a": 5}, "expected names with functions, not 'a'"),
            ({5: len}, "expected names with functions, not 5"),
        ]:
            with pytest.raises(rpc.UsageError) as caught:
                await rpc.serve(handler, "127.0.0.1:0")
            assert message in str(caught.value)
        async with served(Accounts()) as client:
            with pytest.raises(rpc.UsageError, match="a service without public methods"):
                client.service(object)
            with pytest.raises(rpc.UsageError, match="expected a class that declares a service"):
                client.service(Accounts())  # type: ignore[arg-type]

    uvloop.run(main())


def test_a_stubs_methods_are_coroutine_functions_with_the_services_words() -> None:
    async def main() -> None:
        async with served(Accounts()) as client:
            accounts = client.service(Accounts)
            assert inspect.iscoroutinefunction(accounts.balance)
            assert accounts.balance.__name__ == "balance"
            task = asyncio.create_task(accounts.balance("x"))
            assert await task == 5
            assert "Accounts" in repr(accounts)
            slow = asyncio.create_task(accounts.slow())
            await asyncio.sleep(0.01)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

    uvloop.run(main())


def test_a_server_that_goes_ends_typed_calls_once_with_the_loss() -> None:
    async def main() -> None:
        server = await rpc.serve(Accounts(), "127.0.0.1:0")
        async with await rpc.connect(server.address, reconnect=False) as client:
            accounts = client.service(Accounts)
            calls = [asyncio.create_task(accounts.slow()) for _ in range(20)]
            while server.statistics().in_progress < 20:
                await asyncio.sleep(0.001)
            await server.close(drain_ms=0)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {rpc.LinkLostError}
            assert (client.calls, client.waiting) == (0, 0)

    uvloop.run(main())


def test_a_caller_without_the_declaration_finds_the_documented_bytes() -> None:
    """``docs/formats/services.md``."""

    @rpc.service("Wide")
    class Wide:
        def count(
            self,
            a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0,
            g: int = 0, h: int = 0, i: int = 0, j: int = 0, k: int = 0, m: int = 0,
            n: int = 0, o: int = 0, p: int = 0, q: int = 0, r: int = 0,
        ) -> int:  # fmt: skip
            return sum((a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q, r))

        def nothing(self) -> None:
            pass

    async def main() -> None:
        async with served([Wide(), Accounts()]) as client:
            assert await client.call("Wide.count", b"\x90") == b"\0"
            assert await client.call("Wide.count", b"\x9f" + b"\1" * 15) == b"\x0f"
            assert await client.call("Wide.count", b"\xdc\0\x11" + b"\1" * 17) == b"\x11"
            assert await client.call("Wide.count", b"\x82\xa1b\5\xa1r\2") == b"\7"
            assert await client.call("Wide.count", b"\xde\0\1\xa1b\5") == b"\5"
            assert await client.call("Wide.nothing", b"\x90") == b"\xc0"
            with pytest.raises(rpc.UsageError, match="expected 0 to 17 arguments, got 18"):
                await client.call("Wide.count", b"\xdc\0\x12" + b"\1" * 18)
            accounts: Any = client.service(Accounts)
            wide: Any = client.service(Wide)
            assert await wide.count(*range(17)) == sum(range(17))
            assert await wide.count(1, r=5) == 6
            # Fields that a Struct does not know are ignored.
            line = {"article": "x", "count": 2, "prices": [1.0], "colour": "red"}
            assert await accounts.anything(line) == line
            reply = await client.call("Accounts.total", msgspec.msgpack.encode([line]))
            assert msgspec.msgpack.decode(reply) == 2.0

    uvloop.run(main())
