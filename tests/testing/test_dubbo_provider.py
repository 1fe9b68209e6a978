"""The provider double: it speaks Dubbo, does what it is told, and knows what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dragoman import dubbo
from dragoman.registry.memory import MemoryRegistry
from dragoman.testing import DubboProvider, SimulatedLoop, answers, simulate
from dragoman.wire.dubbo.frame import encode_frame
from dragoman.wire.dubbo.invocation import encode_reply

HELLO = "com.example.Hello"


@dataclass
class User:
    name: str
    age: int = 0


dubbo.bean("com.example.User")(User)


@dubbo.service(HELLO, version="1.0", group="g")
class Hello:
    async def hash(self, text: str) -> int: ...
    async def find(self, user: User) -> User: ...
    async def forget(self, id: int, quietly: bool = False) -> None: ...


@asynccontextmanager
async def consumer(
    provider: DubboProvider, service: Any = HELLO, **options: Any
) -> AsyncIterator[Any]:
    async with dubbo.Client(provider.url, **options) as client:
        yield client.service(service)


def on_virtual_time(work: Callable[[SimulatedLoop], Awaitable[None]]) -> None:
    simulate(1, work)


def provider_of(service: Any = HELLO, **options: Any) -> DubboProvider:
    return DubboProvider(service, host="provider", port=20880, **options)


@pytest.mark.parametrize("serialization", ["hessian2", "fastjson", "fastjson2"])
def test_a_value_an_exception_and_what_a_callable_makes(serialization: str) -> None:
    async def main() -> None:
        async def slowly(text: str) -> list[str]:
            await asyncio.sleep(0)
            return [text, text]

        def fail(text: str) -> None:
            raise dubbo.JavaError(f"no {text}", java_class="com.example.No")

        methods = {"seven": 7, "twice": slowly, "len": len, "fail": fail}
        async with (
            DubboProvider(HELLO, methods, serializations=(serialization,)) as provider,
            consumer(provider) as hello,
        ):
            assert await hello.seven() == 7
            assert await hello.twice("ab") == ["ab", "ab"]
            assert await hello.len("abc") == 3
            with pytest.raises(dubbo.JavaError, match="no ab") as caught:
                await hello.fail("ab")
            assert caught.value.java_class == "com.example.No"
        assert [call.method for call in provider.calls] == ["seven", "twice", "len", "fail"]
        assert {call.serialization for call in provider.calls} == {serialization}
        (call,) = provider.calls_of("len")
        assert (call.arguments, call.types) == (("abc",), ("java.lang.String",))
        assert (call.interface, call.one_way, call.generic) == (HELLO, False, False)

    asyncio.run(main())


def test_answers_come_in_order_and_the_last_stays() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("next", 1, None, dubbo.JavaError("three"), 4)
            provider.answer("*", "anything")
            async with consumer(provider) as hello:
                assert await hello.next() == 1
                assert await hello.next() is None
                with pytest.raises(dubbo.JavaError, match="three"):
                    await hello.next()
                assert [await hello.next() for _ in range(3)] == [4, 4, 4]
                assert await hello.other() == "anything"
                provider.answer("next", 5)
                assert await hello.next() == 5

    on_virtual_time(work)


def test_delays_statuses_and_attachments() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            provider_of() as provider,
            consumer(provider, timeout_ms=60_000) as hello,
        ):
            provider.answer("slow", answers.After(30, answers.After(10, "at last")))
            before_s = loop.time()
            assert await hello.slow() == "at last"
            assert loop.time() - before_s == pytest.approx(40, abs=0.1)

            provider.answer("busy", answers.BUSY, "free")
            assert await hello.busy() == "free"
            assert len(provider.calls_of("busy")) == 2

            provider.answer("late", answers.TIMED_OUT)
            with pytest.raises(dubbo.DeadlineError, match="did not answer in time"):
                await hello.late()
            provider.answer("broken", answers.Refused(answers.Status.SERVICE_ERROR, "oh no"))
            with pytest.raises(dubbo.DragomanError, match="oh no"):
                await hello.broken()

            provider.answer("said", answers.Attached(lambda: 7, {"from": "here"}))
            result = await dubbo.invoke(hello.said)
            assert (result.value, result.attachments) == (7, {"from": "here"})

    on_virtual_time(work)


@pytest.mark.parametrize("fault", [answers.RESET, answers.CLOSE])
def test_a_connection_is_lost_and_the_next_one_serves(fault: answers.Answer) -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("hash", fault, 7)
            async with consumer(provider, on_full="wait") as hello:
                with pytest.raises(dubbo.LinkLostError) as caught:
                    await hello.hash("abc")
                assert not caught.value.retry_safe
                assert await hello.hash("abc") == 7
            assert provider.connected == 2
            assert [call.connection for call in provider.calls] == [1, 2]

    on_virtual_time(work)


def test_bytes_go_out_as_they_are() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            provider_of() as provider,
            consumer(provider, on_full="wait") as hello,
        ):
            provider.answer("hash", answers.Body(encode_reply(7)))
            assert await hello.hash("abc") == 7
            provider.answer("hash", answers.Body(b""))
            with pytest.raises(dubbo.ProtocolError):
                await hello.hash("abc")
            provider.answer("hash", answers.Raw(b"HTTP/1.1 400 Bad Request\r\n"))
            with pytest.raises(dubbo.ProtocolError, match="must begin with da bb"):
                await hello.hash("abc")
            frames = answers.OfCall(
                lambda call: answers.Raw(
                    encode_frame(call.id, encode_reply(8), serialization=2, status=20)
                )
            )
            provider.answer("hash", frames)
            assert await hello.hash("abc") == 8

    on_virtual_time(work)


def test_silence_ends_with_the_callers_time() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("hash", answers.SILENCE)
            async with consumer(provider, timeout_ms=3000) as hello:
                with pytest.raises(dubbo.DeadlineError):
                    await hello.hash("abc")

    on_virtual_time(work)


def test_a_silent_provider_holds_back_everything_until_it_speaks() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("hash", 7)
            async with consumer(provider, timeout_ms=60_000) as hello:
                assert await hello.hash("abc") == 7
                provider.fall_silent()
                call = asyncio.ensure_future(hello.hash("abc"))
                await provider.called("hash", 2)
                await asyncio.sleep(5)
                assert not call.done()
                provider.speak()
                assert await call == 7
                assert provider.connected == 1

    on_virtual_time(work)


def test_it_may_go_and_come_back() -> None:
    async def main() -> None:
        async with (
            DubboProvider(HELLO, {"hash": 7}) as provider,
            consumer(provider, on_full="wait", timeout_ms=10_000) as hello,
        ):
            assert await hello.hash("abc") == 7
            port = provider.port
            await provider.stop()
            await asyncio.sleep(0.05)
            call = asyncio.ensure_future(hello.hash("abc"))
            await asyncio.sleep(0.05)
            assert not call.done()
            await provider.start()
            assert provider.port == port
            assert await call == 7
            provider.drop_connections()
            await asyncio.sleep(0.05)
            assert await hello.hash("abc") == 7
            assert provider.connected == 3
            provider.announce_stop()
            with pytest.raises(dubbo.UsageError, match="has been started already"):
                await provider.start()

    asyncio.run(main())


def test_beyond_its_limit_it_is_exhausted() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(limit=1) as provider:
            provider.answer("slow", answers.After(10, 1))
            # The caller believes in more places.
            url = f"{provider.url}?limit=2"
            async with dubbo.Client(url, timeout_ms=60_000) as client:
                hello = client.service(HELLO)
                calls = [asyncio.ensure_future(hello.slow()) for _ in range(2)]
                await provider.called("slow", 2)
                assert provider.in_progress == 1
                assert await asyncio.gather(*calls) == [1, 1]
                # One of them had to be put again.
                assert len(provider.calls) >= 3

    on_virtual_time(work)


def test_a_declared_service_has_its_types() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(Hello) as provider:
            provider.answer("find", lambda user: User(user.name.upper(), user.age + 1))
            provider.answer("forget", None)
            async with consumer(provider, Hello) as hello:
                assert await hello.find(User("ann", 7)) == User("ANN", 8)
                assert await hello.forget(3) is None
                assert await hello.forget(3, True) is None
            find, short, long = provider.calls
            assert find.arguments == (User("ann", 7),)
            assert find.types == ("com.example.User",)
            assert (find.version, find.group) == ("1.0", "g")
            assert (short.arguments, long.arguments) == ((3,), (3, True))
            assert short.types == ("int",)

    on_virtual_time(work)


def test_a_call_that_no_declared_method_takes_is_refused_and_known() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(Hello) as provider:
            provider.answer("hash", 7)
            provider.answer("$echo", "there")
            async with dubbo.Client(provider.url) as client:
                hello = client.service(HELLO, version="1.0", group="g")
                for arguments in [(), ("abc", "too many")]:
                    with pytest.raises(dubbo.RemoteError, match="hash"):
                        await hello.hash(*arguments)
                assert await hello.hash("abc") == 7
                assert await client.echo(hello, "here") == "there"
            assert [call.arguments for call in provider.calls_of("hash")] == [
                (),
                ("abc", "too many"),
                ("abc",),
            ]

    on_virtual_time(work)


def test_a_callable_that_says_that_it_was_cancelled_is_answered() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(HELLO) as provider:
            provider.answer("hash", cancelled)
            provider.answer("wait", answers.After(1000, 1))
            async with consumer(provider) as hello:
                with pytest.raises(dubbo.JavaError, match="Cancelled"):
                    await hello.hash()
                # A real one leaves nothing behind.
                waiting = asyncio.ensure_future(hello.wait())
                await provider.called("wait", 1)
                await provider.stop()
                assert provider.in_progress == 0
                with pytest.raises(dubbo.DragomanError):
                    await waiting

    on_virtual_time(work)


def test_a_generic_call_is_told_as_the_call_that_it_means() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(Hello) as provider:
            provider.answer("find", User("bob", 9), dubbo.JavaError("no", java_class="a.No"))
            async with dubbo.Client(provider.url) as client:
                hello = client.service(HELLO, version="1.0", group="g", generic=True)
                find = hello.method("find", ["com.example.User"])
                found = await find({"class": "com.example.User", "name": "ann", "age": 7})
                assert (found["name"], found["age"]) == ("bob", 9)
                with pytest.raises(dubbo.JavaError, match="no"):
                    await find({"class": "com.example.User", "name": "ann", "age": 7})
            call = provider.calls[0]
            assert (call.method, call.generic) == ("find", True)
            assert call.arguments == (User("ann", 7),)

    on_virtual_time(work)


def test_what_it_does_not_serve() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(Hello) as provider:
            provider.answer("hash", 7)
            async with dubbo.Client(provider.url) as client:
                with pytest.raises(dubbo.NotFoundError):
                    await client.service("com.example.Other").hash("abc")
                with pytest.raises(dubbo.NotFoundError):
                    await client.service(HELLO, version="2.0", group="g").hash("abc")
                hello = client.service(HELLO, version="1.0", group="g")
                with pytest.raises(dubbo.RemoteError, match='Not found method "find"'):
                    await hello.find(User("ann"))

    on_virtual_time(work)


def test_echoes_and_heartbeats_are_answered_and_no_calls() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider, dubbo.Client(provider.url) as client:
            assert await client.echo(HELLO, "still there?") == "still there?"
            await asyncio.sleep(300)
            assert provider.heartbeats > 0
            assert provider.connected == 1
            assert "still there?" in [call.arguments[0] for call in provider.echoes]
            assert provider.calls == []

    on_virtual_time(work)


def test_a_one_way_call_is_taken_and_not_answered() -> None:
    async def work(loop: SimulatedLoop) -> None:
        taken = []
        async with provider_of() as provider:
            provider.answer("note", taken.append)
            async with consumer(provider) as hello:
                await dubbo.send(hello.note, "abc")
                (call,) = await provider.called("note")
                assert call.one_way
            assert taken == ["abc"]

    on_virtual_time(work)


def test_it_is_found_by_its_registration() -> None:
    async def main() -> None:
        registry = MemoryRegistry("double")
        async with DubboProvider(Hello, {"hash": 7}) as provider:
            registration = provider.registration(weight=5)
            assert (registration.weight, registration.protocol) == (5, "dubbo")
            await registry.register(registration)
            async with dubbo.Client(registry) as client:
                assert await client.service(Hello).hash("abc") == 7
        await registry.close()

    asyncio.run(main())


def test_what_a_test_did_wrong_is_raised_at_the_end() -> None:
    def check(text: str) -> None:
        assert text == "expected"

    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("check", check)
            async with consumer(provider) as hello:
                with pytest.raises(dubbo.JavaError):
                    await hello.check("something else")

    with pytest.raises(AssertionError, match="expected"):
        on_virtual_time(work)

    async def unwritable(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("odd", object)
            async with consumer(provider) as hello:
                with pytest.raises(dubbo.DragomanError, match="cannot be written"):
                    await hello.odd()

    with pytest.raises(dubbo.UsageError, match=r"odd: <object .* cannot be written"):
        on_virtual_time(unwritable)


def test_what_went_wrong_once_is_not_raised_when_it_is_entered_again() -> None:
    def check(text: str) -> None:
        assert text == "expected"

    async def work(loop: SimulatedLoop) -> None:
        provider = provider_of(methods={"check": check})
        with pytest.raises(AssertionError, match="expected"):
            async with provider, consumer(provider) as hello:
                with pytest.raises(dubbo.JavaError):
                    await hello.check("something else")
        async with provider, consumer(provider) as hello:
            assert await hello.check("expected") is None

    on_virtual_time(work)


def test_one_provider_serves_on_one_loop_after_another() -> None:
    provider = DubboProvider(HELLO, {"hash": 7})

    async def main() -> None:
        async with provider, consumer(provider) as hello:
            waits = [
                asyncio.ensure_future(provider.called("hash", len(provider.calls) + 1))
                for _ in range(2)
            ]
            await asyncio.sleep(0)
            assert await hello.hash("abc") == 7
            assert await waits[0] == await waits[1] == provider.calls

    asyncio.run(main())
    asyncio.run(main())
    assert len(provider.calls) == 2


def test_waiting_for_a_call_says_what_came() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            provider.answer("hash", 7)
            async with consumer(provider) as hello:
                assert await hello.hash("abc") == 7
                assert len(await provider.called()) == 1
                with pytest.raises(AssertionError, match="1 calls of hash within 60 s, expected 2"):
                    await provider.called("hash", 2, timeout_s=60)

    on_virtual_time(work)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: DubboProvider("a b"), "interface 'a b': expected a name such as"),
        (lambda: DubboProvider(User), "expected a class with @dubbo.service"),
        (lambda: DubboProvider(HELLO, port=70_000), "port: expected a whole number"),
        (lambda: DubboProvider(HELLO, limit=0), "limit: expected a whole number"),
        (lambda: DubboProvider(HELLO, serializations="hessian2"), "serializations: expected some"),
        (lambda: DubboProvider(HELLO, serializations=("kryo",)), "serializations: expected some"),
        (lambda: DubboProvider(HELLO, serializations=None), "serializations: expected some"),
        (lambda: DubboProvider(HELLO, serializations=([],)), "serializations: expected some"),
        (lambda: DubboProvider(HELLO, ["hash"]), "methods: expected answers by name"),
        (lambda: DubboProvider(HELLO, {"hash": object()}), "hash: <object .* cannot be written"),
        (
            lambda: DubboProvider(HELLO).answer("hash", 7, answers.After(1, object())),
            "hash: <object .* cannot be written",
        ),
        (lambda: DubboProvider(HELLO).answer("hash"), "hash: expected at least one answer"),
        (lambda: DubboProvider(Hello, {"hush": 1}), "no method 'hush', but find, forget, hash"),
        (lambda: DubboProvider(Hello, {"hash": "x"}), "hash: 'x' cannot be written"),
        (lambda: DubboProvider().registration(), "expected an interface: this provider serves any"),
        (lambda: DubboProvider(HELLO).registration(wait=1), "registration: no field 'wait'"),
        (lambda: answers.After(-1, 7), "delay_s: expected a number"),
        (lambda: answers.Refused(20, "ok"), "status: expected another than 20"),
        (lambda: answers.Refused(0), "status: expected a whole number from 1 to 255"),
        (lambda: answers.Body("text"), "data: expected bytes, not 'text'"),
        (lambda: answers.Body(b"", serialization="x"), "serialization: expected a whole number"),
        (lambda: answers.OfCall(7), "function: expected a callable, not 7"),
        (lambda: answers.Attached(7, {"a": 1}), r"attachments\['a'\]: expected text, not 1"),
    ],
)
def test_misuse_is_one_line(wrong: Callable[[], object], words: str) -> None:
    with pytest.raises(dubbo.UsageError, match=words) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_an_address_in_use_is_said() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of() as provider:
            with pytest.raises(dubbo.ConnectError, match="cannot listen on provider:20880: "):
                await provider_of().start()
            assert repr(provider) == f"<DubboProvider of {HELLO}, at provider:20880, 0 calls>"

    on_virtual_time(work)


def test_it_reads_what_comes_in_pieces_and_may_be_stopped_by_what_it_calls() -> None:
    async def work(loop: SimulatedLoop) -> None:
        loop.network.piece_bytes_max = 3
        async with (
            provider_of(methods={"hash": len}) as provider,
            consumer(provider, on_full="wait", timeout_ms=60_000) as hello,
        ):
            calls = [hello.hash("a" * n) for n in range(20)]
            assert await asyncio.gather(*calls) == list(range(20))
            provider.answer("stop", provider.stop)
            with pytest.raises(dubbo.LinkLostError):
                await hello.stop()
            assert repr(provider).endswith("stopped, 21 calls>")
            await provider.start()
            assert await hello.hash("abc") == 3

    on_virtual_time(work)


@pytest.mark.parametrize("arguments", [(7, [], []), ("find", None, 7), ("find", ["no type!"], [1])])
def test_a_generic_call_that_is_none_is_refused(arguments: tuple[Any, ...]) -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with provider_of(Hello) as provider, dubbo.Client(provider.url) as client:
            invoke = client.service(HELLO, version="1.0", group="g").method(
                "$invoke", ["java.lang.String", "java.lang.String[]", "java.lang.Object[]"]
            )
            with pytest.raises(dubbo.DragomanError):
                await invoke(*arguments)
            assert provider.calls == []

    on_virtual_time(work)
