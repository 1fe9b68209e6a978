"""JSON out is JSON in: what is printed for a value is taken as an argument of its type."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.dubbo.upstream.decode_reply import Replies
from dragoman.dubbo.upstream.encode_request import Requests
from dragoman.errors import UsageError
from dragoman.wire.dubbo.invocation import FASTJSON2, HESSIAN2, decode_request, encode_reply
from dragoman.wire.hessian2 import decode, encode
from dragoman.wire.java import Bean, BigInteger, Date, Long
from dragoman.wire.java import from_text as javatext
from dragoman.wire.java.from_json import fit, java_type, read_json
from dragoman.wire.java.jdk import HANDLE, JAVA8
from dragoman.wire.java.to_bean import TO_JAVA
from dragoman.wire.jsonb.writer import encode as encode_jsonb

INT = st.integers(-(2**31), 2**31 - 1)
NANO = st.integers(0, 999_999_999) | st.just(0) | st.just(500_000_000)
YEAR = st.integers(1, 9999) | st.integers(-999_999_999, 999_999_999)
OFFSET = st.builds(
    lambda n: Bean(JAVA8 + "ZoneOffsetHandle", seconds=n), st.integers(-64800, 64800)
)
DATE = st.builds(
    lambda year, month, day: Bean(JAVA8 + "LocalDateHandle", year=year, month=month, day=day),
    YEAR, st.integers(1, 12), st.integers(1, 28),
)  # fmt: skip
TIME = st.builds(
    lambda h, m, s, nano: Bean(JAVA8 + "LocalTimeHandle", hour=h, minute=m, second=s, nano=nano),
    st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), NANO,
)  # fmt: skip
LOCAL = st.builds(
    lambda date, time: Bean(JAVA8 + "LocalDateTimeHandle", date=date, time=time), DATE, TIME
)
MS = st.integers(-62135596800000, 253402300799999) | st.integers(-(2**50), 2**50)


def made(name: str, **fields: Any) -> Any:
    return st.builds(lambda **given: Bean(name, **given), **fields)


def zoned(local: Bean, offset: Bean, zone: str | None) -> Bean:
    own = javatext._offset_name(offset["seconds"])
    return Bean(JAVA8 + "ZonedDateTimeHandle", dateTime=local, offset=offset, zoneId=zone or own)


# Java's type -> values of it as they come from Java.
VALUES: dict[str, Any] = {
    "boolean": st.booleans(),
    "byte": st.integers(-128, 127),
    "int": INT,
    "long": st.builds(Long, st.integers(-(2**63), 2**63 - 1)),
    "double": st.floats(),
    "java.lang.Float": st.floats(width=32),
    "java.lang.String": st.text(st.characters(categories=("L", "N", "Cs", "Zs")), max_size=8),
    "java.lang.Character": st.characters(max_codepoint=0xFFFF),
    "byte[]": st.binary(max_size=20),
    "char[]": st.text(max_size=5),
    "java.math.BigInteger": st.builds(BigInteger, st.integers(-(10**60), 10**60)),
    "java.math.BigDecimal": st.decimals(allow_nan=False, allow_infinity=False).map(
        lambda number: Bean("java.math.BigDecimal", value=str(number).replace("E+", "E"))
    ),
    "java.util.Date": st.builds(Date, MS),
    "java.util.Calendar": made(HANDLE + "CalendarHandle", date=st.builds(Date, MS)),
    "java.sql.Date": made("java.sql.Date", value=st.builds(Date, MS)),
    "java.sql.Time": made("java.sql.Time", value=st.builds(Date, MS)),
    "java.sql.Timestamp": made("java.sql.Timestamp", value=st.builds(Date, MS)),
    "java.time.Instant": made(
        JAVA8 + "InstantHandle",
        seconds=st.builds(Long, st.integers(-31557014167219200, 31556889864403199)), nanos=NANO,
    ),
    "java.time.LocalDate": DATE,
    "java.time.LocalTime": TIME,
    "java.time.LocalDateTime": LOCAL,
    "java.time.OffsetTime": made(JAVA8 + "OffsetTimeHandle", localTime=TIME, zoneOffset=OFFSET),
    "java.time.OffsetDateTime": made(
        JAVA8 + "OffsetDateTimeHandle", dateTime=LOCAL, offset=OFFSET
    ),
    "java.time.ZonedDateTime": st.builds(
        zoned, LOCAL, OFFSET, st.none() | st.sampled_from(["Europe/Paris", "UTC", "Etc/GMT+5"])
    ),
    "java.time.Duration": made(
        JAVA8 + "DurationHandle", seconds=st.builds(Long, st.integers(-(2**62), 2**62)), nanos=NANO
    ),
    "java.time.Period": made(JAVA8 + "PeriodHandle", **dict.fromkeys(
        ("years", "months", "days"), st.integers(-999_999_999, 999_999_999))),
    "java.time.Year": made(JAVA8 + "YearHandle", year=YEAR),
    "java.time.YearMonth": made(JAVA8 + "YearMonthHandle", year=YEAR, month=st.integers(1, 12)),
    "java.time.MonthDay": made(
        JAVA8 + "MonthDayHandle", month=st.integers(1, 12), day=st.integers(1, 28)
    ),
    "java.time.ZoneOffset": OFFSET,
    "java.time.ZoneId": made(
        JAVA8 + "ZoneIdHandle", zoneId=st.sampled_from(["Europe/Paris", "Z", "UTC", "+02:00"])
    ),
    "java.util.UUID": made("java.util.UUID", value=st.uuids().map(str)),
    "java.util.Locale": made(
        HANDLE + "LocaleHandle", value=st.sampled_from(["de", "de_CH", "de_CH_POSIX", ""])
    ),
    "java.lang.Class": st.just(Bean("java.lang.Class", name="java.lang.String")),
    "java.util.Currency": st.just(Bean("java.util.Currency", currencyCode="EUR")),
    "java.io.File": st.just(Bean("java.io.File", value="/tmp/x")),
    "java.util.concurrent.atomic.AtomicInteger": made(
        "java.util.concurrent.atomic.AtomicInteger", value=INT
    ),
    "java.util.concurrent.atomic.AtomicLong": made(
        "java.util.concurrent.atomic.AtomicLong", value=st.builds(Long, INT)
    ),
    "java.util.concurrent.atomic.AtomicBoolean": made(
        "java.util.concurrent.atomic.AtomicBoolean", value=st.integers(0, 1)
    ),
    "java.util.EnumSet<a.Color>": st.lists(st.sampled_from(["RED", "BLUE"]), unique=True).map(
        lambda names: Bean(
            HANDLE + "EnumSetHandler", type=Bean("java.lang.Class", name="a.Color"),
            objects=[Bean("a.Color", name=name) for name in names],
        )
    ),
    **{
        name: st.just(Bean(name, name="SOME"))
        for name, (_, such_as) in javatext.FROM_TEXT.items()
        if such_as == "CONSTANT"
    },
}  # fmt: skip


def printed(value: Any) -> bytes:
    """What a caller is given for a result."""
    code, answer = Replies().give(HESSIAN2, encode_reply(value), answer="json")
    assert code == 0, answer
    assert isinstance(answer, bytes)
    return answer


def test_every_type_that_has_a_text_of_its_own_is_tried() -> None:
    known = {*javatext.FROM_TEXT, *javatext.FROM_JSON, *TO_JAVA}
    assert known <= VALUES.keys()


@pytest.mark.parametrize("name", sorted(VALUES))
def test_what_is_printed_is_taken_back(name: str) -> None:
    @given(VALUES[name])
    def check(value: Any) -> None:
        text = printed(value)
        kind = java_type(name)
        again = fit(read_json(text), kind)
        assert printed(again) == text
        if name in ("byte[]", "char[]") or kind.name in (
            "boolean",
            "byte",
            "int",
            "long",
            "double",
        ):
            return
        # In lists, in arrays, as values of maps, in beans whose fields' types are known.
        listed = fit(read_json(b"[%b]" % text), java_type(f"java.util.List<{name}>"))
        assert printed(listed) == b"[%b]" % text
        mapped = fit(
            read_json(b'{"k":%b}' % text), java_type(f"java.util.Map<java.lang.String, {name}>")
        )
        assert printed(mapped) == b'{"k":%b}' % text
        for beans in (False, True):
            bean = fit(
                read_json(b'{"x":1.5,"f":%b}' % text), java_type("a.B"), beans=beans,
                fields={"a.B": {"f": name}},
            )  # fmt: skip
            assert printed(bean) == b'{"x":1.5,"f":%b}' % text
            if isinstance(again, Bean):
                assert type(bean["f"]) is Bean and bean["f"].java_class == again.java_class
        # fastjson2 has a form for it too, or it goes by its fields.
        encode_jsonb(decode(encode(again), exact=True))

    check()


KEYS = [name for name in VALUES if name.startswith(("java.time.", "java.util.UUID", "java.util.D"))]


@pytest.mark.parametrize("name", [each for each in KEYS if each != "java.time.Year"])
def test_what_is_printed_as_a_key_is_taken_back(name: str) -> None:
    @given(VALUES[name])
    def check(value: Any) -> None:
        text = b"{%b:1}" % printed(value)
        kind = java_type(f"java.util.Map<{name}, java.lang.Integer>")
        assert printed(fit(read_json(text), kind)) == text

    check()


def test_keys_that_are_objects_and_lists_are_taken_as_printed() -> None:
    text = b'{"{\\"id\\":1}":"a"}'
    for kind in (
        "java.util.Map<java.util.Map, java.lang.String>",
        "java.util.Map<a.B, java.lang.String>",
    ):
        for beans in (False, True):
            assert printed(fit(read_json(text), java_type(kind), beans=beans)) == text
    listed = java_type("java.util.Map<java.util.List<java.lang.Long>, java.lang.String>")
    assert printed(fit(read_json(b'{"[1,2]":"a"}'), listed)) == b'{"[1,2]":"a"}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("java.time.Instant", "2020-01-01T00:00:00"), ("java.time.Instant", "2020-02-30T00:00:00Z"),
        ("java.time.Instant", "99999999999-01-01T00:00:00Z"), ("java.time.Duration", "PT"),
        ("java.time.Duration", "1h"), ("java.time.Duration", "P1DT"), ("java.time.Period", "P"),
        ("java.time.LocalDate", "2021-02-29"), ("java.time.LocalTime", "24:00"),
        ("java.time.OffsetTime", "12:00"), ("java.time.ZonedDateTime", "2020-01-01T00:00"),
        ("java.time.ZonedDateTime", "2020-01-01T00:00[]"), ("java.time.ZoneOffset", "+19:00"),
        ("java.time.ZoneOffset", "02:00"), ("java.time.ZoneId", "a b"), ("java.time.Year", "x"),
        ("java.time.Year", True), ("java.time.Year", 1.5), ("java.time.YearMonth", "2020-13"),
        ("java.time.MonthDay", "--02-30"), ("java.util.UUID", "A" * 24), ("java.util.UUID", "x"),
        ("java.util.Currency", "eur"), ("java.util.Date", "yesterday"), ("double", "1.5"),
        ("double", "nan"), ("java.util.concurrent.atomic.AtomicInteger", 2**31),
        ("java.util.concurrent.atomic.AtomicBoolean", 1), ("java.util.EnumSet", ["RED"]),
        ("java.util.EnumSet<a.Color>", [1]), ("java.lang.String", 1),
    ],
)  # fmt: skip
def test_what_is_no_value_of_a_type_is_refused_with_an_example(name: str, value: Any) -> None:
    raw = json.dumps(value).encode()
    with pytest.raises(UsageError, match=r" is no | without its enum"):
        fit(read_json(raw), java_type(name))


def test_halves_of_pairs_are_read_and_nothing_else_is_let_through() -> None:
    assert read_json(rb'["a\ud800b", 1.50]') == ["a\ud800b", Decimal("1.50")]
    for raw in (rb'["\ud800", NaN]', rb'["\ud800"', rb'["\ud800\x"]', rb'"\ud800" 1'):
        with pytest.raises(UsageError):
            read_json(raw)


def asked(serialization: int, call: dict[str, Any]) -> Any:
    name = {HESSIAN2: "hessian2", FASTJSON2: "fastjson2"}[serialization]
    frame = Requests(name).make(b"json", 1, b"a.B\0m\0\0\0" + json.dumps(call).encode())
    return decode_request(frame[16:], serialization)


@pytest.mark.parametrize("serialization", [HESSIAN2, FASTJSON2])
def test_a_json_call_has_values_of_the_jdk_in_beans(serialization: int) -> None:
    uid = "00000000-0000-0001-0000-000000000002"
    call = {
        "types": ["a.Order", "java.util.List<a.Order>"],
        "args": [
            {"when": "2020-01-01T00:00:00Z", "id": uid, "inner": {"spans": ["PT1.5S"]}, "n": 1},
            [{"class": "a.Special", "when": "2021-01-01T00:00:00Z", "raw": "AQI=", "inner": None}],
        ],
        "fields": {
            "a.Order": {
                "when": "java.time.Instant", "id": "java.util.UUID", "inner": "a.Inner",
            },
            "a.Special": {"raw": "byte[]"},
            "a.Inner": {"spans": "java.util.List<java.time.Duration>"},
        },
    }  # fmt: skip
    request = asked(serialization, call)
    method, types, (first, second) = request.arguments
    assert (request.method, method, types) == ("$invoke", "m", ["a.Order", "java.util.List"])
    utc = datetime.UTC
    assert first["when"] == datetime.datetime(2020, 1, 1, tzinfo=utc)
    if serialization == HESSIAN2:
        assert str(first["id"]) == uid
        assert first["inner"]["spans"] == [datetime.timedelta(seconds=1.5)]
    assert (first["n"], second[0]["raw"], second[0]["inner"]) == (1, b"\x01\x02", None)
    assert second[0]["when"] == datetime.datetime(2021, 1, 1, tzinfo=utc)
    call["args"][0]["when"] = "today"  # type: ignore[index]
    with pytest.raises(UsageError, match=r"args\[0\]: when: 'today' is no java.time.Instant"):
        asked(serialization, call)


@pytest.mark.parametrize("serialization", [HESSIAN2, FASTJSON2])
def test_an_enum_set_goes_with_its_class_and_not_by_generic_invocation(serialization: int) -> None:
    call = {"types": ["java.util.EnumSet<a.Color>"], "args": [["RED", "BLUE"]]}
    request = asked(serialization, call)
    assert (request.method, request.descriptor) == ("m", "Ljava/util/EnumSet;")
    (given_,) = request.arguments
    assert given_ == [Bean("a.Color", name="RED"), Bean("a.Color", name="BLUE")]


def test_an_enum_set_in_fastjson2_is_as_java_writes_it() -> None:
    recorded = json.loads(
        (Path(__file__).parents[2] / "conformance" / "dubbo" / "values.json").read_text()
    )
    for name, constants in (("EnumSet", ["RED", "BLUE"]), ("empty EnumSet", [])):
        made_ = fit(constants, java_type("java.util.EnumSet<Values$Color>"))
        data = bytes.fromhex(recorded[name]["3.3 fastjson2"])[4:]
        assert encode_jsonb(decode(encode(made_), exact=True)) == data
