"""hessian2 to JSON without Python's objects between, and past values."""

from __future__ import annotations

import base64
import datetime
import json
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import LimitError, ProtocolError
from dragoman.wire.hessian2 import Hessian2Scanner, encode, to_json
from dragoman.wire.java import Bean, Date, TypedMap, enum

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-(2**63), "-9223372036854775808"),
        (2**70, "1180591620717411303424"),
        (-(2**31), "-2147483648"),
        (0.0, "0.0"),
        (-3.0, "-3.0"),
        (300.0, "300.0"),
        (12.25, "12.25"),
        (1e300, "1e+300"),
        (math.inf, '"Infinity"'),
        (-math.inf, '"-Infinity"'),
        (math.nan, '"NaN"'),
        ('a"\\\n\x01', r'"a\"\\\n\u0001"'),
        ("日本\U0001f600", '"日本\U0001f600"'),
        ("\ud83dx\ude00", r'"\ud83dx\ude00"'),
        ('é"\n', r'"é\"\n"'),
        (Decimal("1.50"), "1.50"),
        (Decimal("-1E+3"), "-1E+3"),
        (datetime.datetime(2026, 1, 31, 12, 0, 0, 7000, tzinfo=UTC), '"2026-01-31T12:00:00.007Z"'),
        (datetime.datetime(1969, 12, 31, 23, 59, 59, 999000, UTC), '"1969-12-31T23:59:59.999Z"'),
        (datetime.datetime(1, 1, 1, tzinfo=UTC), '"0001-01-01T00:00:00.000Z"'),
        (Date(2**53), '"+287396-10-12T08:59:00.992Z"'),
        (Date(-(2**53)), '"-283457-03-21T15:00:59.008Z"'),
        (datetime.date(2020, 2, 29), '"2020-02-29"'),
        (datetime.time(1, 2, 3), '"01:02:03"'),
        (datetime.time(1, 2, 3, 450000), '"01:02:03.45"'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, 6), '"2020-01-02T03:04:05.000006"'),
        (datetime.timedelta(hours=1, seconds=61.5), '"PT1H1M1.5S"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (enum("a.Colour", "RED"), '"RED"'),
        ([], "[]"),
        ([1, [2, []]], "[1,[2,[]]]"),
        ({}, "{}"),
        ({"a": 1, "b": {"c": None}}, '{"a":1,"b":{"c":null}}'),
        (Bean("a.B", x=1, y="2"), '{"x":1,"y":"2"}'),
        (Bean("a.B"), "{}"),
        (TypedMap("java.util.TreeMap", {"a": 1}), '{"a":1}'),
        ({1: 2, None: 3, False: 4, 1.5: 5}, '{"1":2,"null":3,"false":4,"1.5":5}'),
        ({Decimal("1.5"): 1, enum("a.C", "R"): 2}, '{"1.5":1,"R":2}'),
        ({(1, "a"): 2, Bean("a.K", x=1, y="z"): 3}, r'{"[1,\"a\"]":2,"{\"x\":1,\"y\":\"z\"}":3}'),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_value_becomes_json(value: Any, text: str) -> None:
    assert to_json(encode(value)).decode() == text
    scanner = Hessian2Scanner(encode(value, 7))
    scanner.skip_value()
    assert scanner.read_json() == b"7"
    assert scanner.at_end


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        ("2020-01-02T03:04:05+02:00", "java.time.OffsetDateTime", '"2020-01-02T03:04:05+02:00"'),
        ("2020-01-02T03:04:05+02:00", "java.time.ZonedDateTime", '"2020-01-02T03:04:05+02:00"'),
        ("2020-01-02T03:04:05+02:00", "java.time.Instant", '"2020-01-02T01:04:05Z"'),
        ("2020-01-02T03:04:05Z", "java.sql.Timestamp", '"2020-01-02T03:04:05.000Z"'),
        ("2020-01-02", "java.util.Calendar", '"2020-01-02T00:00:00.000Z"'),
        ("en-US", "java.util.Locale", '"en_US"'),
        ("a.B", "java.lang.Class", '"a.B"'),
        (0, "java.math.BigInteger", "0"),
        (-5, "java.math.BigInteger", "-5"),
    ],
)
def test_the_jdks_classes_become_what_they_stand_for(value: Any, type: str, text: str) -> None:
    assert to_json(encode(value, types=[type])).decode() == text


def test_bytes_become_base64_whatever_their_chunks() -> None:
    for size in (0, 1, 2, 3, 15, 16, 1000, 100_001):
        data = bytes(i & 255 for i in range(size))
        assert json.loads(to_json(encode(data))) == base64.b64encode(data).decode()
    assert to_json(b"A\x00\x01aA\x00\x01b\x21c") == b'"YWJj"'


def test_the_class_is_there_when_asked_for() -> None:
    value = Bean("a.B", inner=Bean("a.C"), kind=enum("a.D", "X"), price=Decimal(1))
    assert (
        to_json(encode(value), with_class=True)
        == b'{"class":"a.B","inner":{"class":"a.C"},"kind":"X","price":1}'
    )


def test_where_the_enums_are_known_only_they_are_names() -> None:
    data = encode([enum("a.Colour", "RED"), Bean("a.Person", name="Ann")])
    assert to_json(data) == b'["RED","Ann"]'
    assert to_json(data, enums=["a.Colour"]) == b'["RED",{"name":"Ann"}]'
    assert to_json(data, enums=[]) == b'[{"name":"RED"},{"name":"Ann"}]'


def test_what_is_shared_is_written_again() -> None:
    shared = Bean("a.B", x=[1], when=datetime.datetime(2020, 1, 1), n=2**70)
    key = Bean("a.K", x=1, y=2)
    text = to_json(encode([shared, shared["x"], shared, {key: key}, key]))
    one = b'{"x":[1],"when":"2020-01-01T00:00:00","n":1180591620717411303424}'
    assert text == b'[%s,[1],%s,{"{\\"x\\":1,\\"y\\":2}":{"x":1,"y":2}},{"x":1,"y":2}]' % (one, one)


def test_what_a_hidden_field_shares_is_written_where_it_is_referred_to() -> None:
    # A class of x, name, name and y: the first name is hidden, what it and x hold comes again.
    data = b"C\x01a\x94\x01x\x04name\x04name\x01y\x60y\x91y\x92\x01b" + b"\x7aQ\x91Q\x92"
    assert to_json(data) == b'{"x":[1],"name":"b","y":[[1],[2]]}'


def test_a_throwable_that_is_its_own_cause_has_none() -> None:
    failure = Bean("java.lang.RuntimeException", detailMessage="no")
    failure["cause"] = failure
    assert to_json(encode(failure)) == b'{"detailMessage":"no","cause":null}'


def test_a_cycle_is_refused() -> None:
    for cycle in ([], [[]]):
        cycle.append(cycle)
        with pytest.raises(ProtocolError, match="contains itself"):
            to_json(encode(cycle))
    bean = Bean("a.B")
    bean["other"] = [bean]
    with pytest.raises(ProtocolError, match="contains itself"):
        to_json(encode(bean))


def test_references_that_multiply_stop_at_the_bound() -> None:
    value: list[Any] = ["x" * 100]
    for _ in range(60):
        value = [value, value]
    data = encode(value)
    assert len(data) < 500
    with pytest.raises(LimitError, match="more than 1000000 bytes of JSON"):
        to_json(data, json_bytes_max=1_000_000)


def test_long_field_names_stop_at_the_bound() -> None:
    data = b"V" + b"\x04list" + b"I\x00\x00\x40\x00" + b"C\x01a\x91\x33\xff" + b"f" * 1023
    with pytest.raises(LimitError, match="bytes of JSON"):
        to_json(data + b"\x60N" * 0x4000, json_bytes_max=1_000_000)


def test_depth_counts_through_references() -> None:
    inner: list[Any] = []
    for _ in range(99):
        inner = [inner]
    outer: list[Any] = [inner]
    outer.append(inner)
    for _ in range(27):
        outer = [outer]
    to_json(encode(outer))
    deeper = [inner, [[inner]]]
    assert to_json(encode(deeper), depth_max=103)
    with pytest.raises(LimitError, match="nested deeper than 102"):
        to_json(encode(deeper), depth_max=102)
    with pytest.raises(LimitError, match="nested deeper than 128"):
        to_json(b"y" * 10_000)


def test_numbers_of_too_many_digits_are_refused() -> None:
    assert to_json(encode(Decimal("1" * 1024))) == b"1" * 1024
    with pytest.raises(LimitError, match="digits"):
        to_json(encode(Decimal("1" * 1025)))
    assert to_json(encode(10**1000)) == b"1" + b"0" * 1000
    for digits in (1100, 100_000):
        with pytest.raises(LimitError, match="digits"):
            to_json(encode(1 << digits * 4))


def test_objects_that_do_not_look_as_they_should_stay_objects() -> None:
    assert to_json(encode(Bean("java.math.BigDecimal", value="NaN"))) == b'{"value":"NaN"}'
    assert to_json(encode(Bean("java.math.BigDecimal", value=1))) == b'{"value":1}'
    assert to_json(encode(Bean("java.math.BigInteger", signum=1))) == b'{"signum":1}'
    local = "com.alibaba.com.caucho.hessian.io.java8.LocalDateHandle"
    assert to_json(encode(Bean(local, year=1, month=13, day=[1]))) == (
        b'{"year":1,"month":13,"day":[1]}'
    )


def test_what_was_skipped_cannot_be_referred_to() -> None:
    shared = [1]
    scanner = Hessian2Scanner(encode(shared, shared))
    scanner.skip_value()
    with pytest.raises(ProtocolError, match="skipped"):
        scanner.read_json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_say_comes_out_of_hessian2_as_json(value: Any) -> None:
    assert json.loads(to_json(encode(value))) == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_dates_are_the_calendars(ms: int) -> None:
    text = json.loads(to_json(encode(Date(ms))))
    if -62135596800000 <= ms <= 253402300799999:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
        assert text == moment.isoformat(timespec="milliseconds") + "Z"
    else:
        assert text[0] in "+-0"
