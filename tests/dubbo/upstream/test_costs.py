"""Which requests and replies may be transcoded on the loop, and which are too costly for that."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fuzz.costs import check

from dragoman.dubbo.upstream.costs import reply_is_costly, request_is_costly
from dragoman.dubbo.upstream.encode_request import METHODS, Requests
from dragoman.errors import UsageError
from dragoman.wire.dubbo import invocation

FORM, JSON, HESSIAN2_METHOD = (METHODS[name] for name in (b"form", b"json", b"hessian2"))
HESSIAN2, FASTJSON, FASTJSON2 = 2, 6, 23
ALL = (HESSIAN2, FASTJSON, FASTJSON2)
MIB = 1 << 20


def json_call(argument: bytes) -> bytes:
    return b'a.B\0m\0\0\0{"args":[' + argument + b"]}"


def form(types: bytes, argument: bytes) -> bytes:
    return b"interface=a.B&method=m&parameterTypesString=" + types + b"&parameter=" + argument


def many(one: bytes, count: int) -> bytes:
    return b"[" + b",".join([one] * count) + b"]"


@pytest.mark.parametrize("serialization", ALL)
@pytest.mark.parametrize("one", [b"0", b"{}", b"[]", b'""', b"1.5"])
def test_what_holds_many_values_is_costly_and_what_is_short_never(
    serialization: int, one: bytes
) -> None:
    # No shorter text holds so many values.
    short = json_call(many(one, 7000 // (len(one) + 1)))
    assert not request_is_costly(serialization, JSON, short)
    assert request_is_costly(serialization, JSON, json_call(many(one, 100_000)))


@pytest.mark.parametrize("serialization", ALL)
def test_a_long_text_costs_by_its_bytes_alone(serialization: int) -> None:
    text = b'"' + b"a" * (MIB - 1000) + b'"'
    assert not request_is_costly(serialization, JSON, json_call(text))
    assert request_is_costly(serialization, JSON, json_call(text + b" " * 2000))


def test_values_that_stay_text_may_be_more_of_them() -> None:
    body = json_call(many(b"0", 40_000))
    assert not request_is_costly(FASTJSON, JSON, body)
    assert request_is_costly(HESSIAN2, JSON, body)
    assert request_is_costly(FASTJSON2, JSON, body)


@pytest.mark.parametrize("types", [b"Ljava/lang/String;", b"Ljava%2Flang%2FString%3B"])
def test_commas_in_a_forms_text_are_no_values(types: bytes) -> None:
    body = form(types, b"," * 100_000)
    assert not any(request_is_costly(each, FORM, body) for each in ALL)
    assert all(request_is_costly(each, FORM, form(types, b"," * 2 * MIB)) for each in ALL)


def test_values_in_a_form_count_encoded_or_not() -> None:
    types = b"Ljava/util/List;"
    for argument in (many(b"0", 30_000), many(b"0", 30_000).replace(b",", b"%2C")):
        assert request_is_costly(HESSIAN2, FORM, form(types, argument))
        assert not request_is_costly(FASTJSON, FORM, form(types, argument))


def hessian2_call(arguments: bytes, attachments: int) -> bytes:
    names = b"\0".join([b"a.B", b"m", b"", b"", b"Ljava/lang/Object;", b""])
    return names + len(arguments).to_bytes(4, "big") + arguments + b"H" + b"N" * attachments


def test_arguments_in_hessian2_are_passed_on_and_only_attachments_cost() -> None:
    assert not request_is_costly(HESSIAN2, HESSIAN2_METHOD, hessian2_call(b"N" * 8 * MIB, 10))
    assert request_is_costly(HESSIAN2, HESSIAN2_METHOD, hessian2_call(b"N", 200_000))
    assert request_is_costly(FASTJSON, HESSIAN2_METHOD, hessian2_call(b"N" * 200_000, 10))
    # Cut off anywhere it is small work: it is refused.
    for cut in (b"a.B\0m", b"a.B\0m\0\0\0x\0\0\0"):
        request_is_costly(HESSIAN2, HESSIAN2_METHOD, cut + b"x" * 9000)


def asked(serialization: str, more: bytes = b"") -> bytes:
    call = b'a.B\0m\0\0\0{"args":[]' + more + b"}"
    return Requests(serialization).make_asked(JSON, call, 0)[1]


@pytest.mark.parametrize(("name", "number"), [("hessian2", 2), ("fastjson2", 23)])
@pytest.mark.parametrize("value", [[0] * 200_000, [{}] * 140_000, [0.1 + i for i in range(40_000)]])
def test_a_result_of_many_values_is_costly_and_a_text_is_not(
    name: str, number: int, value: Any
) -> None:
    def reply(result: Any) -> bytes:
        return invocation.encode_reply(result, serialization=number)

    assert reply_is_costly(asked(name), number, reply(value))
    assert not reply_is_costly(asked(name), number, reply("a" * (MIB - 1000)))
    assert reply_is_costly(asked(name), number, reply("a" * 2 * MIB))
    assert not reply_is_costly(asked(name), number, reply([0] * 1000))


def test_a_result_in_fastjson_is_text_already() -> None:
    reply = invocation.encode_reply([0] * 400_000, serialization=FASTJSON)
    assert not reply_is_costly(asked("fastjson"), FASTJSON, reply)
    assert reply_is_costly(asked("fastjson"), FASTJSON, reply + b" " * MIB)


def test_what_was_asked_must_be_whole() -> None:
    with pytest.raises(UsageError):
        reply_is_costly(b"", HESSIAN2, b"N" * 9000)


def test_random_calls_that_are_not_costly_take_a_slice_at_most() -> None:
    for seed in range(6):
        check(random.Random(seed))
