"""Java's values in Python to hessian2 and back."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import pytest

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.hessian2 import decode, decode_stream, encode
from dragoman.wire.java import Bean, Date, Double, Long, TypedList, TypedMap, enum

UTC = datetime.UTC
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -16, 47, 48, -17, 2047, -2048, 2048, -2049, 262143, 262144),
    *(-262144, -262145, 2**31 - 1, -(2**31), 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)),
    *(2**63, -(2**70), 0.0, 1.0, -1.0, 127.0, 128.0, -128.0, 32767.0, 32768.0, 12.25, 0.001),
    *(1e300, float("inf"), "", "a" * 31, "a" * 32, "a" * 1023, "a" * 1024, "a" * 40000),
    *("é", "日本", "\U0001f600" * 40000, "\ud800x", b"", b"x" * 15, b"x" * 16, b"x" * 1023),
    *(b"x" * 1024, b"x" * 100000, [], [1] * 7, [1] * 8, [[1, 2], [3]], {}, {"a": 1, 2: "b"}),
    Bean("a.B", x=1, y=[Bean("a.B", x=2, y=None)]),
    enum("a.Colour", "RED"),
    decimal.Decimal("1.50"),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    datetime.datetime(2020, 1, 2, 3, 4, 5, 6000, tzinfo=UTC),
    datetime.datetime(2020, 1, 2, 3, 4, tzinfo=UTC),
    datetime.datetime(1, 1, 1, tzinfo=UTC),
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    datetime.date(2020, 1, 2),
    datetime.time(1, 2, 3, 4),
    datetime.timedelta(days=-1, seconds=3, microseconds=5),
    Date(2**62),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_a_value_comes_back(value: Any) -> None:
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


def test_the_values_of_one_stream_come_back_in_order() -> None:
    assert decode_stream(encode(*VALUES)) == VALUES
    assert decode_stream(b"") == []


@pytest.mark.parametrize(
    "value",
    [
        Long(1),
        TypedList("[int", [1, 2]),
        TypedMap("java.util.TreeMap", {"a": Long(2)}),
        Bean("java.math.BigDecimal", value="1"),
    ],
    ids=repr,
)
def test_exact_decoding_keeps_the_types_of_java(value: Any) -> None:
    back = decode(encode(value), exact=True)
    assert back == value
    assert type(back) is type(value)
    assert encode(back) == encode(value)


def test_what_is_shared_is_written_once_and_is_shared_again() -> None:
    shared = [1]
    data = encode([shared, shared])
    assert data == b"\x7a\x79\x91\x51\x91"
    first, second = decode(data)
    assert first is second


def test_a_cycle_comes_back_as_a_cycle() -> None:
    cycle: list[Any] = [1]
    cycle.append(cycle)
    back = decode(encode(cycle))
    assert back[1] is back
    bean = Bean("a.Failure", message="no")
    bean["cause"] = bean
    assert decode(encode(bean))["cause"]["cause"]["message"] == "no"


@pytest.mark.parametrize(
    ("value", "type", "encoded"),
    [
        (1, "J", b"\xe1"),
        (1, "java.lang.Long", b"\xe1"),
        (1, "D", b"\x5c"),
        ([1, 2], "[I", b"\x72\x04[int\x91\x92"),
        ([["a"]], "[[Ljava/lang/String;", b"\x71\x08[[string\x71\x07[string\x01a"),
        ({"a": 1}, "com.x.Y", b"C\x07com.x.Y\x91\x01a\x60\x91"),
        ("RED", "Lcom/x/C;", b"C\x07com.x.C\x91\x04name\x60\x03RED"),
        ([1], "java.util.Set", b"\x71\x11java.util.HashSet\x91"),
        ("1.5", "java.math.BigDecimal", b"C\x14java.math.BigDecimal\x91\x05value\x60\x031.5"),
        (None, "java.lang.Integer", b"N"),
        (b"ab", "[B", b"\x22ab"),
        (Double(1), "java.lang.Object", b"\x5c"),
    ],
)
def test_a_descriptor_decides_the_form(value: Any, type: str, encoded: bytes) -> None:
    assert encode(value, types=[type]) == encoded


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (None, "I"),
        (2**31, "I"),
        (128, "byte"),
        ("1", "I"),
        (True, "I"),
        (1, "Z"),
        (1, "java.lang.String"),
        ("ab", "char"),
        ("x", "java.util.Date"),
        ("x", "java.math.BigDecimal"),
        ({}, "java.util.List"),
        ([], "java.util.Map"),
        (object(), "java.lang.Object"),
    ],
)
def test_what_does_not_fit_its_type_is_refused(value: Any, type: str) -> None:
    with pytest.raises(UsageError):
        encode(value, types=[type])


def test_too_deep_is_refused_both_ways() -> None:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    with pytest.raises(UsageError, match="deeper"):
        encode(value)
    with pytest.raises(LimitError, match="deeper than 256 at byte 256"):
        decode(b"\x79" * 10_000 + b"N")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Q\x90",
        b"V\x01aI\x7f\xff\xff\xff",
        b"\x58I\x7f\xff\xff\xff",
        b"\x58I\xff\xff\xff\xff",
        b"\x60",
        b"C\x01aI\x7f\xff\xff\xff",
        b"C\x01a\x90",
        b"H\x01a",
        b"H\x01aZ",
        b"M\x90NZ",
        b"\x40",
        b"Z",
        b"NN",
    ],
)
def test_what_is_malformed_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"at byte \d+$"):
        decode(data)


def test_truncated_at_every_byte_is_refused() -> None:
    data = encode(VALUES[-1], [VALUES[:25]], VALUES[30:33], Bean("a.B", x=1, y=[b"abc", 1.5]))
    whole = len(decode_stream(data))
    for end in range(len(data)):
        try:
            values = decode_stream(data[:end])
        except ProtocolError:
            continue
        assert len(values) < whole
