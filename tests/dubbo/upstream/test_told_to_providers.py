"""What a provider is told beside the call: how long it may take, its own path and token."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dragoman.dubbo.upstream.encode_request import Requests
from dragoman.errors import DeadlineError
from dragoman.wire.dubbo.invocation import Request, decode_request
from dragoman.wire.hessian2 import encode
from tests.dubbo.fake import Frame, way
from tests.dubbo.upstream.test_hessian2_method import call

NUMBERS = {"hessian2": 2, "fastjson": 6, "fastjson2": 23}
SERIALIZATIONS = list(NUMBERS)
FORM = b"interface=a.B&method=m&parameterTypesString=Ljava%2Flang%2FString%3B&parameter=x"
OF_INT = b"interface=a.B&method=m&parameterTypesString=I&parameter=7"
JSON = b'a.B\0m\0\0\0{"args":[7]}'
BODIES = {
    "form": ("form", FORM),
    "form of an int": ("form", OF_INT),
    "json": ("json", JSON),
    "generic": ("json", b'a.B\0m\0\0\0{"args":[7],"generic":true}'),
    "hessian2": ("hessian2", call(b"\x97")),
    "oneway": ("hessian2-oneway", call(b"\x97")),
}


def made(
    serialization: str, kind: str, timeout_ms: int = 1500, body: bytes = b"", **options: Any
) -> Request:
    """The request as a provider reads it."""
    method, whole = BODIES[kind]
    frame = Requests(serialization, **options).make(method.encode(), 1, body or whole, timeout_ms)
    return decode_request(frame[16:], NUMBERS[serialization])


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
@pytest.mark.parametrize("kind", BODIES)
def test_how_long_a_call_may_take_is_said_as_java_says_it(serialization: str, kind: str) -> None:
    said = made(serialization, kind).attachments
    assert (said["timeout"], said["_TO"]) == ("1500", 1500)
    assert type(said["_TO"]) is int
    for timeout_ms in (1, 9, 10, 47, 48, 2047, 2048, 600_000, 86_400_000, 0x7FFFFFFF):
        said = made(serialization, kind, timeout_ms).attachments
        assert (said["timeout"], said["_TO"]) == (str(timeout_ms), timeout_ms)
    assert not {"timeout", "_TO"} & made(serialization, kind, 0).attachments.keys()


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
@pytest.mark.parametrize("name", ["timeout", "_TO"])
def test_what_the_caller_says_himself_of_it_stands_alone(serialization: str, name: str) -> None:
    asked = b'a.B\0m\0\0\0{"args":[7],"attachments":{"%b":"77","k":"v"}}' % name.encode()
    said = made(serialization, "json", body=asked).attachments
    assert said.items() >= {name: "77", "k": "v"}.items()
    assert len({"timeout", "_TO"} & said.keys()) == 1
    asked = call(b"\x97", encode({"k": "v", name: "77"}))
    said = made(serialization, "hessian2", body=asked).attachments
    assert said.items() >= {name: "77", "k": "v"}.items()
    assert len({"timeout", "_TO"} & said.keys()) == 1


@pytest.mark.parametrize("serialization", SERIALIZATIONS)
@pytest.mark.parametrize("kind", BODIES)
def test_the_path_and_the_token_of_a_provider_are_named(serialization: str, kind: str) -> None:
    plain = made(serialization, kind)
    assert "token" not in plain.attachments and plain.attachments["path"] == "a.B"
    asked = made(serialization, kind, path="custom/path", token="sesame", group="g", version="1")
    # As consumers of 2.7 and 3 write it: the interface in its field, the path in the attachments.
    assert (asked.path, asked.service_version) == ("a.B", "1")
    said = asked.attachments
    assert (said["path"], said["interface"], said["token"]) == ("custom/path", "a.B", "sesame")
    assert (said["group"], said["version"]) == ("g", "1")
    before = made(serialization, kind, path="ctx/").attachments
    assert (before["path"], before["interface"]) == ("ctx/a.B", "a.B")


def test_a_call_is_told_what_is_left_of_its_time_and_no_more_than_a_provider_is_given() -> None:
    async def scenario() -> None:
        async with way(lambda asked: asked.reply(b"1\n7\n"), timeout_ms=3000) as one:
            for allowed_ms in (1000, 60_000):
                await one.call("json", JSON, timeout_ms=allowed_ms)
            left = []
            for asked in one.provider.requests:
                said = json.loads(asked.body.split(b"\n")[-2])
                assert said["timeout"] == str(said["_TO"])
                left.append(said["_TO"])
            assert 500 < left[0] <= 1000 and left[1] == 3000

    asyncio.run(scenario())


def test_a_provider_that_has_never_answered_is_said_to_have_never_answered_in_this(
    caplog: pytest.LogCaptureFixture,
) -> None:
    silent = True

    def answer(asked: Frame) -> bytes | None:
        return None if silent else asked.reply(b"1\n7\n")

    async def scenario() -> None:
        nonlocal silent
        async with way(answer) as one:
            for _ in range(3):
                with pytest.raises(DeadlineError, match="never answered in fastjson"):
                    await one.call("json", JSON, timeout_ms=200)
            silent = False
            assert await one.call("json", JSON) == b"7"
            silent = True
            with pytest.raises(DeadlineError) as caught:
                await one.call("json", JSON, timeout_ms=100)
            assert "never" not in str(caught.value)
            await one.egress.link.close()

    asyncio.run(scenario())
    assert caplog.text.count("never answered in fastjson") == 1


def test_who_answers_the_probe_in_this_is_not_said_to_have_never_answered_in_it() -> None:
    def answer(asked: Frame) -> bytes | None:
        return asked.reply(b'1\n"OK"\n') if b"$echo" in asked.body else None

    async def scenario() -> None:
        async with way(answer, finding="a.B") as one:
            with pytest.raises(DeadlineError) as caught:
                await one.call("json", JSON, timeout_ms=200)
            assert "never" not in str(caught.value)
            await one.egress.link.close()

    asyncio.run(scenario())
