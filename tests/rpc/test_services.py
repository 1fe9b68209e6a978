"""Typed services over real sockets: served, called, and what their errors are."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
import uvloop

from dragoman import rpc
from dragoman.errors import Code
from tests.rpc.typed_services import Account, Accounts, Line, NoSuchAccount, Orders, served


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
