"""The mesh methods ``form`` and ``json`` to a provider that is asked in hessian2."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from dragoman.errors import ProtocolError, RemoteError, ResultError, UsageError
from dragoman.wire.hessian2 import decode_stream, encode
from dragoman.wire.java import Bean, TypedList
from tests.dubbo.fake import FASTJSON, Frame, untimed_body, way

GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
OWN = {"path": "a.B", "interface": "a.B"}


def body(**call: Any) -> bytes:
    return b"a.B\0m\0\0\0" + json.dumps(call).encode()


def ask(
    reply: bytes, *, raw: bytes = b"", serialization: int | None = None, **call: Any
) -> tuple[bytes, list[Any]]:
    """The answer, and the fields of the request."""

    async def scenario() -> tuple[bytes, list[Any]]:
        def answer(asked: Frame) -> bytes:
            return asked.reply(reply, serialization=serialization)

        async with way(answer, serialization="hessian2") as one:
            result = await one.call("json", raw or body(**call))
            return result, decode_stream(untimed_body(one.provider.requests[0].body))

    return asyncio.run(scenario())


SEVEN = encode(1, 7)


def test_arguments_without_types_go_by_what_they_are() -> None:
    args = ["a", 1, 1 << 40, 1.5, True, [1], {"k": "v"}]
    _, asked = ask(SEVEN, args=args)
    types = "Ljava/lang/String;IJDZLjava/util/List;Ljava/util/Map;"
    assert asked == ["2.0.1", "a.B", None, "m", types, *args, OWN]


@pytest.mark.parametrize("given", [b"", b"{}", b'{"args":[]}', b'{"types":[],"args":[]}'])
def test_a_call_without_arguments_has_none(given: bytes) -> None:
    _, asked = ask(SEVEN, raw=b"a.B\0m\0\0\0" + (given or b"{}"))
    assert asked == ["2.0.1", "a.B", None, "m", "", OWN]


TYPED: list[tuple[str, str, Any]] = [
    ("long", "1", 1),
    ("long", '"9007199254740993"', 9007199254740993),
    ("java.lang.Long", "null", None),
    ("double", "1", 1.0),
    ("float", "1.5", 1.5),
    ("byte", "-128", -128),
    ("char", '"x"', "x"),
    ("java.math.BigDecimal", "1.10", Decimal("1.10")),
    ("java.math.BigDecimal", '"-0.000000000000000000000000001"', Decimal("-1E-27")),
    ("java.math.BigDecimal", "123456789012345678901234567890.5", None),
    ("java.math.BigInteger", "123456789012345678901234567890", None),
    ("int[]", "[1,2,3]", [1, 2, 3]),
    ("byte[]", '"AQL/"', b"\x01\x02\xff"),
    ("byte[]", "[1,2,-1]", b"\x01\x02\xff"),
    ("String[]", '["a",null]', ["a", None]),
    ("java.util.List<java.lang.Long>", "[1,null]", [1, None]),
    ("java.util.Set<java.lang.String>", '["b"]', ["b"]),
    ("java.util.Map<java.lang.Integer, java.util.List<java.lang.Double>>", '{"1":[2]}', {1: [2.0]}),
    ("java.lang.Object", '{"a":[0.1]}', {"a": [0.1]}),
]


@pytest.mark.parametrize(("kind", "given", "expected"), TYPED)
def test_an_argument_becomes_what_its_type_says(kind: str, given: str, expected: Any) -> None:
    raw = f'a.B\0m\0\0\0{{"types":["{kind}"],"args":[{given}]}}'.encode()
    _, asked = ask(SEVEN, raw=raw)
    if expected is None and given != "null":
        expected = Decimal(given) if "." in given else int(given)
    plain = asked[5]
    assert plain == expected
    assert asked[3] == "m"


def test_longs_doubles_and_dates_have_their_own_types_on_the_wire() -> None:
    types = ["long", "double", "java.util.Date", "java.util.Date", "java.util.List<Long>"]
    args = [1, 2, "2026-01-02T03:04:00+01:00", 1767319440000, [3]]
    raw = b"a.B\0m\0\0\0" + json.dumps({"types": types, "args": args}).encode()

    async def scenario() -> bytes:
        async with way(lambda asked: asked.reply(SEVEN), serialization="hessian2") as one:
            await one.call("json", raw)
            return one.provider.requests[0].body

    date = b"\x4b" + (1767319440000 // 60000).to_bytes(4, "big")
    assert b"\xe1" + b"\x5d\x02" + date * 2 + b"\x79\xe3" + b"H" in asyncio.run(scenario())


UNFIT = [
    ("int", "2147483648", "is no int"),
    ("int", "1.5", "is no int"),
    ("int", "null", "null is no int"),
    ("long", '"x"', "is no long"),
    ("long", "true", "is no long"),
    ("boolean", "1", "is no boolean"),
    ("char", '"ab"', "is no char"),
    ("java.lang.String", "1", "is no java.lang.String"),
    ("java.util.Date", '"yesterday"', "is no java.util.Date"),
    ("java.math.BigDecimal", '"1,5"', "is no java.math.BigDecimal"),
    ("byte[]", '"?"', "Base64"),
    ("int[]", "7", "is no int"),
    ("int", "1e9999999", "is no int"),
    ("long", "1e19", "is no long"),
    ("java.util.Date", "1e999999999999", "is no java.util.Date"),
    ("java.time.Duration", "1e400", "is no java.time.Duration"),
    ("java.math.BigDecimal", "1e80591620717411303424", "exponent"),
    ("java.lang.Object", "1e80591620717411303424", "exponent"),
    ("java.util.List<java.lang.Long>", '[1,"x"]', "is no java.lang.Long"),
    ("java.lang.Object", '{"class":"java.lang.ProcessBuilder"}', "classes of the JDK"),
    ("java.lang.Object", '{"@type":"x.Y"}', "@type"),
]


@pytest.mark.parametrize(("kind", "given", "why"), UNFIT)
def test_what_does_not_fit_its_type_is_refused(kind: str, given: str, why: str) -> None:
    raw = f'a.B\0m\0\0\0{{"types":["{kind}"],"args":[{given}]}}'.encode()
    with pytest.raises(UsageError, match=r"args\[0\]: .*" + why):
        ask(SEVEN, raw=raw)


def test_beans_that_only_the_provider_knows_go_by_generic_invocation() -> None:
    types = ["a.Order", "java.util.List<a.Item>", "long", "a.Color", "java.util.Date"]
    args = [{"n": 1, "price": 1.5}, [{"id": 2}], 3, "RED", 0]
    answer, asked = ask(encode(1, {"class": "a.R", "x": [1]}), types=types, args=args)
    assert asked[3:5] == ["$invoke", GENERIC]
    assert asked[5] == "m"
    assert asked[6] == ["a.Order", "java.util.List", "long", "a.Color", "java.util.Date"]
    assert asked[7][:4] == args[:4]
    assert asked[8] == {**OWN, "generic": "true"}
    assert answer == b'{"x":[1]}'


def test_generic_invocation_is_there_for_the_asking_also_without_types() -> None:
    _, asked = ask(SEVEN, args=[1, 12345678901234567890.5], generic=True)
    assert asked[3:6] == ["$invoke", GENERIC, "m"]
    assert asked[6:] == [None, [1, 1.2345678901234567e19], {**OWN, "generic": "true"}]


def test_gson_goes_as_json_in_strings_and_comes_back_as_json() -> None:
    answer, asked = ask(encode(1, '{"a":1.50}'), types=["a.O"], args=[{"n": 1}], generic="gson")
    assert json.loads(asked[7][0]) == {"n": 1}
    assert asked[8] == {**OWN, "generic": "gson"}
    assert answer == b'{"a":1.50}'


def test_beans_go_as_objects_where_generic_invocation_is_declined() -> None:
    order = {"n": 1, "item": {"class": "a.Item", "id": 2}, "kind": {"class": "a.K", "name": "X"}}
    _, asked = ask(SEVEN, types=["a.Order", "a.Color"], args=[order, "RED"], generic=False)
    assert asked[3:5] == ["m", "La/Order;La/Color;"]
    item = Bean("a.Item", id=2)
    assert asked[5] == Bean("a.Order", n=1, item=item, kind=Bean("a.K", name="X"))
    assert asked[6] == Bean("a.Color", name="RED")


def test_attachments_travel_both_ways() -> None:
    given = {"trace": "1\r\nx: y", "ünïcode": "😀"}
    reply = encode(4, [1], {"back": 'a"\r\n', "n": "2"})
    answer, asked = ask(reply, args=[], attachments=given, envelope=True)
    assert asked[0] == "2.0.2"
    assert asked[-1] == {**OWN, **given}
    assert json.loads(answer) == {"result": [1], "attachments": {"back": 'a"\r\n', "n": "2"}}
    assert ask(reply, args=[])[0] == b"[1]"
    answer, _ = ask(encode(5, {"k": "v"}), args=[], envelope=True)
    assert json.loads(answer) == {"result": None, "attachments": {"k": "v"}}
    answer, _ = ask(encode(2), args=[], envelope=True)
    assert json.loads(answer) == {"result": None, "attachments": {}}


ORDER = Bean("a.Order", id=1, price=Decimal("1.10"), color=Bean("a.Color", name="RED"), sub=None)
RESULTS: list[tuple[Any, str]] = [
    (7, "7"),
    (-(1 << 60), "-1152921504606846976"),
    ('a\\"ä😀', json.dumps('a\\"ä😀', ensure_ascii=False)),
    (True, "true"),
    (None, "null"),
    ([1, "x", None], '[1,"x",null]'),
    ({"a": {"b": []}}, '{"a":{"b":[]}}'),
    ({1: "one"}, '{"1":"one"}'),
    (Decimal("123456789012345678901234567890.123"), "123456789012345678901234567890.123"),
    (1 << 90, str(1 << 90)),
    (ORDER, '{"id":1,"price":1.10,"color":"RED","sub":null}'),
    ([ORDER, ORDER], "[{0},{0}]".format('{"id":1,"price":1.10,"color":"RED","sub":null}')),
    (TypedList("[int", [1, 2]), "[1,2]"),
    (b"\x01\x02", '"AQI="'),
]


@pytest.mark.parametrize(("value", "expected"), RESULTS)
def test_results_come_back_as_json(value: Any, expected: str) -> None:
    assert ask(encode(1, value), args=[])[0].decode() == expected


def test_classes_of_results_are_told_when_asked_for() -> None:
    answer, _ = ask(encode(1, ORDER), args=[], **{"class": True})
    assert json.loads(answer)["class"] == "a.Order"


EXCEPTIONS = {
    "x.Y: böse": Bean("x.Y", detailMessage="böse", stackTrace=[], cause=None),
    "x.Y: one line": Bean("x.Y", detailMessage="one\n  line\r\n"),
    "x.Y": Bean("x.Y", detailMessage=None),
    "x.Z: inner": Bean(
        "org.apache.dubbo.rpc.service.GenericException",
        exceptionClass="x.Z",
        exceptionMessage="inner",
        detailMessage="x.Z: inner ...",
    ),
    "just a text": "just a text",
    "the provider raised an exception without a message": None,
}


@pytest.mark.parametrize("said", EXCEPTIONS)
def test_an_exception_says_its_class_and_message(said: str) -> None:
    with pytest.raises(RemoteError) as caught:
        ask(encode(0, EXCEPTIONS[said]), args=[])
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x96\x91",
        b"N",
        b"\x91",
        b"\x91\x05ab",
        b"\x91\x97\x97",
        b"\x92\x97",
        b"\x91\x51\x91",
        b"\x91" + b"\x79" * 10_000 + b"\x90",
        b"\x91S\xff\xff",
        b"\x91\x62I\x7f\xff\xff\xff",
        b"\x91C\x01aI\x7f\xff\xff\xff",
        b"\x91\x79\x51\x90",
        b"\x91\x04\xff\xff\xff\xff",
        b"\x91" + b"\x40",
    ],
)
def test_a_reply_that_is_malformed_is_an_error_of_its_call_alone(reply: bytes) -> None:
    replies = [reply, SEVEN]

    async def scenario() -> None:
        def answer(asked: Frame) -> bytes:
            return asked.reply(replies.pop(0))

        async with way(answer, serialization="hessian2") as one:
            with pytest.raises((ProtocolError, ResultError), match=r"malformed|cannot be said"):
                await one.call("json", body())
            assert await one.call("json", body()) == b"7"
            assert one.provider.connections == 1

    asyncio.run(scenario())


def test_every_beginning_of_a_reply_is_refused() -> None:
    whole = encode(4, [ORDER, {"k": "v" * 40}, 1 << 40, 1.25], {"a": "b"})

    async def scenario() -> None:
        cut = 0

        def answer(asked: Frame) -> bytes:
            return asked.reply(whole[:cut])

        async with way(answer, serialization="hessian2") as one:
            for cut in range(len(whole)):  # noqa: B007 - answer sees it
                with pytest.raises(ProtocolError):
                    await one.call("json", body(envelope=True))
            cut = len(whole)
            assert b'"attachments":{"a":"b"}' in await one.call("json", body(envelope=True))

    asyncio.run(scenario())


def test_a_reply_in_another_serialization_is_read_in_that() -> None:
    assert ask(b'1\n{"a":1}\n', serialization=FASTJSON, args=[])[0] == b'{"a":1}'
    with pytest.raises(ProtocolError, match="serialization 29, which is not known"):
        ask(SEVEN, serialization=29, args=[])


FORM = b"interface=a.B&method=m&parameterTypesString=%s&parameter=%s"


@pytest.mark.parametrize(
    ("kind", "parameter", "argument"),
    [
        (b"Ljava%2Flang%2FString%3B", b"a+%C3%A4", "a ä"),
        (b"Ljava/lang/String;", b"x" * 1000, "x" * 1000),
        (b"Ljava/lang/String;", b"%F0%9F%98%80" * 40000, "😀" * 40000),
        (b"J", b"1", 1),
        (b"Ljava/math/BigDecimal;", b"1.10", Decimal("1.10")),
        (b"[I", b"[1]", [1]),
    ],
)
def test_a_form_carries_one_parameter(kind: bytes, parameter: bytes, argument: Any) -> None:
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(SEVEN), serialization="hessian2") as one:
            assert await one.call("form", FORM % (kind, parameter)) == b"7"
            asked = decode_stream(untimed_body(one.provider.requests[0].body))
            assert asked[5:] == [argument, OWN]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        ("", ""),
        ('a"\n', 'a"\n'),
        ("ä😀" * 20000, "ä😀" * 20000),
        ({"a": 1}, '{"a":1}'),
        (None, "null"),
    ],
)
def test_the_answer_to_a_form_is_the_text_of_a_string_or_json(value: Any, text: str) -> None:
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(encode(1, value)), serialization="hessian2") as o:
            answer = await o.call("form", FORM % (b"Ljava/lang/String;", b"x"))
            assert answer.decode() == text

    asyncio.run(scenario())


def test_the_answer_to_a_form_may_be_no_half_character() -> None:
    async def scenario() -> None:
        def answer(asked: Frame) -> bytes:
            return asked.reply(b"\x91\x01\xed\xa0\x80")

        async with way(answer, serialization="hessian2") as one:
            with pytest.raises(ResultError, match="half a surrogate pair"):
                await one.call("form", FORM % (b"Ljava/lang/String;", b"x"))

    asyncio.run(scenario())
