"""JSON strings written and read, JSON values checked; Python's ``json`` is the model."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import UsageError
from dragoman.wire.json import text as jsontext
from dragoman.wire.json.string import decode_string, encode_string
from dragoman.wire.json.text import check_value, names_a_type, without_class

TEXT = st.text(st.characters(codec="utf-8"), max_size=80)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(TEXT)
def test_an_escaped_string_reads_the_same_in_python(text: str) -> None:
    encoded = encode_string(text.encode())
    assert json.loads(encoded) == text
    assert b"\n" not in encoded
    assert decode_string(encoded) == text.encode()


@given(TEXT)
def test_what_python_escapes_is_read(text: str) -> None:
    assert decode_string(json.dumps(text).encode()) == text.encode()
    assert decode_string(json.dumps(text, ensure_ascii=False).encode()) == text.encode()


@given(st.binary(max_size=40))
def test_bytes_are_a_string_exactly_when_they_are_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(UsageError, match="UTF-8"):
            encode_string(data)
    else:
        assert json.loads(encode_string(data)) == data.decode()


@pytest.mark.parametrize("length", [0, 1, 7, 15, 16, 17, 31, 32, 33, 1023, 5000])
@pytest.mark.parametrize(
    "special", ['"', "\\", "\n", "\x00", "\x1f", "é", "€", "\U0001f600", "\x7f"]
)
def test_a_special_character_is_escaped_at_every_place(length: int, special: str) -> None:
    places = range(length + 1) if length < 40 else (0, length // 2, length)
    for place in places:
        text = "a" * place + special + "b" * (length - place)
        encoded = encode_string(text.encode())
        assert json.loads(encoded) == text
        assert decode_string(encoded) == text.encode()


def test_a_string_of_nothing_but_escapes_grows_right() -> None:
    text = "\x01" * 20000
    assert encode_string(text.encode()) == b'"' + rb"\u0001" * 20000 + b'"'


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"a" * 15 + b"\xc3",
        b"a" * 16 + b"\xff" + b"b" * 16,
    ],
)
def test_what_is_not_utf8_is_refused_everywhere(data: bytes) -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        encode_string(data)
    with pytest.raises(UsageError, match=r"UTF-8"):
        decode_string(b'"' + data + b'"')
    with pytest.raises(UsageError, match=r"UTF-8"):
        check_value(b'["' + data + b'"]')


@pytest.mark.parametrize(
    "text",
    [
        rb'"\ud800"',
        rb'"\udc00"',
        rb'"\ud800a"',
        rb'"\ud800\n"',
        rb'"\ud800\ud800"',
        rb'"\udc00\ud800"',
        rb'"\ud83d\u0041"',
    ],
)
def test_half_a_surrogate_pair_has_no_utf8(text: bytes) -> None:
    with pytest.raises(UsageError, match="surrogate"):
        decode_string(text)
    assert check_value(text) == text


def test_a_surrogate_pair_is_one_character() -> None:
    assert decode_string(rb'"\ud83d\ude00"') == "\U0001f600".encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'"',
        b"a",
        b'"a',
        b'a"',
        rb'"\"',
        rb'"\x"',
        rb'"\u12"',
        rb'"\u123g"',
        rb'"\u"',
        b'"\n"',
        b'"\x00"',
        b'"a"b"',
        rb'"\uD83D\u"',
    ],
)
def test_what_is_no_json_string_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError):
        decode_string(text)


@given(JSON)
def test_a_value_that_python_wrote_passes(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert check_value(b" \t" + text.encode() + b"\r\n ") == text.encode()


@given(JSON, st.data())
def test_a_damaged_value_passes_only_where_python_reads_it(
    value: object, data: st.DataObject
) -> None:
    text = bytearray(json.dumps(value).encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place : place + data.draw(st.integers(0, 1))] = data.draw(
        st.binary(max_size=1)
        | st.sampled_from([b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"0"])
    )
    assert accepts(bytes(text)) == python_accepts(bytes(text))


ALPHABET = st.lists(
    st.sampled_from(
        [
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b'"a"',
            b"1",
            b"-",
            b".",
            b"e",
            b"0",
            b" ",
            b"null",
            b"true",
            b"fals",
            b"+",
            b"\n",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(ALPHABET)
def test_any_text_passes_exactly_when_python_reads_it(text: bytes) -> None:
    assert accepts(text) == python_accepts(text)


def accepts(text: bytes) -> bool:
    try:
        check_value(text)
    except UsageError:
        return False
    return True


def python_accepts(text: bytes) -> bool:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return not re.match(rb"\xef\xbb\xbf", text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"1 2",
        b"01",
        b"-",
        b"1.",
        b".5",
        b"1e",
        b"1e+",
        b"+1",
        b"0x1",
        b"1_0",
        b"NaN",
        b"Infinity",
        b"nul",
        b"nulll",
        b"True",
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[,1]",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b"{1:2}",
        b"{a:1}",
        b"{'a':1}",
        b"[1}",
        b'{"a":1]',
        b"]",
        b"}",
        b"[1]]",
        b'{"a" 1}',
        b'{"a":}',
        b"{,}",
        b"//c\n1",
        b"\xef\xbb\xbf1",
        b"[1 2]",
        b'{"a":1 "b":2}',
        b"{}{}",
        b"[[]",
    ],
)
def test_what_is_no_json_value_is_refused(text: bytes) -> None:
    assert not accepts(text)


def test_depth_is_bounded() -> None:
    most = jsontext.DEPTH_MAX
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        assert accepts(opening * most + b"1" + closing * most)
        with pytest.raises(UsageError, match="nested too deep"):
            check_value(opening * (most + 1) + b"1" + closing * (most + 1))
        with pytest.raises(UsageError, match="nested too deep"):
            check_value(opening * 1_000_000)


def test_many_siblings_are_not_deep() -> None:
    assert accepts(b"[" + b"[],{}," * 1000 + b"[[]]]")


def test_a_huge_number_is_refused() -> None:
    most = jsontext.NUMBER_BYTES_MAX
    assert accepts(b"9" * most)
    for text in (b"9" * (most + 1), b"1." + b"0" * most, b"1e" + b"0" * most):
        with pytest.raises(UsageError, match="number is too long"):
            check_value(text)


@pytest.mark.parametrize(
    "spelling", [b"@type", rb"\u0040type", rb"@\u0074ype", rb"\u0040\u0074\u0079\u0070\u0065"]
)
def test_a_member_that_names_a_class_is_found(spelling: bytes) -> None:
    member = b'"' + spelling + b'":"com.x.Y"'
    assert names_a_type(b"{" + member + b"}")
    assert names_a_type(b'[1,{"a":{"b":2,' + member + b"}}]")


@pytest.mark.parametrize(
    "text",
    [
        b'"@type"',
        b'["@type"]',
        b'{"a":"@type"}',
        b'{"@typ":1}',
        b'{"type":1}',
        b"1",
        rb'{"\u0041type":1}',
    ],
)
def test_a_text_that_reads_so_is_no_such_member(text: bytes) -> None:
    assert not names_a_type(text)


@pytest.mark.parametrize(
    ("json", "left"),
    [
        (b'{"class":"a.B"}', b"{}"),
        (b'{"class":"a.B","x":1}', b'{"x":1}'),
        (b'{"x":1 , "class" : "a.B" }', b'{"x":1  }'),
        (b'{"x":1,"class":"a","class":"b"}', b'{"x":1}'),
        (b'[{"class":"a\\"}","y":{"class":"c","z":["class"]}}]', b'[{"y":{"z":["class"]}}]'),
        (b'{"class":1,"a":"class","classes":"x"}', b'{"class":1,"a":"class","classes":"x"}'),
        (b'"class"', b'"class"'),
    ],
)
def test_members_that_name_a_class_are_left_out(json: bytes, left: bytes) -> None:
    assert without_class(json) == left


@pytest.mark.parametrize("json", [b"1x", b"{} {}", b'"a"b', b"1meter=1", b"[]]"])
def test_what_follows_a_value_is_no_part_of_json(json: bytes) -> None:
    with pytest.raises(UsageError):
        names_a_type(json)
