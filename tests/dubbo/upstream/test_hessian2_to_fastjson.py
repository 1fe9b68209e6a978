"""The mesh method ``hessian2`` where the provider is asked, or answers, in fastjson."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dragoman.errors import ProtocolError, ResultError, UsageError
from dragoman.wire.hessian2 import decode_stream, encode
from dragoman.wire.java import Bean
from tests.dubbo.fake import untimed, way
from tests.dubbo.upstream.test_hessian2_method import call

DESCRIPTOR = "Ljava/lang/String;JLjava/util/Map;La/B;"
VALUES = ("a\n", 1, {"k": [1.5, None]}, Bean("a.B", n=1))


def ask(reply: bytes, body: bytes) -> tuple[list[Any], list[Any]]:
    """The reply's values, and the request's fields."""

    async def scenario() -> tuple[list[Any], list[Any]]:
        async with way(lambda asked: asked.reply(reply)) as one:
            answer = await one.call("hessian2", body)
            lines = one.provider.requests[0].body.split(b"\n")[:-1]
            *fields, attachments = [json.loads(line) for line in lines]
            return decode_stream(answer), [*fields, untimed(attachments)]

    return asyncio.run(scenario())


def test_arguments_and_attachments_become_json() -> None:
    arguments = encode(*VALUES, types=DESCRIPTOR)
    attachments = encode({"k": "v", "path": "x", "generic": "true"})
    _, asked = ask(b"2\n", call(arguments, attachments, descriptor=DESCRIPTOR))
    assert asked[0] == "2.0.2"
    assert asked[3:5] == ["m", DESCRIPTOR]
    assert asked[5:9] == ["a\n", 1, {"k": [1.5, None]}, {"n": 1}]
    assert asked[9] == {"path": "a.B", "k": "v", "generic": "true"}


@pytest.mark.parametrize(
    ("reply", "values"),
    [
        (b"2\n", [2]),
        (b"1\n7\n", [1, 7]),
        (b'4\n{"a":[1.5]}\n{"k":"v"}\n', [4, {"a": [1.5]}, {"k": "v"}]),
        (b'5\n{"k":"v"}\n', [5, {"k": "v"}]),
        (
            b'0\n{"@type":"x.Y","message":"no","stackTrace":[]}\n',
            [0, Bean("x.Y", detailMessage="no", stackTrace=[])],
        ),
        (b'0\n"just text"\n', [0, Bean("java.lang.RuntimeException", detailMessage="just text")]),
        (b'1\n{1:"one"}\n', [1, {"1": "one"}]),
    ],
)
def test_replies_become_hessian2(reply: bytes, values: list[Any]) -> None:
    assert ask(reply, call(b"", descriptor=""))[0] == values


@pytest.mark.parametrize(
    "body",
    [
        call(b"\x90\x90"),
        call(b""),
        call(b"\x51\x91"),
        call(b"\x90", b"\x91"),
        call(b"\x90", encode({"k": 1})),
        call(b"\x90", b"H\x01k\x01\xed\xa0\x80Z"),
    ],
)
def test_what_cannot_be_converted_is_refused(body: bytes) -> None:
    with pytest.raises(UsageError):
        ask(b"2\n", body)


@pytest.mark.parametrize("reply", [b"1\n{\n", b"1\n1e80591620717411303424\n"])
def test_a_reply_that_is_malformed_is_the_providers_fault(reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        ask(reply, call(b"", descriptor=""))


def test_a_result_in_fastjson_that_contains_itself_is_told_as_what_it_is() -> None:
    with pytest.raises(ResultError) as told:
        ask(b'1\n{"a":{"$ref":"$"}}\n', call(b"", descriptor=""))
    assert "result in fastjson cannot be passed on in hessian2: fastjson: a value that" in str(
        told.value
    )
    assert "cannot be said in JSON" not in str(told.value)
