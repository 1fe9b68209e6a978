"""What real providers and consumers wrote (``tests/conformance/dubbo``), through the egress."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import DragomanError, LimitError, RemoteError, ResultError
from dragoman.wire.dubbo.invocation import HESSIAN2, decode_reply, decode_request, encode_request
from dragoman.wire.hessian2 import encode
from tests.dubbo.fake import Frame, way

RECORDED = Path(__file__).parents[2] / "conformance" / "dubbo"
FASTJSON2 = ("3.3-fastjson2",)
HESSIAN = ("2.6-hessian2", "2.7-hessian2", "3.3-hessian2")
FASTJSON = ("2.6-fastjson", "2.7-fastjson")
BODY = b"a.B\0m\0\0\0{}"
PACKAGE = "org.dragoman.interop"
BYTES_MAX = 20_000
UNSAID = "the provider's result cannot be said in JSON: "
UNTOLD = "the provider's result in fastjson cannot be passed on in hessian2: "
HESSIAN_CYCLE = r"hessian2: a value that contains itself, which JSON cannot say, at byte \d+"
FASTJSON_CYCLE = "fastjson: a value that contains itself, which JSON cannot say"


class Untold(Exception):
    """JSON does not say this value as the description does."""


def calls(name: str) -> list[dict[str, Any]]:
    found = json.loads((RECORDED / f"{name}.json").read_text())["calls"]
    return [each for each in found if len(each.get("reply", "")) < 2 * BYTES_MAX]


def expected(told: Any) -> Any:
    """What a described value is in JSON, as Python reads it."""
    if told is None or isinstance(told, bool | str):
        return told
    kind = next(iter(told))
    value = told[kind]
    match kind:
        case "byte" | "short" | "int":
            return value
        case "float" | "double":
            return value if isinstance(value, str) else float(value)
        case "long" | "integer":
            return int(value)
        case "decimal":
            return Decimal(value)
        case "char":
            return value
        case "bytes":
            return base64.b64encode(bytes.fromhex(value)).decode()
        case "date_ms":
            since = datetime.timedelta(milliseconds=int(value))
            moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + since
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
        case "array" | "list":
            return [expected(each) for each in told["items"]]
        case "map":
            return {key_text(key): expected(each) for key, each in told["entries"]}
        case "enum":
            return told["name"]
        case "bean":
            return {name: expected(each) for name, each in told["fields"].items()}
    raise Untold(kind)


def key_text(told: Any) -> str:
    key = expected(told)
    if isinstance(key, str):
        return key
    if isinstance(key, bool) or key is None:
        return json.dumps(key)
    if isinstance(key, int):
        return str(key)
    raise Untold("a key")


def same(found: Any, told: Any) -> bool:
    if isinstance(told, float) and isinstance(found, int | Decimal):
        return math.isclose(float(found), told, rel_tol=1e-6)  # a float came as a double
    if isinstance(told, list) and isinstance(found, list):
        pairs = zip(found, told, strict=False)
        return len(found) == len(told) and all(same(a, b) for a, b in pairs)
    if isinstance(told, dict) and isinstance(found, dict):
        return found.keys() == told.keys() and all(same(found[key], told[key]) for key in told)
    return type(found) is type(told) and bool(found == told)


@pytest.mark.parametrize("name", HESSIAN)
def test_recorded_replies_of_hessian2_come_back_as_json(name: str) -> None:
    # What was late for its consumer is not what that has as its result.
    recorded = [each for each in calls(name) if "reply" in each and each["name"] != "timeout"]
    replies = [bytes.fromhex(each["reply"]) for each in recorded]
    compared = 0

    def play(asked: Frame) -> bytes:
        reply = replies.pop(0)
        return asked.reply(reply[16:], status=reply[3], serialization=reply[2] & 31)

    async def scenario() -> None:
        nonlocal compared
        async with way(play, serialization="hessian2") as one:
            for each in recorded:
                told = each["result"]
                if each["name"].endswith("declared exception") and isinstance(told, str):
                    # Told by the wrapper's class; what comes is what is wrapped.
                    told = {"throwable": f"{PACKAGE}.RefusedException", "message": "no 中"}
                if isinstance(told, dict) and "throwable" in told:
                    with pytest.raises(RemoteError) as caught:
                        await one.call("json", BODY)
                    said = f"{told['throwable']}: {told['message']}"
                    assert str(caught.value) == " ".join(said.split()), each["name"]
                    compared += 1
                    continue
                if each["name"] == "cycle":
                    with pytest.raises(ResultError) as refused:
                        await one.call("json", BODY)
                    assert re.fullmatch(UNSAID + HESSIAN_CYCLE, str(refused.value))
                    continue
                try:
                    answer = await one.call("json", BODY)
                except DragomanError as error:
                    pytest.fail(f"{each['name']}: {error}")
                found = json.loads(answer, parse_float=Decimal)
                try:
                    wanted = expected(told)
                except Untold:
                    continue
                assert same(found, wanted), (each["name"], found, wanted)
                compared += 1

    asyncio.run(scenario())
    assert compared > 40, f"only {compared} of {len(recorded)} could be compared"


@pytest.mark.parametrize("name", FASTJSON)
def test_recorded_replies_of_fastjson_come_back_as_json_and_as_hessian2(name: str) -> None:
    recorded = [each for each in calls(name) if each.get("outcome") == "pass" and "reply" in each]
    replies = [bytes.fromhex(each["reply"]) for each in recorded for _ in range(2)]
    call = b"a.B\0m\0\0\0\0" + bytes(4)

    def play(asked: Frame) -> bytes:
        reply = replies.pop(0)
        return asked.reply(reply[16:], status=reply[3], serialization=reply[2] & 31)

    async def scenario() -> None:
        async with way(play) as one:
            for each in recorded:
                told = each["result"]
                threw = isinstance(told, dict) and "throwable" in told
                if each["name"] == "cycle":
                    # Between fastjson and hessian2 it is JSON, which cannot say it either.
                    for form, body, why in (("json", BODY, UNSAID), ("hessian2", call, UNTOLD)):
                        with pytest.raises(ResultError) as refused:
                            await one.call(form, body)
                        assert str(refused.value) == why + FASTJSON_CYCLE
                    continue
                if threw:
                    with pytest.raises(RemoteError, match=told["throwable"].replace("$", ".")):
                        await one.call("json", BODY)
                else:
                    json.loads(await one.call("json", BODY))
                reply = decode_reply(await one.call("hessian2", call), HESSIAN2)
                assert reply.threw == threw, each["name"]

    asyncio.run(scenario())
    assert len(recorded) > 40


@pytest.mark.parametrize("name", [*HESSIAN, *FASTJSON, *FASTJSON2])
def test_recorded_requests_are_read(name: str) -> None:
    for each in calls(name):
        frame = bytes.fromhex(each["request"])
        if each["name"] == "cycle" and name in FASTJSON:
            with pytest.raises(LimitError) as caught:
                decode_request(frame[16:], frame[2] & 31)
            assert str(caught.value) == FASTJSON_CYCLE
            continue
        request = decode_request(frame[16:], frame[2] & 31)
        assert request.descriptor == each["descriptor"], each["name"]
        assert request.method == each["method"]
        assert len(request.arguments) == len(each["arguments"])
        assert request.attachments["path"] == request.path


@pytest.mark.parametrize("name", HESSIAN)
def test_recorded_requests_are_written_byte_by_byte(name: str) -> None:
    """Whatever is in them: arguments in, the same arguments out."""
    checked = 0
    for each in calls(name):
        frame = bytes.fromhex(each["request"])
        request = decode_request(frame[16:], HESSIAN2)
        plain = all(isinstance(one, str | int | bool | None) for one in request.arguments)
        if not plain or "BigInteger" in each["name"] or each["name"] == "Object Long":
            continue  # Java writes more of a BigInteger; an int in an Object may be a long
        body = encode_request(
            request.path,
            request.method,
            request.descriptor,
            request.arguments,
            service_version=request.service_version,
            protocol=request.protocol or "",
        )
        head = frame[16:].index(b"H" + encode("path"))
        assert body[:head] == frame[16 : 16 + head], each["name"]
        checked += 1
    assert checked > 15
