"""What Dubbo 3.3 wrote in fastjson2 is read as what it was, and written again byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interop.python_values import differs

from dragoman.wire.dubbo.fastjson2 import reply_as_hessian2, request_of
from dragoman.wire.dubbo.invocation import (
    FASTJSON2,
    HESSIAN2,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    parameters,
)
from dragoman.wire.jsonb.reader import decode
from dragoman.wire.jsonb.writer import encode
from tests.tables import each_row

RECORDING = json.loads((Path(__file__).parent / "3.3-fastjson2.json").read_text())
CALLS = RECORDING["calls"]
REPLIED = [each for each in CALLS if "reply" in each]
# Java knows what it writes: in a result it tells an int from a byte and a text from a char, and in
# an array of beans it numbers their fields. What was read does not say so much.
SAID_BY_DECLARATIONS = {
    "byte -128", "short 32767", "char letter", "char chinese", "float 1.5", "float 0.1", "Byte",
    "Short", "Character", "Float", "nested generics", "bean[]", "bean", "subclass",
    "List of beans", "chain", "declared exception", "RuntimeException", "exception with cause",
    "generic true, declared exception",
}  # fmt: skip


def body(frame: str) -> bytes:
    return bytes.fromhex(frame)[16:]


def fields(data: bytes) -> list[bytes]:
    found = []
    while data:
        length = int.from_bytes(data[:4])
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def by_name(calls: list[dict[str, Any]]) -> Any:
    return each_row("call", calls, names=[each["name"] for each in calls])


@by_name(CALLS)
def test_a_request_is_read_as_its_consumer_meant_it(call: dict[str, Any]) -> None:
    request = decode_request(body(call["request"]), FASTJSON2)
    assert (request.method, request.descriptor) == (call["method"], call["descriptor"])
    assert request.attachments["path"] == request.path
    if call["name"] == "double -0.0":
        assert request.arguments == [0.0]  # the consumer had lost its sign
        return
    why = [
        differs(told, argument, declared=True)
        for told, argument in zip(call["arguments"], request.arguments, strict=True)
    ]
    assert not any(why), why


@by_name([each for each in REPLIED if each["outcome"] == "pass" and each["name"] != "timeout"])
def test_a_reply_is_read_as_its_consumer_read_it(call: dict[str, Any]) -> None:
    reply = decode_reply(body(call["reply"]), FASTJSON2)
    told = call["result"]
    if isinstance(told, dict) and "throwable" in told:
        said = f"{reply.exception.java_class}: {reply.exception['detailMessage']}"
        assert reply.threw and said.startswith(f"{told['throwable']}: {told['message']}")
        return
    if call["name"] == "generic true, declared exception":
        assert reply.threw and reply.exception.java_class == told
        return
    if isinstance(told, dict) and "enum" in told and isinstance(reply.value, str):
        told = told["name"]  # a generic call's
    assert not reply.threw
    assert differs(told, reply.value, declared=True) is None
    if "attachments" in call["name"]:
        assert reply.attachments["answered-by"] == "/"


@by_name(CALLS)
def test_what_was_read_is_written_as_java_wrote_it(call: dict[str, Any]) -> None:
    written = fields(body(call["request"]))
    kinds = [None] * 5 + parameters(call["descriptor"]) + [None]
    pairs: list[tuple[bytes, str | None]] = list(zip(written, kinds, strict=True))
    pairs += [(each, None) for each in fields(body(call.get("reply", "")))[1:]]
    differ = [data for data, kind in pairs if encode(decode(data, exact=True), kind) != data]
    if call["name"] not in SAID_BY_DECLARATIONS:
        assert differ == []
    for data in differ:
        # In other words, which say the same.
        again = encode(decode(data, exact=True))
        assert repr(decode(again, exact=True)) == repr(decode(data, exact=True))


@by_name(CALLS)
def test_a_request_goes_by_hessian2_and_comes_out_as_it_was(call: dict[str, Any]) -> None:
    """As the agents and the SDK's client make theirs."""
    told = decode_request(body(call["request"]), FASTJSON2)
    if "same bean" in call["name"] or "cycle" in call["name"]:
        return  # compared as text, which a cycle has not
    exact = [decode(each, exact=True) for each in fields(body(call["request"]))[5:-1]]
    meant = encode_request(
        told.path,
        told.method,
        told.descriptor,
        exact,
        service_version=told.service_version,
        attachments=told.attachments,
        protocol=told.protocol or "",
        serialization=HESSIAN2,
    )
    made = decode_request(request_of(meant), FASTJSON2)
    assert repr(made[:6]) == repr(told[:6])
    assert made.attachments == told.attachments


@by_name(REPLIED)
def test_a_reply_is_the_same_in_hessian2(call: dict[str, Any]) -> None:
    one = decode_reply(body(call["reply"]), FASTJSON2)
    other = decode_reply(reply_as_hessian2(body(call["reply"])), HESSIAN2)
    assert one.threw == other.threw and one.attachments == other.attachments
    assert repr(one.value) == repr(other.value)


@by_name([each for each in REPLIED if each["name"] not in SAID_BY_DECLARATIONS])
def test_a_reply_is_written_as_a_provider_writes_it(call: dict[str, Any]) -> None:
    want = body(call["reply"])
    reply = decode_reply(want, FASTJSON2)
    value = None if reply.value is None else decode(fields(want)[1], exact=True)
    attachments = reply.attachments
    assert encode_reply(value, attachments=attachments, serialization=FASTJSON2) == want
