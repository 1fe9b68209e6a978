"""A server of the SDK before a foreign consumer: what its methods take and give."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from dragoman import dubbo
from dragoman.wire import hessian2
from dragoman.wire.dubbo.invocation import FASTJSON, decode_reply, encode_request
from tests.dubbo.hello import GENERIC, HELLO, OBJECT, STRING, Hello, call, run
from tests.dubbo.peer import HESSIAN2, REQUEST, TWO_WAY, invocation, peer


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


def test_text_stands_for_numbers_in_generic_calls_as_it_does_in_java() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        def generic(method: str, types: list[str] | None, args: list[Any], kind: str) -> bytes:
            more = {"generic": kind}
            return call("$invoke", method, types, args, types=GENERIC, attachments=more)

        for kind in ("true", "raw.return"):
            reply = await consumer.ask(generic("add", ["int", "int"], ["1", 2.0], kind))
            assert reply.values == [1, 3]
            user = {"name": "Ann", "age": "7"}
            reply = await consumer.ask(generic("older", ["com.example.User"], [user], kind))
            assert reply.values[1]["age"] == 8
        for wrong in ("x", "1.5", "", True, 1.5):
            reply = await consumer.ask(generic("add", ["int", "int"], [wrong, 2], "true"))
            assert reply.status == 40 and "expected int" in reply.text

    run(test)


def test_a_generic_caller_may_have_the_result_as_it_is() -> None:
    async def test(consumer: Any, service: Hello, server: dubbo.Server) -> None:
        def generic(kind: str, method: str, *arguments: Any) -> bytes:
            more = {"generic": kind}
            types = ["java.lang.String" if method == "missing" else "com.example.User"]
            return call("$invoke", method, types, list(arguments), types=GENERIC, attachments=more)

        user = {"name": "Ann", "age": 7, "favourite": "RED"}
        reply = await consumer.ask(generic("raw.return", "older", user))
        red = dubbo.enum("com.example.Color", "RED")
        made = dubbo.Bean("com.example.User", name="Ann", age=8, favourite=red)
        assert reply.values == [1, made] and type(reply.values[1]) is dubbo.Bean
        reply = await consumer.ask(generic("true", "older", user))
        assert type(reply.values[1]) is dict
        kind, thrown = (await consumer.ask(generic("raw.return", "missing", "X"))).values
        assert (kind, thrown["exceptionClass"]) == (0, "com.example.NoSuchUserException")
        reply = await consumer.ask(generic("bean", "older", user))
        assert reply.status == 40 and "true, gson and raw.return" in reply.text

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
