"""Form bodies: decoding, known fields in any order, malformed input, and a round trip."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import ProtocolError
from dragoman.wire.http1.form import encode_form, is_utf8, known_fields, parse_form, raw_field

NAMES = (b"interface", b"method", b"parameterTypesString", b"parameter")
CONTEST = (
    b"interface=com.alibaba.dubbo.performance.demo.provider.IHelloService&method=hash"
    b"&parameterTypesString=Ljava%2Flang%2FString%3B&parameter=a%26b+c"
)


def test_the_contest_form_is_read() -> None:
    assert known_fields(CONTEST, NAMES) == (
        b"com.alibaba.dubbo.performance.demo.provider.IHelloService",
        b"hash",
        b"Ljava/lang/String;",
        b"a&b c",
    )


def test_fields_come_in_any_order_and_unknown_ones_are_passed_over() -> None:
    body = b"x=1&parameter=p&x=2&method=m&&y&interface=i&"
    assert known_fields(body, NAMES) == (b"i", b"m", None, b"p")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", []),
        (b"&", []),
        (b"a", [(b"a", b"")]),
        (b"a=", [(b"a", b"")]),
        (b"=a", [(b"", b"a")]),
        (b"=", [(b"", b"")]),
        (b"a=b=c", [(b"a", b"b=c")]),
        (b"a=1&a=2", [(b"a", b"1"), (b"a", b"2")]),
        (b"a+b=c+d", [(b"a b", b"c d")]),
        (b"%61=%62%20%2B", [(b"a", b"b +")]),
        (b"a=%c3%BC", [(b"a", "ü".encode())]),
        (b"a=%00", [(b"a", b"\0")]),
        (b"a=;b=c", [(b"a", b";b=c")]),
        (b"a=\xff", [(b"a", b"\xff")]),
    ],
)
def test_a_body_has_these_fields(body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    assert parse_form(body) == fields


@pytest.mark.parametrize("escape", [b"%", b"%4", b"%g1", b"%1g", b"%%41", b"a%", b"%-1", b"% 1"])
def test_a_malformed_escape_is_refused(escape: bytes) -> None:
    for body in (b"a=" + escape, escape + b"=a", b"a=b&c=" + escape):
        with pytest.raises(ProtocolError):
            parse_form(body)
    with pytest.raises(ProtocolError):
        known_fields(b"method=" + escape, NAMES)
    with pytest.raises(ProtocolError):
        known_fields(escape + b"=a", NAMES)


def test_a_repeated_known_field_is_refused_also_when_it_is_disguised() -> None:
    for body in (b"method=a&method=a", b"method=a&%6dethod=b", b"%6d%65thod=a&x=1&method="):
        with pytest.raises(ProtocolError, match="repeated"):
            known_fields(body, NAMES)
        with pytest.raises(ProtocolError, match="repeated"):
            raw_field(body, b"method")


def test_a_field_is_found_by_its_decoded_name_and_left_as_it_stands() -> None:
    assert raw_field(CONTEST, b"parameter") == b"a%26b+c"
    assert raw_field(b"%69nterface=a", b"interface") == b"a"
    assert raw_field(b"interface2=a&xinterface=b&Interface=c", b"interface") is None
    assert raw_field(b"", b"interface") is None


def test_too_many_fields_are_refused() -> None:
    body = b"&".join([b"a=b"] * 65)
    with pytest.raises(ProtocolError, match="more than 64"):
        parse_form(body)
    with pytest.raises(ProtocolError, match="more than 64"):
        known_fields(body, NAMES)
    assert len(parse_form(body[4:])) == 64
    assert known_fields(body[4:], NAMES) == (None,) * 4


def test_a_large_value_is_decoded_whole() -> None:
    text = 'ü"\n' * 300_000
    body = encode_form([("parameter", text)])
    assert known_fields(body, NAMES)[3] == text.encode()


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=10))
def test_what_is_encoded_is_decoded(fields: list[tuple[bytes, bytes]]) -> None:
    body = encode_form(fields)
    assert parse_form(body) == fields
    assert body == urlencode(fields).replace("~", "%7E").replace("%2A", "*").encode()


@given(st.text("abc=&%+01 \xff;", max_size=40))
def test_the_standard_library_reads_the_same(text: str) -> None:
    body = text.encode("latin-1")
    try:
        fields = parse_form(body)
    except ProtocolError:
        return
    theirs = parse_qsl(text, keep_blank_values=True, encoding="latin-1")
    assert fields == [(name.encode("latin-1"), value.encode("latin-1")) for name, value in theirs]


@given(st.binary(max_size=40))
def test_utf8_is_what_python_takes(text: bytes) -> None:
    try:
        text.decode("utf-8")
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert is_utf8(text) == valid


EDGES = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1]
EDGES += [0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]


@given(st.lists(st.sampled_from(EDGES), max_size=12).map(bytes))
def test_utf8_at_its_edges_is_what_python_takes(text: bytes) -> None:
    test_utf8_is_what_python_takes.hypothesis.inner_test(text)  # type: ignore[attr-defined]


def test_utf8_refuses_surrogates_long_forms_and_what_is_too_large() -> None:
    assert is_utf8("ü€😀\U0010ffff\ud7ff\ue000".encode())
    for bad in (
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
    ):
        for before in (b"", b"a" * 7, b"a" * 8):
            assert not is_utf8(before + bad)
            assert not is_utf8(before + bad + b"a" * 9)
    assert not is_utf8("ü".encode()[:1])
