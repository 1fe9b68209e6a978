"""What real consumers asked (``tests/conformance/dubbo``), put to the SDK's service: it answers as
the real provider did."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from interop.service import Blue, Green, Plain

from dragoman import dubbo
from dragoman.wire import hessian2
from dragoman.wire.dubbo import fastjson
from tests.dubbo.peer import Reply, peer

RECORDED = Path(__file__).parents[2] / "conformance" / "dubbo"
# JSON has no references.
CYCLES = {"cycle", "Object same bean twice"}
# Dates are written in ISO 8601, which Java reads too, and not as milliseconds.
DATES = {"Date", "Date before 1970", "Date whole minute"}


def recorded(name: str) -> list[dict[str, Any]]:
    """Calls that arrived as they were meant, with replies."""
    found = json.loads((RECORDED / f"{name}.json").read_text())["calls"]
    return [each for each in found if each["outcome"] == "pass" and "reply" in each]


async def answers(calls: list[dict[str, Any]]) -> dict[str, Reply]:
    """What the SDK's service says to each."""
    got = {}
    async with (
        await dubbo.serve([Plain(), Blue(), Green()], 0) as server,
        peer(server.address) as consumer,
    ):
        for call in calls:
            consumer.writer.write(bytes.fromhex(call["request"]))
            got[call["name"]] = await consumer.receive()
    return got


def told(text: bytes) -> Any:
    """A JSON value with the texts of its numbers; members that are null are none, as in Java."""

    def members(pairs: list[tuple[str, Any]]) -> Any:
        return {key: value for key, value in pairs if value is not None}

    def number(text: str) -> str | float:
        return float(text) if "e" in text.lower() else text

    return json.loads(text, parse_float=number, parse_int=str, object_pairs_hook=members)


@pytest.mark.parametrize("name", ["2.6-fastjson", "2.7-fastjson"])
def test_in_fastjson_the_sdk_answers_with_the_text_of_a_real_provider(name: str) -> None:
    calls = [each for each in recorded(name) if each["name"] not in CYCLES | DATES | {"timeout"}]
    assert len(calls) > 90
    got = asyncio.run(answers(calls))
    differ = {}
    for call in calls:
        want = fastjson.decode_reply(bytes.fromhex(call["reply"])[16:])
        reply = got[call["name"]]
        assert reply.status == 20, (call["name"], reply.body)
        have = fastjson.decode_reply(reply.body)
        if (have.kind, told(have.value or b"null")) != (want.kind, told(want.value or b"null")):
            differ[call["name"]] = (have.value, want.value)
    assert differ == {}


@pytest.mark.parametrize("name", ["2.6-hessian2", "2.7-hessian2", "3.3-hessian2"])
def test_what_hessian2_brings_as_object_goes_back_with_javas_types(name: str) -> None:
    undeclared = {"any", "order", "node", "$echo"}
    calls = [each for each in recorded(name) if each["method"] in undeclared]
    # A null has no type.
    calls = [each for each in calls if each["name"] != "cycle" and each["result"] is not None]
    assert len(calls) > 20
    got = asyncio.run(answers(calls))
    differ = {}
    for call in calls:
        want = hessian2.decode_stream(bytes.fromhex(call["reply"])[16:], exact=True)
        reply = got[call["name"]]
        assert reply.status == 20, (call["name"], reply.body)
        have = hessian2.decode_stream(reply.body, exact=True)
        if (have[0] % 3, types_of(have[1:2])) != (want[0] % 3, types_of(want[1:2])):
            differ[call["name"]] = (have, want)
    assert differ == {}


def types_of(value: Any) -> Any:
    """A value with the types that it has, Java's where they are known."""
    java_class = getattr(value, "java_class", None) or type(value).__name__
    if isinstance(value, dict):
        return java_class, {key: types_of(each) for key, each in value.items()}
    if isinstance(value, list):
        return java_class, [types_of(each) for each in value]
    return java_class, value
