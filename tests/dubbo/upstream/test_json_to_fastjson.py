"""The mesh method ``json`` to a provider that is asked in fastjson."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest

from dragoman.errors import NotFoundError, ProtocolError, RemoteError, ResultError, UsageError
from tests.dubbo.fake import Frame, untimed, way

GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"


def lines(frame: Frame) -> list[Any]:
    """The fields of a request in the older form, one JSON value a line."""
    *values, attachments = [json.loads(line) for line in frame.body.split(b"\n")[:-1]]
    return [*values, untimed(attachments)]


def fields(frame: Frame) -> list[Any]:
    """The fields of a request in the later form, with a length before each."""
    values, at = [], 0
    while at < len(frame.body):
        (length,) = struct.unpack_from(">I", frame.body, at)
        values.append(json.loads(frame.body[at + 4 : at + 4 + length]))
        at += 4 + length
    return [*values[:-1], untimed(values[-1])]


def body(**call: Any) -> bytes:
    return b"a.B\0m\0\0\0" + json.dumps(call).encode()


def answers(reply: bytes) -> Any:
    return lambda asked: asked.reply(reply)


def ask(reply: bytes, options: dict[str, Any] | None = None, **call: Any) -> tuple[bytes, Frame]:
    async def scenario() -> tuple[bytes, Frame]:
        async with way(answers(reply), **(options or {})) as one:
            answer = await one.call("json", body(**call))
            return answer, one.provider.requests[0]

    return asyncio.run(scenario())


def test_the_later_wire_form_has_a_length_before_each_field() -> None:
    call = {"args": ["a\nb", {"k": 1}], "attachments": {"x": "y"}}
    plain = lines(ask(b"1\n7\n", **call)[1])
    later = fields(ask(b"1\n7\n", {"serialization": "fastjson-lengths", "group": "g"}, **call)[1])
    assert plain == [
        "2.0.1",
        "a.B",
        None,
        "m",
        "Ljava/lang/String;Ljava/util/Map;",
        "a\nb",
        {"k": 1},
        {"path": "a.B", "x": "y"},
    ]
    assert later == [*plain[:-1], {"path": "a.B", "group": "g", "x": "y"}]


def test_a_form_goes_out_in_the_later_wire_form_too() -> None:
    form = b"interface=a.B&method=m&parameterTypesString=Ljava%2Flang%2FString%3B&parameter=x+y"

    async def scenario() -> None:
        async with way(answers(b"1\n7\n"), serialization="fastjson-lengths") as one:
            assert await one.call("form", form) == b"7"
            asked = fields(one.provider.requests[0])
            expected = ["2.0.1", "a.B", None, "m", "Ljava/lang/String;", "x y", {"path": "a.B"}]
            assert asked == expected

    asyncio.run(scenario())


def test_generic_invocation_sends_names_types_and_values() -> None:
    types = ["a.Bean", "int", "java.util.List<a.Bean>", "String[]", "long[][]"]
    args = [{"n": 1}, 2, [{"n": 3}], ["x"], [[4]]]
    answer, asked = ask(b"1\n7\n", types=types, args=args, generic=True)
    assert answer == b"7"
    assert lines(asked) == [
        "2.0.1",
        "a.B",
        None,
        "$invoke",
        GENERIC,
        "m",
        ["a.Bean", "int", "java.util.List", "java.lang.String[]", "long[][]"],
        args,
        {"path": "a.B", "generic": "true"},
    ]


def test_generic_invocation_without_types_leaves_the_choice_to_the_provider() -> None:
    asked = lines(ask(b"1\n7\n", args=[1], generic=True)[1])
    assert asked[4:] == [GENERIC, "m", None, [1], {"path": "a.B", "generic": "true"}]


def test_gson_goes_as_json_in_strings_and_comes_back_as_json() -> None:
    reply = b'1\n"{\\"n\\":[1,2.50]}"\n'
    answer, asked = ask(reply, types=["a.Bean", "int"], args=[{"n": "ä"}, 2], generic="gson")
    assert answer == b'{"n":[1,2.50]}'
    types, args, attachments = lines(asked)[-3:]
    assert types == ["a.Bean", "int"]
    assert [json.loads(each) for each in args] == [{"n": "ä"}, 2]
    assert attachments == {"path": "a.B", "generic": "gson"}


def test_gson_that_is_no_json_is_the_providers_fault() -> None:
    with pytest.raises(ProtocolError, match="should be JSON"):
        ask(b'1\n"{"\n', args=[], generic="gson")


CLASSES = b'1\n{"class":"a.B","n":[{"class":"a.C"},{"x":1,"class":"a.D"}],"class":1}\n'


def test_class_names_of_generic_results_are_left_out_unless_asked_for() -> None:
    assert ask(CLASSES, args=[], generic=True)[0] == b'{"n":[{},{"x":1}],"class":1}'
    wanted = ask(CLASSES, args=[], generic=True, **{"class": True})[0]
    assert wanted == CLASSES[2:-1]
    assert ask(CLASSES, args=[])[0] == CLASSES[2:-1], "a map's own member"


def test_an_envelope_brings_the_attachments_too() -> None:
    answer, asked = ask(b'4\n[1,"x"]\n{"a\\n":"b\\r\\n: c"}\n', args=[], envelope=True)
    assert json.loads(answer) == {"result": [1, "x"], "attachments": {"a\n": "b\r\n: c"}}
    assert lines(asked)[0] == "2.0.2", "older protocols have no attachments in replies"
    for without in (b"2\n", b"5\nnull\n", b"5\n{}\n"):
        answer, _ = ask(without, args=[], envelope=True)
        assert json.loads(answer) == {"result": None, "attachments": {}}


def test_a_one_way_call_asks_for_no_reply() -> None:
    async def scenario() -> None:
        async with way(lambda asked: None) as one:
            assert await one.call("json", body(args=["x"], oneway=True)) == b""
            while not one.provider.requests:
                await asyncio.sleep(0.001)
            assert one.provider.requests[0].flags == 0x80 | 6

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["path", "interface", "group", "version", "generic"])
def test_attachments_of_the_calls_own_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"attachments: {name}"):
        ask(b"1\n7\n", args=[], attachments={name: "x"})


@pytest.mark.parametrize(
    "call",
    [
        {"attachments": {"a": 1}},
        {"attachments": [1]},
        {"generic": "yes"},
        {"generic": 1},
        {"oneway": "x"},
        {"class": 1},
        {"envelope": None},
        {"types": ["a b"], "args": [1], "generic": True},
    ],
)
def test_what_is_no_such_call_is_refused(call: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ask(b"1\n7\n", **call)


STATUSES = {
    25: ResultError,
    40: UsageError,
    50: ResultError,
    60: NotFoundError,
    70: RemoteError,
    80: RemoteError,
    90: ProtocolError,
}


@pytest.mark.parametrize("status", STATUSES)
def test_an_error_status_has_the_first_line_of_its_text(status: int) -> None:
    text = "a.SomeException: why\n\tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)\n" * 1000

    def fails(asked: Frame) -> bytes:
        return asked.reply(json.dumps(text).encode() + b"\n", status=status)

    async def scenario() -> None:
        async with way(fails) as one:
            with pytest.raises(STATUSES[status]) as caught:
                await one.call("json", body())
            assert str(caught.value).endswith("a.SomeException: why")
            assert not caught.value.retry_safe or status in (40, 60)

    asyncio.run(scenario())
