"""The strings of hessian2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.errors import UsageError
from dragoman.wire.hessian2 import decode, decode_string, encode, encode_string


@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_a_string_comes_back(text: str) -> None:
    assert decode_string(encode_string(text.encode())) == text.encode()


MIXED = st.text(st.characters(codec="utf-16", exclude_categories=[]), max_size=60)


def as_java_writes(text: str) -> bytes:
    """The text of a chunk: each UTF-16 unit by itself in up to three bytes."""
    units = text.encode("utf-16-be", "surrogatepass")
    return b"".join(
        chr(units[i] << 8 | units[i + 1]).encode("utf-8", "surrogatepass")
        for i in range(0, len(units), 2)
    )


@given(MIXED | st.text("中文é\ud83d\ude00a", max_size=200) | st.text("一二三四五", max_size=100))
def test_text_is_written_as_java_writes_it_and_read_again(text: str) -> None:
    data = encode(text)
    head = 1 if data[0] < 0x20 else 2
    assert data[head:] == as_java_writes(text)
    # Halves that stand side by side are a pair to Java, too.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert decode(data) == whole


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", b"\x00"),
        ("R", b"\x01R"),
        ("é", b"\x01\xc3\xa9"),
        ("a" * 31, b"\x1f" + b"a" * 31),
        ("a" * 32, b"\x30\x20" + b"a" * 32),
        ("a" * 1023, b"\x33\xff" + b"a" * 1023),
        ("a" * 1024, b"S\x04\x00" + b"a" * 1024),
        ("a" * 32769, b"R\x80\x00" + b"a" * 32768 + b"\x01a"),
        ("\U0001f600", b"\x02\xed\xa0\xbd\xed\xb8\x80"),
    ],
)
def test_the_form_is_the_specifications(text: str, encoded: bytes) -> None:
    assert encode_string(text.encode()) == encoded
    assert decode_string(encoded) == text.encode()


@pytest.mark.parametrize("extra", ["", "b", "\U0001f600"])
def test_a_long_string_goes_in_chunks_and_comes_back(extra: str) -> None:
    for length in (32767, 32768, 65535, 65536, 100_000):
        text = ("a" * length + extra).encode()
        assert decode_string(encode_string(text)) == text


def test_a_pair_may_be_cut_between_chunks() -> None:
    assert decode_string(b"R\x00\x01\xed\xa0\xbd\x01\xed\xb8\x80") == "\U0001f600".encode()


def test_four_bytes_are_read_as_two_units() -> None:
    assert decode_string(b"\x02\xf0\x9f\x98\x80") == "\U0001f600".encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x02a",
        b"\x01ab",
        b"N",
        b"\x30",
        b"S\x00",
        b"R\x00\x01a",
        b"\x01\xff",
        b"\x01\xed\xa0\xbd",
        b"\x02\xed\xa0\xbda",
        b"\x01\xed\xb8\x80",
        b"\x01\xf0\x9f\x98\x80",
        b"\x01\xc3",
        b"\x01\xe0\x80\x80",
    ],
)
def test_what_is_no_string_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        decode_string(data)
