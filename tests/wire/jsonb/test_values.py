"""JSONB, fastjson2's binary form: every form of a value, read and written.

The bytes are those of fastjson2 2.0.56 with the options that Dubbo 3.3 sets, where it writes them.
"""

from __future__ import annotations

import datetime
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.java import Bean, BigInteger, Date, Long, TypedList, TypedMap, enum
from dragoman.wire.jsonb.reader import JsonbReader, decode
from dragoman.wire.jsonb.writer import JsonbWriter, encode

UTC = datetime.UTC
HANDLE = "com.alibaba.com.caucho.hessian.io.java8."
INSTANT = Bean(HANDLE + "InstantHandle", seconds=1582934400, nanos=123456789)
DAY = b"\x07\xe4\x02\x1d"
PARIS = Bean(
    HANDLE + "ZonedDateTimeHandle",
    dateTime=datetime.datetime(2020, 2, 29, 1, 2, 3, 4),
    zoneId="Europe/Paris",
)

# What Java writes, and what it is.
BOTH_WAYS: list[tuple[str, bytes, Any]] = [
    ("null", b"\xaf", None),
    ("true", b"\xb1", True),
    ("false", b"\xb0", False),
    ("int -16", b"\xf0", -16),
    ("int 47", b"\x2f", 47),
    ("int 48", b"\x38\x30", 48),
    ("int -2048", b"\x30\x00", -2048),
    ("int -262144", b"\x40\x00\x00", -262144),
    ("int 262143", b"\x47\xff\xff", 262143),
    ("int 262144", b"\x48\x00\x04\x00\x00", 262144),
    ("long -8", b"\xd8", Long(-8)),
    ("long 15", b"\xef", Long(15)),
    ("long 16", b"\xd0\x10", Long(16)),
    ("long -262144", b"\xc0\x00\x00", Long(-262144)),
    ("long of 32 bits", b"\xbf\x80\x00\x00\x00", Long(-(2**31))),
    ("long of 64 bits", b"\xbe\x7f" + b"\xff" * 7, Long(2**63 - 1)),
    ("BigInteger 10", b"\xba\xea", BigInteger(10)),
    ("BigInteger of 65 bits", b"\xbb\x09\x01" + bytes(8), BigInteger(2**64)),
    (
        "BigInteger of 64 bits and a sign",
        b"\xbb\x09\xff\x7f" + b"\xff" * 7,
        BigInteger(-(2**63) - 1),
    ),
    ("double 0", b"\xb2", 0.0),
    ("double 1", b"\xb3", 1.0),
    ("double -128", b"\xb4\xcf\x80", -128.0),
    ("double 12.25", b"\xb5\x40\x28\x80" + bytes(5), 12.25),
    ("decimal 5", b"\xb8\xe5", Decimal("5")),
    ("decimal -0.50", b"\xb9\x02\x37\xce", Decimal("-0.50")),
    ("decimal 1E+5", b"\xb9\xfb\x01", Decimal("1E+5")),
    (
        "decimal of 20 digits",
        b"\xb9\x01\xbb\x09\x00\xab\x54\xa9\x8c\xeb\x1f\x0a\xd7",
        Decimal("1234567890123456789.5"),
    ),
    ("no text", b"\x49", ""),
    ("47 characters", b"\x78" + b"a" * 47, "a" * 47),
    ("48 characters", b"\x79\x38\x30" + b"a" * 48, "a" * 48),
    ("Latin-1", b"\x4cZo\xeb", "Zoë"),
    ("Chinese", b"\x7c\x04\x60\x4f\x7d\x59", "你好"),
    ("ASCII and Chinese", b"\x7a\x07aaaa\xe4\xb8\xad", "aaaa中"),
    ("half a character", b"\x7c\x04a\x00\x3d\xd8", "a\ud83d"),
    ("bytes", b"\x92\x4b[B\x00\x91\x02\x01\x02", b"\x01\x02"),
    (
        "Date",
        b"\xab\x00\x00\x01\x70\x8e\x3e\x1c\x7b",
        datetime.datetime(2020, 2, 29, 0, 0, 0, 123000, UTC),
    ),
    ("Date in seconds", b"\xac\x5e\x59\xa9\x80", datetime.datetime(2020, 2, 29, tzinfo=UTC)),
    ("Date in minutes", b"\xad\x08\x00\x00\x00", datetime.datetime(2225, 3, 11, 18, 8, tzinfo=UTC)),
    ("Date beyond 9999", b"\xab\x7f" + b"\xff" * 7, Date(2**63 - 1)),
    ("LocalDate", b"\xa9" + DAY, datetime.date(2020, 2, 29)),
    ("LocalTime", b"\xa7\x01\x02\x03\x3b\xe8", datetime.time(1, 2, 3, 1)),
    (
        "LocalDateTime",
        b"\xa8" + DAY + b"\x17\x3b\x3a\x48\x07\x54\xd4\xc0",
        datetime.datetime(2020, 2, 29, 23, 59, 58, 123000),
    ),
    ("Instant", b"\xae\xbf\x5e\x59\xa9\x80\x48\x07\x5b\xcd\x15", INSTANT),
    ("a named zone", b"\xaa" + DAY + b"\x01\x02\x03\x44\x0f\xa0\x55Europe/Paris", PARIS),
    ("no list", b"\x94", []),
    ("list", b"\x98\x01Ja\xe2\xaf", [1, "a", Long(2), None]),
    ("list of 15", b"\xa3" + b"\x01" * 15, [1] * 15),
    ("list of 16", b"\xa4\x10" + b"\x01" * 16, [1] * 16),
    ("Set", b"\x92\x50HashSet\x00\x96JaJb", TypedList("java.util.HashSet", ["a", "b"])),
    ("int[]", b"\x92\x4b[I\x00\x96\x01\x02", TypedList("[int", [1, 2])),
    ("Object[]", b"\x92\x4b[O\x00\x95\x01", TypedList("[object", [1])),
    ("Integer[]", b"\x92\x51[Integer\x00\x96\x01\xaf", TypedList("[java.lang.Integer", [1, None])),
    ("byte[][]", b"\x92\x4c[[B\x00\x95\x91\x01\x01", TypedList("[[byte", [b"\x01"])),
    ("map", b"\xa6Ja\x01Jb\xaf\xa5", {"a": 1, "b": None}),
    ("long keys", b"\xa6\xe1Lone\xa5", {Long(1): "one"}),
    ("TreeMap", b"\x92\x50TreeMap\x00\xa6Ja\x01\xa5", TypedMap("java.util.TreeMap", {"a": 1})),
    (
        "LinkedHashMap",
        b"\x92\x4bLM\x00\xa6Ja\x01\xa5",
        TypedMap("java.util.LinkedHashMap", {"a": 1}),
    ),
    ("enum", b"\x92\x4ca.B\x00\x4cRED", enum("a.B", "RED")),
    (
        "bean",
        b"\x92\x4ca.C\x00\xa6\x7f\x4ax\x01\x01\x7f\x4ay\x02\xaf\xa5",
        Bean("a.C", x=1, y=None),
    ),
    (
        "beans of one class",
        b"\x96\x92\x4ca.C\x00\xa6\x7f\x4ax\x01\x01\xa5\x92\x00\xa6\x7f\x01\x02\xa5",
        [Bean("a.C", x=1), Bean("a.C", x=2)],
    ),
    (
        "exception of the JDK",
        b"\x92\x5eIllegalStateException\x00\xa6\x7f\x56detailMessage\x01Jx\xa5",
        Bean("java.lang.IllegalStateException", detailMessage="x"),
    ),
    ("Class", b"\x59java.lang.String", "java.lang.String"),
    (
        "Year",
        b"\x92\x57java.time.Year\x00\xa6\x7f\x4dyear\x01\x3f\xe4\xa5",
        Bean(HANDLE + "YearHandle", year=2020),
    ),
]
# Other ways to say it, which are read.
READ_ONLY: list[tuple[str, bytes, Any]] = [
    ("byte", b"\xbd\x80", -128),
    ("short", b"\xbc\x7f\xff", 32767),
    ("char", b"\x90\x38\x78", "x"),
    ("half a pair", b"\x90\x48\x00\x00\xd8\x00", "\ud800"),
    ("float", b"\xb7\x3f\xc0\x00\x00", 1.5),
    ("float of an int", b"\xb6\x02", 2.0),
    ("decimal of a long", b"\xb9\x02\xe5", Decimal("0.05")),
    ("NaN as it is", b"\xb5\x7f\xf8" + bytes(6), math.nan),
    ("UTF-16 with a mark", b"\x7b\x04\xff\xfea\x00", "a"),
    ("UTF-16 with the other mark", b"\x7b\x04\xfe\xff\x00a", "a"),
    ("UTF-16 without one", b"\x7b\x02\x00a", "a"),
    ("big endian", b"\x7d\x04\xd8\x3d\xde\x00", "\U0001f600"),
    ("GB 18030", b"\x7e\x02\xd6\xd0", "中"),
    ("a pair in UTF-8", b"\x7a\x04\xf0\x9f\x98\x80", "\U0001f600"),
    ("bytes without a type", b"\x91\x01a", b"a"),
    ("bytes as numbers", b"\x92\x4b[B\x00\x96\x01\xff", b"\x01\xff"),
    ("char[]", b"\x92\x4b[C\x00\x4bab", "ab"),
    ("AtomicInteger", b"\x92\x56AtomicInteger\x00\x05", 5),
    ("Currency", b"\x92\x51Currency\x00\x4cEUR", Bean("java.util.Currency", name="EUR")),
    ("JSONArray", b"\x92\x52JSONArray\x00\x95\x01", [1]),
    ("ArrayList", b"\x92\x5cjava.util.ArrayList\x00\x95\x01", [1]),
    ("names that are not numbered", b"\x92\x4ca.C\x00\xa6Jx\x01\xa5", Bean("a.C", x=1)),
    (
        "a type by the mark of a name",
        b"\x96\x92\x4ca.C\x00\xa6\xa5\x92\x7f\x00\xa6\xa5",
        [Bean("a.C"), Bean("a.C")],
    ),
    ("a map of one's own", b"\x92\x4ca.M\x00\xa6\x01\x02\xa5", TypedMap("a.M", {1: 2})),
    ("beans of an array", b"\x92\x4d[a.C\x00\x95\xa6\x7f\x4ax\x01\x01\xa5", [Bean("a.C", x=1)]),
    ("enums of an array", b"\x92\x4d[a.C\x00\x95\x4cRED", [enum("a.C", "RED")]),
    (
        "an offset",
        b"\xaa" + DAY + b"\x01\x02\x03\x00\x4f+08:00",
        datetime.datetime(
            2020, 2, 29, 1, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=8))
        ),
    ),
    (
        "no offset",
        b"\xaa" + DAY + b"\x01\x02\x03\x00JZ",
        datetime.datetime(2020, 2, 29, 1, 2, 3, tzinfo=UTC),
    ),
    (
        "Instant of microseconds",
        b"\xae\xe0\x3b\xe8",
        datetime.datetime(1970, 1, 1, 0, 0, 0, 1, UTC),
    ),
    (
        "nanoseconds",
        b"\xa7\x01\x02\x03\x04",
        Bean(HANDLE + "LocalTimeHandle", hour=1, minute=2, second=3, nano=4),
    ),
    (
        "before our era",
        b"\xa9\xff\xff\x01\x01",
        Bean(HANDLE + "LocalDateHandle", year=-1, month=1, day=1),
    ),
    (
        "keys of all kinds",
        b"\xa6\xaf\x01\xb1\x02\xb5\x3f\xf8" + bytes(6) + b"\x03\x95Ja\x04\xa5",
        {None: 1, True: 2, 1.5: 3, ("a",): 4},
    ),
]


def named(cases: list[tuple[str, bytes, Any]]) -> Any:
    return pytest.mark.parametrize(
        ("data", "value"), [c[1:] for c in cases], ids=[c[0] for c in cases]
    )


@named(BOTH_WAYS)
def test_what_java_writes_is_read(data: bytes, value: Any) -> None:
    back = decode(data, exact=True)
    assert repr(back) == repr(value)
    assert type(back) is type(value)


@named(BOTH_WAYS)
def test_values_are_written_as_java_writes_them(data: bytes, value: Any) -> None:
    assert encode(value) == data


@named(READ_ONLY)
def test_other_forms_are_read(data: bytes, value: Any) -> None:
    assert repr(decode(data)) == repr(value)


@named([*BOTH_WAYS, *READ_ONLY])
def test_a_document_that_is_cut_anywhere_is_refused(data: bytes, value: Any) -> None:
    for end in range(len(data)):
        with pytest.raises(ProtocolError, match=r"fastjson2: .* is cut short at byte"):
            decode(data[:end])


@named(BOTH_WAYS)
def test_documents_follow_each_other_with_names_of_their_own(data: bytes, value: Any) -> None:
    reader = JsonbReader(data + data, exact=True)
    assert repr(reader.read()) == repr(reader.read()) == repr(value)
    assert reader.at_end
    writer = JsonbWriter()
    writer.write(value)
    writer.write(value)
    assert writer.take() == data + data
    with pytest.raises(ProtocolError, match=f"more than one value at byte {len(data)}"):
        decode(data + b"\xaf")


def test_plain_values_have_no_types_of_ours() -> None:
    data = encode([Long(1), BigInteger(2), TypedList("[int", [3]), TypedMap("java.util.TreeMap")])
    assert [type(each) for each in decode(data)] == [int, int, list, dict]
    typed = decode(data, typed=True)
    assert [type(each) for each in typed] == [Long, BigInteger, TypedList, TypedMap]


@pytest.mark.parametrize(
    ("value", "descriptor", "data"),
    [
        (-128, "B", b"\xbd\x80"),
        (7, "Ljava/lang/Byte;", b"\xbd\x07"),
        (-300, "S", b"\xbc\xfe\xd4"),
        ("x", "C", b"\x90\x38\x78"),
        (5, "J", b"\xe5"),
        (5, "I", b"\x05"),
        (2, "D", b"\xb4\xe2"),
        (2.0, "F", b"\xb6\x02"),
        (0.1, "F", b"\xb7\x3d\xcc\xcc\xcd"),
        (-0.0, "F", b"\xb7\x80\x00\x00\x00"),
        (None, "Ljava/lang/Long;", b"\xaf"),
        ("abc", "Ljava/lang/String;", b"\x4cabc"),
    ],
)
def test_a_declared_type_chooses_the_form(value: Any, descriptor: str, data: bytes) -> None:
    assert encode(value, descriptor) == data


def test_minus_zero_keeps_its_sign() -> None:
    assert math.copysign(1, decode(encode(-0.0))) == -1


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (uuid.UUID(int=1), b"\x91\x10" + bytes(15) + b"\x01"),
        (datetime.timedelta(seconds=1.5), b"\x4fPT1.5S"),
        (datetime.timedelta(seconds=-1.5), b"\x50PT-1.5S"),
        (Bean("java.util.Optional", value="x"), b"Jx"),
        (Bean("java.util.Optional", value=None), b"\xaf"),
        (Bean("java.lang.Class", name="a.B"), b"\x4ca.B"),
        (
            Bean("java.sql.Timestamp", value=datetime.datetime(1970, 1, 1, tzinfo=UTC)),
            b"\xac\0\0\0\0",
        ),
        (bytearray(b"a"), b"\x92\x4b[B\x00\x91\x01a"),
        (
            {
                "a",
            },
            b"\x92\x50HashSet\x00\x95Ja",
        ),
        ((1, 2), b"\x96\x01\x02"),
        ({(1, 2): 3}, b"\xa6\x96\x01\x02\x03\xa5"),
        (Bean(HANDLE + "InstantHandle", seconds="?"), None),
        (datetime.time(1, 2, 3, tzinfo=UTC), b"\xaa\x07\xb2\x01\x01\x01\x02\x03\x00JZ"),
    ],
)
def test_values_of_the_jdk_have_forms_of_their_own(value: Any, data: bytes | None) -> None:
    if data is None:  # not what its class says: an object with its fields
        assert decode(encode(value)) == value
    else:
        assert encode(value) == data


def test_a_constant_goes_as_text_and_a_bean_as_an_object() -> None:
    assert encode(enum("a.Told", "lower")) == b"\x92\x4fa.Told\x00\x4elower"
    assert encode(Bean("a.Untold", name="UPPER_1")) == b"\x92\x51a.Untold\x00\x50UPPER_1"
    object_form = b"\x92\x51a.Untold\x00\xa6\x7f\x4dname\x01\x4cAnn\xa5"
    assert encode(Bean("a.Untold", name="Ann")) == object_form


# ---- references


def test_what_comes_again_is_a_reference() -> None:
    bean = Bean("a.C", x=1)
    data = encode([bean, {"k": bean}])
    assert data == b"\x96\x92\x4ca.C\x00\xa6\x7f\x4ax\x01\x01\xa5\xa6Jk\x93\x4d$[0]\xa5"
    back = decode(data)
    assert back[0] is back[1]["k"]


def test_a_cycle_goes_and_comes() -> None:
    node = Bean("a.Node", name="self")
    node["next"] = node
    data = encode(node)
    assert data.endswith(b"\x93\x4b..\xa5")
    back = decode(data)
    assert back["next"] is back
    above = Bean("a.Node", name="above", next=Bean("a.Node", name="below"))
    above["next"]["next"] = above
    back = decode(encode(above))
    assert back["next"]["next"] is back


def test_a_map_of_ones_own_class_may_begin_like_a_bean() -> None:
    data = b"\x92\x4ca.M\x00\xa6Ja\x93\x4b..Jb\x93\x4a$Jc\x01\x02\x93\x4c$.a\xa5"
    back = decode(data)
    assert type(back) is TypedMap and back.java_class == "a.M"
    assert back["a"] is back and back["b"] is back and back[2] is back
    assert back["c"] == 1
    mixed = TypedMap("a.M", {"a": 1, 2: 3})
    assert repr(decode(encode(mixed))) == repr(mixed)


def test_javas_ways_to_refer_are_followed() -> None:
    bean = b"\x92\x4ca.C\x00\xa6Jx\x01\xa5"
    last = decode(b"\x97" + bean + b"\x93\x4d$[0]\x93\x4c#-1")
    assert last[0] is last[1] is last[2]
    odd = decode(b"\x96\xa6\x4ca.b" + bean + b"\xa5\x93\x52$[0].a\\.b")
    assert odd[1] is odd[0]["a.b"]
    by_number = decode(b"\x96\xa6\x01" + bean + b"\xa5\x93\x4f$[0].1")
    assert by_number[1] is by_number[0][1]
    ahead = decode(b"\x96\x93\x4d$[1]" + bean)
    assert ahead[0] is ahead[1]


@pytest.mark.parametrize(
    "made",
    [
        lambda bean: [{1: bean}, bean],
        lambda bean: [{"a b": bean}, bean],
        lambda bean: [TypedList("java.util.HashSet", [bean]), bean],
        lambda bean: TypedList("[object", [bean, bean]),
    ],
    ids=["a number's key", "a key with a space", "a set", "an array"],
)
def test_where_java_finds_no_path_a_value_is_written_again(made: Any) -> None:
    data = encode(made(Bean("a.C", x=1)))
    assert b"\x93" not in data
    assert data.count(b"\xa6") - data.count(b"\xa5\xa5\x00") >= 2


def test_a_cycle_that_no_path_leads_to_is_refused() -> None:
    odd: dict[Any, Any] = {}
    inner = {"back": odd}
    odd[1] = [inner, [inner]]
    inner["again"] = {2: inner}
    with pytest.raises(UsageError, match="nested deeper than 256"):
        encode([odd])


def test_shared_values_that_must_be_written_again_are_bounded() -> None:
    value: Any = "x" * 1000
    for _ in range(60):
        value = {1: value, 2: value}
    with pytest.raises(UsageError, match="a value of more than"):
        encode(value)


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError, match=r"builtins\.object cannot be written"):
        encode(object())
    with pytest.raises(UsageError, match=r"no java\.math\.BigDecimal"):
        encode(Decimal("NaN"))
    with pytest.raises(UsageError, match=r"no java\.math\.BigDecimal"):
        encode(Decimal((0, (1,), 2**40)))
    with pytest.raises(UsageError, match=r"a field of a\.C that is no text"):
        encode(Bean("a.C", {1: 2}))
    with pytest.raises(UsageError, match="depth_max is 1 to 2000"):
        encode(1, depth_max=0)
