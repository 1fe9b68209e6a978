"""A server of the SDK before a consumer that is not ours: what goes over the wire, and when."""

from __future__ import annotations

import asyncio
import enum
import random
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from dragoman import dubbo
from dragoman.dubbo import java
from dragoman.wire import hessian2
from dragoman.wire.invocation import FASTJSON, decode_reply, encode_request
from tests.dubbo.peer import EVENT, HESSIAN2, REQUEST, TWO_WAY, frame, invocation, peer

HELLO = "com.example.Hello"
STRING = "Ljava/lang/String;"
OBJECT = "Ljava/lang/Object;"
GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"


@dubbo.bean("com.example.Color")
class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dubbo.bean("com.example.User")
@dataclass
class User:
    name: str
    age: java.long = 0
    favourite: Color | None = None


@dubbo.bean("com.example.Node")
@dataclass
class Node:
    next: Node | None


class NoSuchUser(dubbo.JavaError):
    java_class = "com.example.NoSuchUserException"


@dubbo.service(HELLO)
class Hello:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.door = asyncio.Event()
        self.done: list[str] = []

    async def hash(self, text: str) -> int:
        return len(text)

    def add(self, a: int, b: int) -> java.long:
        return a + b

    @dubbo.method("add")
    def add_text(self, a: str, b: str) -> str:
        return a + b

    async def older(self, user: User, years: int = 1) -> User:
        return User(user.name, user.age + years, user.favourite)

    async def paint(self, color: Color) -> list[Color]:
        return [color, Color.BLUE]

    async def length(self, node: Node) -> int:
        return 1 if node.next is None else 1 + await self.length(node.next)

    async def anything(self, value) -> Any:  # type: ignore[no-untyped-def]
        return value

    async def nothing(self) -> None:
        return None

    async def fail(self, text: str) -> None:
        raise ValueError(text)

    async def missing(self, name: str) -> User:
        raise NoSuchUser(f"no {name}", fields={"name": name})

    async def busy(self) -> None:
        raise dubbo.OverloadError("come back later")

    async def attached(self) -> str:
        request = dubbo.current_request()
        request.reply_attachments["trace"] = "reply-" + request.attachments.get("trace", "")
        return f"{request.interface} {request.method} {request.timeout_ms is not None}"

    def attached_in_thread(self) -> str:
        return dubbo.current_request().attachments["trace"]

    async def wait(self, text: str) -> str:
        await self.door.wait()
        self.done.append(text)
        return text

    def block(self, text: str) -> str:
        self.gate.wait(10)
        self.done.append(text)
        return text

    async def huge(self) -> str:
        return "x" * 9_000_000

    async def wrong(self) -> int:
        return "no number"  # type: ignore[return-value]


def call(method: str, *args: Any, types: str = "", **options: Any) -> bytes:
    return invocation(HELLO, method, *args, types=types, **options)


def run(test: Any, **options: Any) -> Hello:
    """Run ``test(peer, service, server)`` against a server; every place is free at its end."""

    async def main() -> Hello:
        service = Hello()
        async with await dubbo.serve(service, 0, **options) as server:
            async with peer(server.address) as consumer:
                await test(consumer, service, server)
            service.gate.set()
            service.door.set()
            async with asyncio.timeout(30):
                while server.statistics().in_progress:
                    await asyncio.sleep(0.001)
        return service

    return asyncio.run(main())


def test_a_coroutine_function_answers_on_the_loop_and_a_plain_one_on_a_thread() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("hash", "abc", types=STRING))
        assert (reply.status, reply.flags, reply.values) == (20, 2, [1, 3])
        reply = await consumer.ask(call("add", 3, 4, types="II"))
        # A long, as annotated: e7 and not 97.
        assert reply.body == b"\x91\xe7"

    run(test)


def test_a_result_of_none_is_a_null_and_has_no_value() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        assert (await consumer.ask(call("nothing"))).body == b"\x92"

    run(test)


def test_overloads_are_told_apart_by_their_descriptors() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        assert (await consumer.ask(call("add", "a", "b", types=STRING * 2))).values == [1, "ab"]
        assert (await consumer.ask(call("add", 1, 2, types="II"))).values == [1, 3]

    run(test)


def test_a_parameter_with_a_default_may_be_left_out() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        user = dubbo.Bean("com.example.User", name="Ann", age=7, favourite=None)
        one = await consumer.ask(call("older", user, types="Lcom/example/User;"))
        assert one.values == [1, dubbo.Bean("com.example.User", name="Ann", age=8, favourite=None)]
        two = await consumer.ask(call("older", user, 5, types="Lcom/example/User;I"))
        assert two.values[1]["age"] == 12

    run(test)


def test_types_of_one_family_find_the_method() -> None:
    """A Java interface with long or Integer where Python says int, or a subclass of the bean."""

    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        for types in ("JJ", "Ljava/lang/Integer;Ljava/lang/Long;", "SB"):
            assert (await consumer.ask(call("add", 1, 2, types=types))).values == [1, 3]
        admin = dubbo.Bean("com.example.Admin", name="Bob", age=1, favourite=None, level=3)
        reply = await consumer.ask(call("older", admin, types="Lcom/example/Admin;"))
        assert reply.values[1]["age"] == 2
        assert (await consumer.ask(call("add", 1.0, 2.0, types="DD"))).status == 70
        assert (await consumer.ask(call("anything", [1], types="Ljava/util/List;"))).values[1] == [
            1
        ]

    run(test)


def test_enums_come_and_go_as_constants() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        red = dubbo.enum("com.example.Color", "RED")
        reply = await consumer.ask(call("paint", red, types="Lcom/example/Color;"))
        assert reply.values == [1, [red, dubbo.enum("com.example.Color", "BLUE")]]
        green = dubbo.enum("com.example.Color", "GREEN")
        reply = await consumer.ask(call("paint", green, types="Lcom/example/Color;"))
        assert reply.status == 40
        assert "argument 1, 'color': expected Color, got 'GREEN'" in reply.text

    run(test)


def test_an_exception_is_a_java_exception_with_the_message_and_no_traceback() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("fail", "too bad", types=STRING))
        kind, thrown = reply.values
        assert (reply.status, kind, thrown.java_class) == (20, 0, "java.lang.RuntimeException")
        assert thrown["detailMessage"] == "too bad"
        assert b"Traceback" not in reply.body
        assert b"test_server" not in reply.body
        kind, thrown = (await consumer.ask(call("missing", "Ann", types=STRING))).values
        assert (kind, thrown.java_class) == (0, "com.example.NoSuchUserException")
        assert (thrown["detailMessage"], thrown["name"]) == ("no Ann", "Ann")

    run(test)


def test_a_method_that_has_done_nothing_may_send_its_caller_elsewhere() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("busy"))
        assert (reply.status, reply.text) == (100, "come back later")

    run(test)


def test_attachments_go_both_ways_if_the_consumer_reads_them() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        sent = {"trace": "7", "timeout": "1000"}
        reply = await consumer.ask(call("attached", attachments=sent))
        assert reply.values == [4, f"{HELLO} attached True", {"trace": "reply-7"}]
        for protocol in ("2.0.1", "2.5.3", "3.0.0", "2.0.100"):
            reply = await consumer.ask(call("attached", attachments=sent, protocol=protocol))
            assert reply.values == [1, f"{HELLO} attached True"]
        reply = await consumer.ask(call("attached_in_thread", attachments=sent))
        assert reply.values == [1, "7"]

    run(test)


def test_echo_gives_back_what_it_got() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        for value in ("ok", None, [1, "x"], dubbo.Long(5), dubbo.Bean("a.B", x=1)):
            body = hessian2.encode("2.0.2", HELLO, None, "$echo", OBJECT)
            encoded = hessian2.encode(value)
            reply = await consumer.ask(body + encoded + hessian2.encode({}))
            assert reply.body == (b"\x91" + encoded if value is not None else b"\x92")

    run(test)


def test_generic_calls_take_beans_as_maps_and_give_them_with_their_class() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        def generic(method: str, types: list[str] | None, args: list[Any], **more: str) -> bytes:
            return call("$invoke", method, types, args, types=GENERIC, attachments=more)

        user = {"class": "com.example.User", "name": "Ann", "age": 7, "favourite": "RED"}
        reply = await consumer.ask(generic("older", ["com.example.User"], [user], generic="true"))
        assert reply.values == [1, {**user, "age": 8}]
        # Without types, where there is only one method of the name.
        assert (await consumer.ask(generic("hash", None, ["abc"]))).values == [1, 3]
        kind, thrown = (await consumer.ask(generic("add", None, [1, 2]))).values
        assert (kind, thrown["exceptionClass"]) == (0, "java.lang.NoSuchMethodException")
        kind, thrown = (await consumer.ask(generic("missing", ["java.lang.String"], ["X"]))).values
        assert thrown.java_class == "org.apache.dubbo.rpc.service.GenericException"
        assert thrown["exceptionClass"] == "com.example.NoSuchUserException"
        assert thrown["exceptionMessage"] == "no X"
        reply = await consumer.ask(generic("hash", ["java.lang.String"], ['"abc"'], generic="gson"))
        assert reply.values == [1, "3"]
        reply = await consumer.ask(generic("hash", None, ["abc"], generic="nativejava"))
        assert reply.status == 40

    run(test)


@pytest.mark.parametrize("lengths", [False, True], ids=["newlines", "lengths"])
def test_a_request_in_fastjson_is_answered_in_fastjson(lengths: bool) -> None:
    def asked(method: str, descriptor: str, *arguments: Any, **more: str) -> bytes:
        return encode_request(
            HELLO,
            method,
            descriptor,
            arguments,
            serialization=FASTJSON,
            lengths=lengths,
            attachments=more,
        )

    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async def ask(*args: Any, **more: str) -> Any:
            reply = await consumer.ask(asked(*args, **more), REQUEST | TWO_WAY | FASTJSON)
            assert (reply.status, reply.flags) == (20, FASTJSON)
            return decode_reply(reply.body, FASTJSON)

        assert (await ask("hash", STRING, "abc")).value == 3
        assert (await ask("add", "II", 3, 4)).value == 7
        user = dubbo.Bean("com.example.User", name="Ann", age=7, favourite="RED")
        assert (await ask("older", "Lcom/example/User;", user)).value["age"] == 8
        assert (await ask("attached", "", trace="7")).attachments == {"trace": "reply-7"}
        thrown = (await ask("missing", STRING, "Ann")).exception
        assert thrown.java_class == "com.example.NoSuchUserException"
        assert thrown["detailMessage"] == "no Ann"
        assert (await ask("$echo", OBJECT, "ok")).value == "ok"
        generic = asked("$invoke", GENERIC, "hash", ["java.lang.String"], ["abc"], generic="true")
        reply = await consumer.ask(generic, REQUEST | TWO_WAY | FASTJSON)
        assert decode_reply(reply.body, FASTJSON).value == 3
        reply = await consumer.ask(b'"2.0.2"\n{', REQUEST | TWO_WAY | FASTJSON)
        assert (reply.status, reply.flags) == (40, FASTJSON)

    run(test)


def test_what_is_not_served_is_said() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(invocation("com.example.Nope", "x"))
        assert reply.status == 60
        assert "Not found exported service: com.example.Nope" in reply.text
        assert (await consumer.ask(call("hash", "x", types=STRING, version="2.0"))).status == 60
        grouped = call("hash", "x", types=STRING, attachments={"group": "g"})
        assert (await consumer.ask(grouped)).status == 60
        assert (await consumer.ask(call("hash", "x", types=STRING, version="0.0.0"))).status == 20
        reply = await consumer.ask(call("nope", "x", types=STRING))
        assert reply.status == 70
        assert 'Not found method "nope(Ljava/lang/String;)"' in reply.text
        # Names that Python has and Java must not reach.
        for name in ("__init__", "_private", "gate", "done"):
            assert (await consumer.ask(call(name))).status == 70

    run(test)


def test_services_of_one_interface_are_told_apart_by_version_and_group() -> None:
    @dubbo.service(HELLO, version="2.0", group="g")
    class Newer:
        async def hash(self, text: str) -> int:
            return 2

    async def main() -> None:
        async with (
            await dubbo.serve([Hello(), Newer()], 0) as server,
            peer(server.address) as consumer,
        ):
            old = call("hash", "abc", types=STRING)
            new = call("hash", "abc", types=STRING, version="2.0", attachments={"group": "g"})
            assert (await consumer.ask(old)).values == [1, 3]
            assert (await consumer.ask(new)).values == [1, 2]

    asyncio.run(main())


def test_a_malformed_body_costs_its_own_call_alone() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        whole = call("hash", "abc", types=STRING)
        for cut in range(len(whole) - 2):
            reply = await consumer.ask(whole[:cut])
            # Without its attachments it is whole enough.
            expected = (20, 40) if cut >= len(whole) - 4 else (40,)
            assert reply.status in expected, cut
        assert (await consumer.ask(b"\xff" * 50)).status == 40
        assert (await consumer.ask(whole, REQUEST | TWO_WAY | 8)).status == 40
        assert (await consumer.ask(call("hash", None, types=STRING))).status == 40
        nested = hessian2.encode("2.0.2", HELLO, None, "anything", OBJECT) + b"\x79" * 10_000
        assert (await consumer.ask(nested)).status == 40
        assert (await consumer.ask(whole)).values == [1, 3]
        assert server.statistics().clients == 1

    run(test)


@pytest.mark.parametrize("serialization", [HESSIAN2, FASTJSON])
def test_whatever_a_body_holds_it_has_one_answer(serialization: int) -> None:
    """Bodies that were whole and are no longer; every request is answered, none twice."""
    dice = random.Random(5)
    user = dubbo.Bean("com.example.User", name="Ann", age=7, favourite=None)
    whole = [
        encode_request(HELLO, method, types, arguments, serialization=serialization)
        for method, types, arguments in (
            ("hash", STRING, ["abc"]),
            ("add", "II", [1, 2]),
            ("older", "Lcom/example/User;I", [user, 2]),
            ("anything", OBJECT, [[1, {"a": [None, "x"]}]]),
            ("$echo", OBJECT, [["x"]]),
            ("$invoke", GENERIC, ["hash", ["java.lang.String"], ["abc"]]),
        )
    ]

    def damaged() -> bytes:
        body = bytearray(dice.choice(whole))
        for _ in range(dice.randrange(1, 5)):
            at = dice.randrange(len(body))
            what = dice.randrange(4)
            if what == 0:
                body[at] = dice.randrange(256)
            elif what == 1:
                del body[at : at + dice.randrange(1, 9)]
            elif what == 2:
                body[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 5)))
            else:
                body[at:at] = body[dice.randrange(len(body)) :][: dice.randrange(1, 20)]
            if not body:
                break
        return bytes(body)

    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        for _ in range(20):
            asked = {
                consumer.send(damaged(), REQUEST | TWO_WAY | serialization) for _ in range(100)
            }
            for _ in range(100):
                reply = await consumer.receive()
                asked.remove(reply.id)
                assert reply.status in (20, 40, 60, 70, 80), reply.text
                assert reply.status != 80, reply.text
            assert not asked
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_a_cycle_is_no_argument_of_a_declared_bean() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        node = dubbo.Bean("com.example.Node", next=dubbo.Bean("com.example.Node", next=None))
        body = call("length", node, types="Lcom/example/Node;")
        assert (await consumer.ask(body)).values == [1, 2]
        node["next"] = node
        body = call("length", node, types="Lcom/example/Node;")
        reply = await consumer.ask(body)
        assert reply.status == 40
        assert "argument 1, 'node'" in reply.text

    run(test)


def test_beyond_the_limit_calls_are_rejected_at_once_and_one_way_calls_dropped() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        first = consumer.send(call("wait", "a", types=STRING))
        second = consumer.send(call("block", "b", types=STRING))
        reply = await consumer.ask(call("hash", "abc", types=STRING))
        assert reply.status == 100
        assert "Thread pool is EXHAUSTED! Pool Size: 2 (active: 2, core: 2, max: 2)" in reply.text
        consumer.send(call("wait", "c", types=STRING), REQUEST | HESSIAN2)
        echo = hessian2.encode("2.0.2", HELLO, None, "$echo", OBJECT, "x", {})
        assert (await consumer.ask(echo)).status == 100
        # Not so a heartbeat.
        beat = await consumer.ask(b"N", REQUEST | TWO_WAY | EVENT | HESSIAN2)
        assert (beat.status, beat.flags, beat.body) == (20, EVENT | HESSIAN2, b"N")
        service.door.set()
        service.gate.set()
        replies = [await consumer.receive(), await consumer.receive()]
        assert {reply.id for reply in replies} == {first, second}
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        counted = server.statistics()
        assert (counted.rejected, counted.dropped, counted.in_progress_max) == (2, 1, 2)

    assert sorted(run(test, limit=2).done) == ["a", "b"]


def test_a_one_way_call_runs_and_is_not_answered() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        service.door.set()
        consumer.send(call("wait", "a", types=STRING), REQUEST | HESSIAN2)
        consumer.send(call("fail", "a", types=STRING), REQUEST | HESSIAN2)
        consumer.send(call("nope", "a", types=STRING), REQUEST | HESSIAN2)
        consumer.send(b"\xff", REQUEST | HESSIAN2)
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    assert run(test).done == ["a"]


@pytest.mark.parametrize("attachment", ["_TO", "timeout"])
def test_when_the_callers_time_has_passed_a_task_is_cancelled(attachment: str) -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("wait", "a", types=STRING, attachments={attachment: "30"}))
        assert reply.status == 31
        assert "did not end within the caller's time" in reply.text
        service.door.set()
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        assert server.statistics().in_progress == 0

    assert run(test).done == []


def test_a_thread_that_is_late_keeps_its_place_until_it_ends() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        body = call("block", "a", types=STRING, attachments={"_TO": "30"})
        assert (await consumer.ask(body)).status == 31
        assert (await consumer.ask(call("hash", "abc", types=STRING))).status == 100
        service.gate.set()
        async with asyncio.timeout(30):
            while server.statistics().in_progress:
                await asyncio.sleep(0.001)
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        assert server.statistics().late == 1

    run(test, limit=1)


def test_what_has_not_begun_when_its_time_has_passed_never_runs() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        consumer.send(call("block", "first", types=STRING))
        late = consumer.send(call("block", "late", types=STRING, attachments={"_TO": "30"}))
        reply = await consumer.receive()
        assert (reply.id, reply.status) == (late, 31)
        service.gate.set()
        assert (await consumer.receive()).values == [1, "first"]

    assert run(test, threads=1).done == ["first"]


@pytest.mark.parametrize(
    "noise",
    [b"help\r\nls\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\xda", b"\xda\xbc" + bytes(14), bytes(20)],
)
def test_bytes_that_are_no_dubbo_do_no_harm(noise: bytes) -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async with peer(server.address) as stranger:
            stranger.writer.write(noise)
            if noise == b"\xda":
                stranger.writer.write_eof()
            assert await stranger.closed()
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_a_body_beyond_the_bound_closes_its_connection() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async with peer(server.address) as stranger:
            stranger.writer.write(frame(1, b"")[:12] + (8_388_609).to_bytes(4, "big"))
            assert await stranger.closed()
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_a_reply_beyond_the_bound_and_one_that_cannot_be_are_errors_of_their_call() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("huge"))
        assert reply.status == 50
        assert "Data length too large: 9000" in reply.text
        reply = await consumer.ask(call("wrong"))
        assert reply.status == 50
        assert "'no number' is no int" in reply.text
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]

    run(test)


def test_many_requests_in_one_read_are_all_answered_in_one_write_or_few() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        body = call("hash", "abc", types=STRING)
        consumer.writer.write(b"".join(frame(n, body) for n in range(1, 151)))
        replies = [await consumer.receive() for _ in range(150)]
        assert sorted(reply.id for reply in replies) == list(range(1, 151))
        assert {reply.body for reply in replies} == {b"\x91\x93"}

    run(test)


def test_a_request_that_comes_byte_by_byte_is_answered() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        for byte in frame(7, call("hash", "abc", types=STRING)):
            consumer.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await consumer.receive()).values == [1, 3]

    run(test)


def test_a_consumer_that_sends_no_more_still_gets_its_replies() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        consumer.send(call("wait", "a", types=STRING))
        consumer.writer.write_eof()
        await asyncio.sleep(0.02)
        service.door.set()
        assert (await consumer.receive()).values == [1, "a"]
        assert await consumer.closed()

    run(test)


def test_a_silent_connection_is_closed_and_one_with_calls_under_way_is_not() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        async with peer(server.address) as other:
            other.send(call("wait", "a", types=STRING))
            assert await consumer.closed()
            service.door.set()
            assert (await other.receive()).values == [1, "a"]

    run(test, idle_s=0.5)


def test_connections_beyond_the_bound_are_refused() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        async with peer(server.address) as other:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await other.receive()

    run(test, clients_max=1)


def test_a_server_that_stops_says_so_and_finishes_what_it_has() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        running = consumer.send(call("wait", "a", types=STRING))
        assert (await consumer.ask(call("hash", "abc", types=STRING))).values == [1, 3]
        closing = asyncio.create_task(server.close())
        event = await consumer.receive()
        assert (event.flags, event.body) == (REQUEST | EVENT | HESSIAN2, b"\x01R")
        # What was sent before the event was heard is still answered.
        assert (await consumer.ask(call("hash", "abcd", types=STRING))).values == [1, 4]
        assert not closing.done()
        service.door.set()
        reply = await consumer.receive()
        assert (reply.id, reply.values) == (running, [1, "a"])
        await closing
        assert await consumer.closed()

    run(test)


def test_a_server_waits_no_longer_than_it_is_told() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        consumer.send(call("wait", "a", types=STRING))
        await asyncio.sleep(0.02)
        # Less than what it would wait untold.
        async with asyncio.timeout(8):
            await server.close(drain_ms=100)

    run(test)


def test_functions_on_the_loop_know_their_request() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        reply = await consumer.ask(call("attached_in_thread", attachments={"trace": "9"}))
        assert reply.values == [1, "9"]
        with pytest.raises(dubbo.UsageError):
            dubbo.current_request()

    run(test, threads=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit: expected a whole number from 1"),
        ({"port": 70000}, "port: expected"),
        ({"threads": -1}, "threads: expected"),
        ({"registry": "etcd://127.0.0.1:1", "host": "0.0.0.0"}, "advertise: expected a host"),
        ({"registry": "ftp://x"}, "registry"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_opens(
    options: dict[str, Any], said: str
) -> None:
    async def main() -> None:
        with pytest.raises(dubbo.UsageError, match=said):
            await dubbo.serve(Hello(), **{"port": 0, **options})

    asyncio.run(main())


def test_what_is_no_service_is_refused() -> None:
    async def main() -> None:
        for services in (object(), Hello, [], [Hello(), Hello()]):
            with pytest.raises(dubbo.UsageError):
                await dubbo.serve(services, 0)
        async with await dubbo.serve(Hello(), 0) as server:
            with pytest.raises(dubbo.ConnectError, match="cannot listen"):
                await dubbo.serve(Hello(), server.address.port)

    asyncio.run(main())
