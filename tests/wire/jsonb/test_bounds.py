"""What a peer can make the reader of JSONB do: hostile lengths, references, nesting, names."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from typing import Any

import pytest

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.dubbo.fastjson2 import reply_as_hessian2, request_of
from dragoman.wire.dubbo.invocation import FASTJSON2, decode_reply, decode_request
from dragoman.wire.java.bean import Bean
from dragoman.wire.jsonb.reader import CONTAINERS_MAX, DEPTH_MAX, JsonbReader, decode
from dragoman.wire.jsonb.writer import encode

BEAN = b"\x92\x4ca.C\x00"
SIZE = 20_000


def listed(values: bytes, count: int) -> bytes:
    return b"\xa4\x48" + count.to_bytes(4) + values


DEEP = {
    "lists": b"\x95" * 10_000,
    "long lists": b"\xa4\x01" * 10_000,
    "objects": b"\xa6Ja" * 10_000,
    "keys": b"\xa6" * 10_000,
    "beans": BEAN + b"\xa6Ja" + b"\x92\x00\xa6Ja" * 10_000,
    "types": BEAN + b"\x92\x00" * 10_000,
    "arrays of beans": b"\x92\x4d[a.C\x00" + b"\x95\xa6Ja\x92\x00" * 10_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_refused(name: str) -> None:
    for reads in (decode, lambda data: decode(data, exact=True)):
        with pytest.raises(LimitError, match=f"nested deeper than {DEPTH_MAX} at byte"):
            reads(DEEP[name])


def test_the_deepest_nesting_that_is_read_is_written_too() -> None:
    data = b"\x95" * DEPTH_MAX + b"\xaf"
    assert encode(decode(data)) == data
    with pytest.raises(UsageError, match=f"nested deeper than {DEPTH_MAX}"):
        encode([decode(data)])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a value is cut short at byte 0"),
        (b"\xa5", "no value begins with 0xa5 at byte 0"),
        (b"\x7f\x00", "no value begins with 0x7f at byte 0"),
        (b"\x79\xff", "a text with a length of -1 at byte 1"),
        (b"\x79\xd8", "a text with a length of -8 at byte 1"),
        (b"\x79\x48\x7f\xff\xff\xff", "a text is cut short at byte 6"),
        (b"\x79\xbe\x7f" + b"\xff" * 7, "a text with a length of 9223372036854775807 at byte 1"),
        (b"\x7a\x48\x80\x00\x00\x00", "a text with a length of -2147483648 at byte 1"),
        (b"\x7c\x03abc", "a text in UTF-16 of 3 bytes at byte 0"),
        (b"\x7a\x01\xff", r"a text that is none .* at byte 0"),
        (b"\x7e\x01\xff", r"a text that is none .* at byte 0"),
        (b"\x79\xaf", "no number but a value that begins with 0xaf at byte 1"),
        (b"\x91\x48\x7f\xff\xff\xff", "bytes is cut short at byte 6"),
        (b"\x91\xff", "bytes with a length of -1 at byte 1"),
        (b"\xa4\x48\x7f\xff\xff\xff", "a list of 2147483647 values is cut short at byte 6"),
        (b"\xa4\xff", "a list with a length of -1 at byte 1"),
        (b"\xbb\x00", "a number with a length of 0 at byte 1"),
        (b"\xbb\x48\x7f\xff\xff\xff", "a number of 2147483647 bytes at byte 6"),
        (b"\xb9\xbe" + b"\x7f" * 8 + b"\x01", "a scale of 9187201950435737471 at byte 1"),
        (b"\x90\x48\x00\x01\x00\x00", "a char of 65536 at byte 1"),
        (b"\x90\xff", "a char of -1 at byte 1"),
        (b"\xa9\x07\xe4\x0d\x01", "no date .* at byte 0"),
        (b"\xa9\xff\xff\x0d\x01", "no date .* at byte 0"),
        (b"\xa7\x18\x00\x00\x00", "no date .* at byte 0"),
        (b"\xa7\x01\x00\x00\xff", "nanoseconds of -1 at byte 4"),
        (b"\xae\xe0\x48\x7f\xff\xff\xff", "nanoseconds of 2147483647 at byte 2"),
        (b"\xaa\x07\xe4\x01\x01\x01\x01\x01\x00\xaf", "a date with a zone that has none at byte"),
        (b"\x93\x4a$", "a reference where there can be none at byte 0"),
        (b"\xa6\x93\x4a$\x01\xa5", "a reference where there can be none at byte 1"),
        (b"\x95\x93\x4d$[1]", r"a reference to '\$\[1\]', where there is nothing"),
        (b"\x95\x93\x56$[9999999999]", "a reference to"),
        (b"\x95\x93\x4c$.a", "a reference to"),
        (b"\x95\x93\x4c$[a", "a reference to"),
        (b"\x95\x93\x4cabc", "a reference to"),
        (b"\x95\x93\x49", "a reference to ''"),
        (b"\x95\x93\xaf", "a reference to nothing at byte 3"),
        (b"\x95\x93\x01", "no text but a value that begins with 0x01 at byte 2"),
        (b"\x95\x93\x4c#-1", "a reference to the last one, and there is none"),
        (b"\xa6\x7f\x00\x01\xa5", "name 0 of 0 at byte 2"),
        (b"\xa6\x7fJa\x01\x01\xa5", "a name that is given the number of 1 at byte 4"),
        (b"\xa6\x7fJa\x48\x7f\xff\xff\xff", "a name that is given the number of 2147483647"),
        (b"\xa6\x7f\xff\x01\xa5", "name -1 of 0 at byte 2"),
        (b"\x92\x05\x01", "name 5 of 0 at byte 1"),
        (b"\x92\xaf\x01", "no number but a value that begins with 0xaf at byte 1"),
        (b"\x92\x4b[O\x00Jx", r"a \[object that is a text at byte 5"),
        (b"\x92\x50TreeMap\x00Jx", "a java.util.TreeMap that is a text at byte 10"),
        (b"\xa6" + BEAN + b"\xa6Jx\x93\x4a$\xa5\x01\xa5", "key with a reference in it at byte 1"),
        (b"\xa6\xa4\x38\xc9" + b"\x01" * 202 + b"\xa5", "a map's key of more than 200 values"),
        (b"\x92\x4b[B\x00\x95Ja", "an array of bytes with something else in it"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=f"fastjson2: .*{said}|fastjson2: {said}"):
        decode(data)


def test_every_first_byte_is_a_value_or_is_refused() -> None:
    known = {*range(0x7F), *range(0x90, 0xA5), *range(0xA6, 0x100)}
    for tag in range(256):
        try:
            decode(bytes((tag,)) + bytes(20))
        except ProtocolError as error:
            assert (tag in known) != ("no value begins" in str(error)), (tag, error)


CHEAP: list[tuple[str, bytes, int]] = [
    ("empty lists", listed(b"\x94" * SIZE, SIZE), SIZE),
    ("empty maps", listed(b"\xa6\xa5" * SIZE, SIZE), SIZE),
    (
        "beans without fields",
        listed(BEAN + b"\xa6\xa5" + b"\x92\x00\xa6\xa5" * SIZE, SIZE + 1),
        SIZE,
    ),
    ("maps of one entry", listed(b"\xa6Ja\xaf\xa5" * SIZE, SIZE), SIZE),
    ("typed lists", listed(b"\x92\x4b[I\x00\x94" + b"\x92\x00\x94" * SIZE, SIZE + 1), SIZE),
    ("nulls", listed(b"\xaf" * SIZE, SIZE), 1),
    ("ints", listed(b"\x47\xff\xff" * SIZE, SIZE), 1),
    ("texts", listed(b"Ja" * SIZE, SIZE), 1),
    ("chars", listed(b"\x90\x3f\xff" * SIZE, SIZE), 1),
    ("decimals", listed(b"\xb9\x01\x01" * SIZE, SIZE), 1),
    ("instants", listed(b"\xae\xe0\x01" * SIZE, SIZE), SIZE),
    ("references", listed(b"\x93\x4a$" * SIZE, SIZE), SIZE),
    ("last references", listed(b"\x93\x4a$" + b"\x93\x4c#-1" * SIZE, SIZE + 1), SIZE),
    (
        "numbered names",
        b"\xa6" + b"".join(b"\x7fJa" + encode(i) + b"\xaf" for i in range(SIZE)) + b"\xa5",
        1,
    ),
]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("name", "data", "containers"), CHEAP, ids=[each[0] for each in CHEAP])
def test_memory_is_bounded_by_what_arrived(
    name: str, data: bytes, containers: int, exact: bool
) -> None:
    tracemalloc.start()
    try:
        decode(data, exact=exact)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 * len(data) + 1024 * containers + 100_000


def test_more_containers_than_allowed_are_refused() -> None:
    count = CONTAINERS_MAX - 1
    decode(listed(b"\x94" * count, count))
    with pytest.raises(LimitError, match=f"more than {CONTAINERS_MAX} lists, maps and objects"):
        decode(listed(b"\x94" * (count + 1), count + 1))
    with pytest.raises(LimitError, match="more than 1 lists, maps and objects at byte 1"):
        decode(b"\x95\x94", containers_max=1)


def test_keys_whose_hash_a_peer_can_choose_are_bounded() -> None:
    many = b"".join(b"\xb5" + i.to_bytes(8) + b"\xaf" for i in range(1, 2002))
    with pytest.raises(LimitError, match="more than 2000 keys"):
        decode(b"\xa6" + many + b"\xa5")


def test_decimals_that_take_long_to_write_are_refused() -> None:
    digits = "1" * 20_001
    for value in (Decimal(digits), Bean("java.math.BigDecimal", value=digits * 100)):
        with pytest.raises(UsageError, match=r"BigDecimal of .* digits"):
            encode(value)
    assert decode(encode(Decimal("1" * 19_000 + ".5"))) == Decimal("1" * 19_000 + ".5")
    # An exponent costs nothing until somebody asks for the digits.
    assert decode(encode(Decimal("1E+2147483647"))) == Decimal("1E+2147483647")


def test_a_reference_costs_its_own_length() -> None:
    # A path may run through a cycle as often as it is long.
    path = b"$" + b"[0]" * 10_000
    data = b"\x96\x93\x4a$\x93\x79\x48" + len(path).to_bytes(4) + path
    back = decode(data)
    assert back[0] is back and back[1] is back


@pytest.mark.parametrize("bad", [{"depth_max": 0}, {"depth_max": 2001}, {"containers_max": -1}])
def test_bounds_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        JsonbReader(b"", **bad)


# ---- bodies


def body(*values: Any) -> bytes:
    parts = [value if isinstance(value, bytes) else encode(value) for value in values]
    return b"".join(len(part).to_bytes(4) + part for part in parts)


REQUEST = body("2.0.2", "a.B", None, "m", "I", 5, {"path": "a.B"})
REPLY = body(b"\xbd\x04", "x", {"a": "b"})


def test_a_body_that_is_cut_anywhere_is_refused() -> None:
    assert decode_request(REQUEST, FASTJSON2).arguments == [5]
    assert decode_reply(REPLY, FASTJSON2).value == "x"
    for end in range(len(REQUEST)):
        with pytest.raises(ProtocolError, match="fastjson2: "):
            decode_request(REQUEST[:end], FASTJSON2)
    for end in range(len(REPLY)):
        with pytest.raises(ProtocolError, match="fastjson2: "):
            decode_reply(REPLY[:end], FASTJSON2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x7f\xff\xff\xff", "a field of 2147483647 bytes is cut short"),
        (b"\xff\xff\xff\xff\x00", "a field of 4294967295 bytes is cut short"),
        (body(b"\xbd\x06"), "a reply of type 6"),
        (body("x"), "a reply of type 'x'"),
        (body(True, 1), "a reply of type True"),
        (body(1), "a reply of type 1 in 1 fields"),
        (body(2, 3), "a reply of type 2 in 2 fields"),
        (body(4, "x"), "a reply of type 4 in 2 fields"),
        (body(1, b"\x01\x01"), "more than one value at byte 1"),
        (body(4, "x", [1]), "attachments that are no map of texts"),
    ],
)
def test_a_reply_that_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode_reply(data, FASTJSON2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a request of 0 fields"),
        (body("2.0.2", "a.B", None, "m", "I", {}), "1 parameters in 6 fields"),
        (body("2.0.2", "a.B", None, "m", "I", 5, {}, 1), "1 parameters in 8 fields"),
        (body("2.0.2", None, None, "m", "", {}), "without path, method or descriptor"),
        (body("2.0.2", "a.B", None, 1, "", {}), "without path, method or descriptor"),
        (body(2, "a.B", None, "m", "", {}), "whose versions are no text"),
        (body("2.0.2", "a.B", None, "m", "Lx", {}), "no parameter descriptor"),
        (body("2.0.2", "a.B", None, "m", "", 5), "attachments that are no map of texts"),
        (body("2.0.2", "a.B", None, "m", "Ljava/util/UUID;", b"\x91\x01a", {}), "fastjson2"),
    ],
)
def test_a_request_that_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode_request(data, FASTJSON2)


def test_what_is_no_body_does_not_go_to_or_from_hessian2() -> None:
    with pytest.raises(ProtocolError, match="an object is cut short"):
        reply_as_hessian2(body(1, BEAN + b"\xa6Jx\xa6"))
    with pytest.raises(ProtocolError, match="without path"):
        request_of(b"NNNNN")
    with pytest.raises(ProtocolError, match="goes on after its last field"):
        request_of(b"N\x01a\x4e\x01m\x00HZN")
