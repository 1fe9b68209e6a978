"""Whatever an option of rpc, cluster or dubbo is given, its user hears of it by its name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import uvloop

from dragoman import cluster, dubbo, rpc
from dragoman.errors import DragomanError, UsageError
from dragoman.options import shown
from dragoman.registry import Registration, open_registry
from tests.cluster.pools import run
from tests.odd import ODD, check_said, misuse, options_of

TCP = "127.0.0.1:0"
ECHO = {"echo": lambda body: body}


@dubbo.service("com.example.Any")
class Service:
    async def echo(self, text: str) -> str:
        return text


def test_connect_and_serve_say_which_option_is_odd() -> None:
    async def work() -> None:
        async with await rpc.serve(ECHO, TCP) as server:
            usual = {"address": server.address, "connect_timeout_ms": 200}
            await misuse(rpc.connect, options_of(rpc.connect), usual)
            usual = {"handler": ECHO, "address": TCP}
            await misuse(rpc.serve, options_of(rpc.serve), usual)

    run(work, timeout_s=60)


def test_pools_and_their_servers_say_which_option_is_odd() -> None:
    async def work() -> None:
        registry = open_registry("memory://odd")
        async with await rpc.serve(ECHO, TCP) as server:
            usual = {"name": "s", "endpoints": [server.address], "connect_timeout_ms": 200}
            await misuse(cluster.connect, options_of(cluster.connect), usual)
        for own in ({"registry": registry}, {"registry": "memory://odd"}):
            usual = {"handler": ECHO, "address": TCP, "name": "s", "register_timeout_ms": 200}
            options = options_of(cluster.serve) + options_of(rpc.serve, "handler", "address")
            await misuse(cluster.serve, options, usual | own)

    run(work, timeout_s=60)


def test_clients_and_servers_of_dubbo_say_which_option_is_odd() -> None:
    async def work() -> None:
        registry = open_registry("memory://odd")
        usual: dict[str, Any] = {"source": "dubbo://127.0.0.1:1"}
        await misuse(dubbo.Client, options_of(dubbo.Client), usual, {"source": "registry"})
        usual = {"services": Service(), "port": 0, "registry": registry}
        await misuse(dubbo.serve, options_of(dubbo.serve), usual)

    run(work, timeout_s=60)


def test_clients_for_threads_say_which_option_is_odd() -> None:
    async def work() -> None:
        async with await rpc.serve(ECHO, TCP) as server:
            made_and_closed = partial(misuse, close=False)
            usual: dict[str, Any] = {"address": server.address, "connect_timeout_ms": 200}
            at = str(server.address)

            def closed_again(make: Callable[..., Any]) -> Callable[..., Any]:
                async def made(**options: Any) -> Any:
                    client = await asyncio.to_thread(make, **options)
                    await asyncio.to_thread(client.close)

                return made

            await made_and_closed(
                closed_again(rpc.connect_sync), options_of(rpc.connect_sync), usual
            )
            usual = {"name": "s", "endpoints": [at], "connect_timeout_ms": 200}
            await made_and_closed(
                closed_again(cluster.connect_sync), options_of(cluster.connect_sync), usual
            )
            usual = {"source": "dubbo://127.0.0.1:1"}
            also = {"source": "registry"}
            options = ["source", *options_of(dubbo.Client, "source")]
            await made_and_closed(closed_again(dubbo.connect_sync), options, usual, also)

    run(work, timeout_s=60)


CALLS: dict[str, dict[str, Any]] = {
    "call": {"method": "echo", "body": b"x"},
    "call_soon": {"method": "echo", "body": b"x", "callback": lambda reply, error: None},
    "call_many": {"method": "echo", "bodies": [b"x"]},
    "notify": {"method": "echo", "body": b"x"},
    "map": {"method": "echo", "bodies": [b"x"]},
    "service": {"declared": Service},
}


async def _misuse_calls(client: Any) -> None:
    for name, usual in CALLS.items():
        method = getattr(client, name)
        options = [*usual, "timeout_ms"]
        if name == "map":
            options.append("in_flight")
        else:
            options.append("order_key")
        for option in options:
            for value in ODD:
                try:
                    made = method(**{**usual, option: value})
                    if name == "map":
                        made = [reply async for reply in made]
                    elif name == "service":
                        await made.echo("x")
                    elif name in ("call", "call_many"):
                        await made
                except UsageError as error:
                    check_said(error, option, ["bodies", "expected a class", "body"])
                except DragomanError as error:
                    assert isinstance(value, str) or option == "timeout_ms", (option, error)
                except Exception as error:
                    pytest.fail(f"{name}({option}={shown(value)}): {error!r}")


def test_calls_say_which_argument_is_odd() -> None:
    async def work() -> None:
        handlers = {**ECHO, "Service.echo": lambda body: b"\xa1x"}
        async with await rpc.serve(handlers, TCP) as server:
            async with await rpc.connect(server.address) as client:
                await _misuse_calls(client)
            async with await cluster.connect("s", endpoints=[server.address]) as pool:
                await _misuse_calls(pool)

    run(work, timeout_s=60)


def test_calls_of_threads_say_which_argument_is_odd() -> None:
    def misuse_calls(client: Any) -> None:
        for name, usual in CALLS.items():
            if name in ("call_soon", "service"):
                continue
            for option in [*usual, "timeout_ms", "in_flight" if name == "map" else "order_key"]:
                for value in ODD:
                    try:
                        made = getattr(client, name)(**{**usual, option: value})
                        if name == "map":
                            list(made)
                    except UsageError as error:
                        check_said(error, option, ["bodies", "body"])
                    except DragomanError as error:
                        assert isinstance(value, str) or option == "timeout_ms", (option, error)
                    except Exception as error:
                        pytest.fail(f"{name}({option}={shown(value)}): {error!r}")

    async def work() -> None:
        async with await rpc.serve(ECHO, TCP) as server:

            def threads() -> None:
                with rpc.connect_sync(server.address) as client:
                    misuse_calls(client)
                with cluster.connect_sync("s", endpoints=[str(server.address)]) as pool:
                    misuse_calls(pool)

            await asyncio.to_thread(threads)

    run(work, timeout_s=60)


def test_what_a_client_of_dubbo_is_asked_says_which_argument_is_odd() -> None:
    asked = partial(misuse, close=False)

    async def work() -> None:
        async with (
            await dubbo.serve(Service(), 0) as server,
            dubbo.Client(f"dubbo://{server.address}") as client,
        ):
            options = options_of(client.service, "declared")
            await asked(client.service, options, {"declared": Service})
            await asked(client.service, ["declared"], {}, {"declared": "expected"})
            reference = client.service("com.example.Any")
            options = options_of(client.ready)
            usual = {"service": reference, "timeout_ms": 200}
            await asked(client.ready, options, usual, {"service": "expected"})
            usual = {"service": reference}
            await asked(client.methods, ["timeout_ms"], usual)
            for name in ("echo", "statistics", "methods"):
                said = {"service": "expected"}
                await asked(getattr(client, name), ["service"], {}, said)
            await asked(reference.method, ["name"], {}, {"name": "method"})
            for option in ("timeout_ms", "attachments", "generic", "types"):
                await asked(
                    lambda **options: reference.method("echo")("x", **options), [option], {}
                )
                if option != "types":
                    await asked(reference.with_options, [option], {})

    run(work, timeout_s=60)


@pytest.mark.parametrize("drain_ms", [None, "x", -1, float("nan"), b"x", True, 1 << 80])
def test_closing_says_so_of_an_odd_time_and_can_be_done_again(drain_ms: Any) -> None:
    async def work() -> None:
        registry = open_registry("memory://odd")
        for made in (
            server := await rpc.serve(ECHO, TCP),
            await rpc.connect(server.address, connect_timeout_ms=5000),
            await cluster.connect("s", endpoints=[server.address]),
            await cluster.serve(ECHO, TCP, name="s", registry=registry),
            dubbo.Client("dubbo://127.0.0.1:1"),
            await dubbo.serve(Service(), 0),
        ):
            with pytest.raises(UsageError, match="drain_ms: expected a number"):
                await made.close(drain_ms=drain_ms)  # type: ignore[attr-defined]
            if made is not server:
                await made.close()  # type: ignore[attr-defined]
        client = await asyncio.to_thread(rpc.connect_sync, server.address)
        with pytest.raises(UsageError, match="drain_ms: expected a number"):
            client.close(drain_ms=drain_ms)
        assert await asyncio.to_thread(client.call, "echo", b"x") == b"x"
        await asyncio.to_thread(client.close)
        await server.close()

    run(work)


@pytest.mark.parametrize("field", ["interface", "host", "port", "weight", "group", "zone"])
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_a_registration_says_which_field_is_odd(field: str, value: Any) -> None:
    try:
        Registration(**{"interface": "a", "host": "b", "port": 1, field: value})
    except UsageError as error:
        check_said(error, field)


def test_a_url_that_is_none_is_not_shown() -> None:
    for url in (b"etcd://me:secret@127.0.0.1", ["etcd://me:secret@127.0.0.1"]):
        for make in (
            open_registry,
            dubbo.Client,
            dubbo.connect_sync,
            lambda url: cluster.connect_sync("s", registry=url),
        ):
            with pytest.raises(UsageError) as raised:
                make(url)
            assert "secret" not in str(raised.value)


def test_options_of_declarations_are_looked_at() -> None:
    for odd in (None, 5, b"x", "", "\ud800", "a b", 1 << 20_000):
        for make in (
            lambda odd: dubbo.service(odd)(type("S", (), {"m": lambda self: None})),
            lambda odd: dubbo.service("a.B", version=odd)(type("S", (), {"m": lambda self: None})),
            lambda odd: dubbo.service("a.B", group=odd)(type("S", (), {"m": lambda self: None})),
            lambda odd: dubbo.service("a.B", errors=odd)(type("S", (), {"m": lambda self: None})),
            lambda odd: dubbo.method(odd)(lambda self: None),
            rpc.service,
            lambda odd: rpc.service("s", errors=odd)(Service),
        ):
            try:
                make(odd)
            except UsageError as error:
                assert "\n" not in str(error)


def test_a_context_that_is_none_is_named() -> None:
    async def work() -> None:
        for tls in (True, "cert.pem", ssl):
            with pytest.raises(UsageError, match="tls: expected an ssl"):
                await rpc.serve(ECHO, TCP, tls=tls)  # type: ignore[arg-type]

    run(work)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_a_client_that_speaks_tls_to_a_plain_server_says_so(runner: Callable[..., Any]) -> None:
    async def work() -> None:
        tls = ssl.create_default_context()
        async with await rpc.serve(ECHO, TCP) as server:
            for make in (
                lambda: rpc.connect(server.address, tls=tls),
                lambda: cluster.connect(
                    "s", endpoints=[server.address], tls=tls, connect_timeout_ms=500
                ),
            ):
                with pytest.raises(DragomanError, match="TLS: the other end speaks none"):
                    await make()

    runner(work())
