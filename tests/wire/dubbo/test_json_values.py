"""Arguments in fastjson, as methods of the SDK take them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from dragoman.errors import UsageError
from dragoman.wire.dubbo.json_values import plain, received
from dragoman.wire.hessian2 import encode, to_json
from dragoman.wire.java import Bean
from dragoman.wire.java.from_json import java_type, read_json

LOCAL = datetime.datetime(2020, 2, 29, 23, 59, 58, 500000)
DATE = datetime.datetime(2020, 2, 29, 0, 0, 0, 123000, datetime.UTC)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        (b"1234567890123456.123450", "java.math.BigDecimal", Decimal("1234567890123456.123450")),
        (b"3", "java.math.BigDecimal", Decimal(3)),
        (b"123456789012345678901234567890", "java.math.BigInteger", 123456789012345678901234567890),
        (b'"2020-02-29"', "java.time.LocalDate", datetime.date(2020, 2, 29)),
        (b'"2020-02-29T23:59:58.5"', "java.time.LocalDateTime", LOCAL),
        (b"1582934400123", "java.util.Date", DATE),
        (b'"AQI="', "byte[]", b"\1\2"),
        (b"[1,2]", "byte[]", b"\1\2"),
        (b'[["a"],null]', "java.lang.String[][]", [["a"], None]),
        (b"[1.5]", "double[]", [1.5]),
        (b'["a"]', "java.util.Set", ["a"]),
        (b'{"1":9.90}', "java.util.Map", {"1": Decimal("9.90")}),
        (b'{"price":9.90}', "com.example.Line", Bean("com.example.Line", price=Decimal("9.90"))),
        (b'"RED"', "com.example.Color", Bean("com.example.Color", name="RED")),
        (b"null", "java.lang.Integer", None),
    ],
)  # fmt: skip
def test_a_value_is_what_hessian2_would_have_given(text: bytes, kind: str, value: Any) -> None:
    got = received(read_json(text), java_type(kind))
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b'"x"', "int"),
        (b"null", "int"),
        (b"{}", "java.math.BigDecimal"),
        (b'"today"', "java.time.LocalDate"),
        (b'"x"', "int[]"),
        (b"300", "byte"),
    ],
)
def test_what_is_no_value_of_its_type_is_refused(text: bytes, kind: str) -> None:
    with pytest.raises(UsageError):
        received(read_json(text), java_type(kind))


@pytest.mark.parametrize(
    "text", [b"9.90", b"1.0", b"0.1", b"1.50", b"1E+400", b"12345678901234567890.5", b"-0.0", b"5"]
)
def test_a_number_without_a_type_is_written_again_as_it_came(text: bytes) -> None:
    assert to_json(encode(plain(read_json(text)))) == text


def test_a_number_that_is_a_floats_own_text_is_a_float() -> None:
    assert plain(read_json(b'[1.5, {"a": 0.1}]')) == [1.5, {"a": 0.1}]
    assert type(plain(read_json(b"1.5"))) is float
